"""The decoder's probability as uncertainty: per pixel, of a mask, and as the width of the boundary."""

from __future__ import annotations

import numpy as np
import pytest
from tracking_cases import moving_images, small_tracker

from sam2s_ros.nodes.result_publisher import paint_uncertainty
from sam2s_ros.tracking.boundary import find_boundary
from sam2s_ros.tracking.uncertainty import image_uncertainty, mask_uncertainty, pixel_uncertainty


def disc(slope: float, cells: int = 64, radius: float = 20.0) -> np.ndarray:
    """Logits [1, cells, cells] of a disc, falling by `slope` for each cell away from its centre."""
    y, x = np.mgrid[:cells, :cells] - (cells - 1) / 2
    return (slope * (radius - np.hypot(x, y))).astype(np.float32)[None]


def test_a_pixel_is_undecided_at_probability_a_half_and_sure_at_both_ends() -> None:
    values = pixel_uncertainty(np.array([0.0, np.log(3.0), -np.log(3.0), 50.0, -1024.0], np.float32))
    assert values == pytest.approx([1.0, 0.5, 0.5, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("slope", [0.5, 2.0])
@pytest.mark.parametrize("scale", [(1, 1), (4, 4), (11.25, 20)])
def test_the_boundary_is_as_wide_as_the_logits_are_flat(slope: float, scale: tuple[float, float]) -> None:
    """From probability 0.1 to 0.9, in pixels of the image, whose sides may be stretched differently."""
    size = (round(64 * scale[0]), round(64 * scale[1]))
    (width,) = find_boundary(disc(slope), size).median_width()
    exact = 2 * np.log(9.0) / slope
    assert exact * min(scale) * 0.95 <= width <= exact * max(scale) * 1.05


def test_what_has_no_boundary_has_no_width() -> None:
    nothing = np.full((2, 64, 64), -1024.0, np.float32)
    nothing[1] = 5.0
    assert np.isnan(find_boundary(nothing, (64, 64)).median_width()).all()
    assert np.isnan(mask_uncertainty(nothing)[0]) and mask_uncertainty(nothing)[1] < 0.02


def test_a_flatter_mask_is_less_certain() -> None:
    flat, steep = mask_uncertainty(disc(0.2)), mask_uncertainty(disc(2.0))
    assert 0 < steep[0] < flat[0] < 1


def test_the_image_is_least_certain_at_the_boundary() -> None:
    uncertainty = image_uncertainty(disc(1.0), (128, 256))
    assert uncertainty.shape == (1, 128, 256)
    row = uncertainty[0, 64]
    assert row[128] < 0.01 and row[0] < 0.01 and abs(int(row[:128].argmax()) - (128 - 80)) <= 3


def test_every_result_says_how_sure_it_is() -> None:
    tracker = small_tracker()
    first, second = moving_images(2)
    mask = np.zeros(first.shape[:2], bool)
    mask[10:40, 10:40] = True
    tracker.add_object(first, mask=mask)
    tracker.add_object(first, points=np.array([[20.0, 20.0]]), labels=np.array([1]))
    result = tracker.step(second)
    shown = result.masks.any(axis=(1, 2))
    assert np.array_equal(np.isfinite(result.mask_uncertainty), shown)
    assert result.uncertainty.shape == result.masks.shape and result.uncertainty.dtype == np.float32
    image = np.empty(result.image_size, np.uint8)
    paint_uncertainty(image, result)
    assert np.array_equal(image, np.rint(255 * result.uncertainty.max(axis=0)).astype(np.uint8))
    less = result.without(int(result.ids[0]))
    assert len(less.boundary_width) == len(less.mask_uncertainty) == len(less.long_term_insertions) == 1
