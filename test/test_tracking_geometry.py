"""Mask geometry: known shapes have known measures, and what cannot be told is NaN."""

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sam2s_ros.tracking.geometry import TIP_DEPTH_PX, MaskGeometry, measure
from sam2s_ros.tracking.runs import MaskRuns

SIZE = (200, 300)


def measured(mask: NDArray[np.bool_]) -> MaskGeometry:
    return measure(MaskRuns.of_masks(mask[None]))


def shaft(start: tuple[int, int], end: tuple[int, int], width: int = 9) -> NDArray[np.bool_]:
    """A straight instrument from start to end, x, y."""
    return cv2.line(np.zeros(SIZE, dtype=np.uint8), start, end, 1, width).astype(bool)


def test_a_rectangle_has_its_centroid_box_and_area_in_pixel_centres() -> None:
    mask = np.zeros(SIZE, dtype=bool)
    mask[40:60, 100:181] = True
    geometry = measured(mask)
    assert geometry.centroid[0].tolist() == [140, 49.5]
    assert geometry.box[0].tolist() == [100, 40, 180, 59]
    assert geometry.area[0] == 20 * 81
    assert np.abs(geometry.axis[0]).tolist() == pytest.approx([1, 0], abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 3), (9, 12), (40, 30)])
def test_area_centroid_box_and_spread_are_those_of_the_pixels(seed: int, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask[0, 0] = True
    pixels = np.argwhere(mask)[:, ::-1].astype(np.float64)
    geometry = measured(mask)
    assert geometry.area[0] == len(pixels)
    np.testing.assert_allclose(geometry.centroid[0], pixels.mean(axis=0), atol=1e-5)
    assert geometry.box[0].tolist() == [*pixels.min(axis=0), *pixels.max(axis=0)]
    expected = np.cov(pixels.T, bias=True) if len(pixels) > 1 else np.zeros((2, 2))
    np.testing.assert_allclose(geometry.spread[0], expected, atol=1e-5)


def test_masks_measured_together_have_the_measures_that_they_have_alone() -> None:
    """Among them empty ones, one without an axis, and one that touches no border."""
    round_one = cv2.circle(np.zeros(SIZE, dtype=np.uint8), (150, 100), 30, 1, -1).astype(bool)
    nothing = np.zeros(SIZE, dtype=bool)
    masks = [nothing, shaft((0, 20), (150, 120)), round_one, nothing, shaft((30, 100), (170, 105)), nothing]
    together = measure(MaskRuns.of_masks(np.stack(masks)))
    for field in fields(MaskGeometry):
        alone = np.concatenate([getattr(measured(mask), field.name) for mask in masks])
        np.testing.assert_allclose(getattr(together, field.name), alone, rtol=1e-6, err_msg=field.name)


@pytest.mark.parametrize("seed", range(20))
def test_the_ends_are_those_of_the_pixels(seed: int) -> None:
    """The outermost pixels along the axis, and the mean of those within a pixel of them."""
    rng = np.random.default_rng(seed)
    start, end = (tuple(int(one) for one in rng.integers((0, 0), (300, 200))) for _ in range(2))
    mask = shaft(start, end, int(rng.integers(1, 12)))
    pixels = np.argwhere(mask)[:, ::-1]
    geometry = measured(mask)
    if np.isnan(geometry.axis).any():
        pytest.skip("about as wide as long")
    reach = pixels @ geometry.axis[0].astype(np.float64)
    assert geometry.axis_length[0] == pytest.approx(np.ptp(reach), abs=1e-3)
    tip = pixels[reach >= reach.max() - TIP_DEPTH_PX - 1e-4].mean(axis=0)
    least = pixels[reach >= reach.max() - TIP_DEPTH_PX + 1e-4].mean(axis=0)
    assert (np.abs(geometry.tip[0] - tip) < 1e-3).all() or (np.abs(geometry.tip[0] - least) < 1e-3).all()


@pytest.mark.parametrize(
    ("entry", "tip"),
    [((0, 20), (150, 120)), ((299, 30), (140, 100)), ((150, 199), (130, 60)), ((60, 0), (90, 150))],
)
def test_the_tip_is_the_end_away_from_where_the_shaft_enters(
    entry: tuple[int, int], tip: tuple[int, int]
) -> None:
    geometry = measured(shaft(entry, tip))
    assert np.hypot(*(geometry.tip[0] - tip)) <= 6
    along = np.subtract(tip, entry) / np.hypot(*np.subtract(tip, entry))
    assert geometry.axis[0] @ along >= 0.99
    assert np.hypot(*geometry.axis[0]) == pytest.approx(1, abs=1e-6)


def test_a_shaft_that_touches_no_border_enters_at_its_end_nearer_to_one() -> None:
    geometry = measured(shaft((30, 100), (170, 105)))
    assert np.hypot(*(geometry.tip[0] - (170, 105))) <= 6


def test_a_blunt_end_has_its_tip_in_the_middle() -> None:
    mask = np.zeros(SIZE, dtype=bool)
    mask[90:111, 0:201] = True
    assert measured(mask).tip[0].tolist() == pytest.approx([199.5, 100], abs=0.6)


def test_a_round_mask_has_no_axis_and_no_tip() -> None:
    mask = cv2.circle(np.zeros(SIZE, dtype=np.uint8), (150, 100), 30, 1, -1).astype(bool)
    geometry = measured(mask)
    assert geometry.centroid[0].tolist() == pytest.approx([150, 100], abs=1e-3)
    assert np.isnan(geometry.axis).all() and np.isnan(geometry.tip).all()


def test_a_single_pixel_is_measured() -> None:
    mask = np.zeros(SIZE, dtype=bool)
    mask[7, 299] = True
    geometry = measured(mask)
    assert geometry.centroid[0].tolist() == [299, 7]
    assert geometry.box[0].tolist() == [299, 7, 299, 7]
    assert geometry.area[0] == 1


def test_an_empty_mask_has_no_measure_at_all() -> None:
    geometry = measured(np.zeros(SIZE, dtype=bool))
    for name in ("centroid", "box", "area", "axis", "tip"):
        assert np.isnan(getattr(geometry, name)).all()
