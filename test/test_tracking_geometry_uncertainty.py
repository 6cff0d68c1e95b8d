"""How far centroid, tip, axis and box may be off, held against shapes whose boundary is off by known noise."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_scenes import CELLS, COVERED_95, boundary_model, ellipse, uncertain_logits

from sam2s_ros.tracking.boundary import find_boundary
from sam2s_ros.tracking.geometry import MaskGeometry, measure
from sam2s_ros.tracking.geometry_uncertainty import with_subpixel_box, with_uncertainty
from sam2s_ros.tracking.masks import MaskUpsampler

SIZE = (256, 256)
COUNT = 60
DEVIATION = 2.0


def geometry_of(logits: np.ndarray, iou: float = 1.0) -> MaskGeometry:
    runs = MaskUpsampler(CELLS, SIZE)(logits)
    boundary = find_boundary(logits, SIZE)
    given = np.zeros(len(logits), dtype=bool)
    geometry = with_subpixel_box(measure(runs), boundary, SIZE, given)
    quality = np.full(len(logits), iou, np.float32)
    return with_uncertainty(geometry, boundary, quality, SIZE, boundary_model(SIZE))


@pytest.fixture(scope="module")
def shown() -> tuple[MaskGeometry, MaskGeometry]:
    """Ellipses as they are, and as masks show them whose boundary lies 2 px off, independently every so often."""
    rng = np.random.default_rng(1)
    distances = [
        ellipse(rng.uniform(110, 146, 2), np.array([60.0, 26.0]), rng.uniform(0, np.pi), SIZE)
        for _ in range(COUNT)
    ]
    exact = np.stack([uncertain_logits(one, 1e-3, rng) for one in distances])
    noisy = np.stack([uncertain_logits(one, DEVIATION, rng) for one in distances])
    return geometry_of(exact), geometry_of(noisy)


def test_the_centroid_s_covariance_covers_its_error(shown: tuple[MaskGeometry, MaskGeometry]) -> None:
    """95 % of 60 are 57."""
    exact, noisy = shown
    off = (noisy.centroid - exact.centroid).astype(float)
    spread = noisy.centroid_covariance.astype(float)
    distance = np.einsum("ni,nij,nj->n", off, np.linalg.inv(spread), off)
    assert (distance <= COVERED_95[2]).sum() >= 51
    assert np.median(distance) > 0.4  # 1.4 for a covariance that is exact


def test_the_axis_and_the_box_are_as_sure_as_they_say(shown: tuple[MaskGeometry, MaskGeometry]) -> None:
    exact, noisy = shown
    turn = np.abs(np.sum(exact.axis * noisy.axis, axis=1)).clip(0, 1)
    assert (np.arccos(turn) ** 2 <= COVERED_95[1] * noisy.axis_angle_variance).sum() >= 51
    sides = (exact.box - noisy.box) ** 2 <= COVERED_95[1] * noisy.box_variance
    assert sides.mean() >= 0.85


def test_the_box_is_known_between_pixels() -> None:
    """Its sides move with an ellipse that moves by a tenth of a pixel."""
    rng = np.random.default_rng(0)
    boxes = [
        geometry_of(
            uncertain_logits(
                ellipse(np.array([128 + shift, 128.0]), np.array([50.0, 30.0]), 0.0, SIZE), 1e-3, rng
            )[None]
        ).box[0]
        for shift in np.arange(0, 1, 0.1)
    ]
    moved = np.diff(np.array(boxes), axis=0)
    assert moved[:, [0, 2]].sum(axis=0) == pytest.approx([0.9, 0.9], abs=0.3)
    assert np.abs(moved[:, [1, 3]]).max() < 0.05
    assert len(np.unique(np.array(boxes)[:, 0])) > 4


def test_a_lower_predicted_iou_makes_every_measure_less_sure() -> None:
    rng = np.random.default_rng(2)
    logits = uncertain_logits(ellipse(np.array([128.0, 120]), np.array([60.0, 26.0]), 0.4, SIZE), 2.0, rng)[
        None
    ]
    sure, unsure = geometry_of(logits, 0.98), geometry_of(logits, 0.7)
    for name in ("centroid_covariance", "tip_covariance"):
        assert np.trace(getattr(unsure, name)[0]) > 2 * np.trace(getattr(sure, name)[0])
    assert (unsure.box_variance > sure.box_variance).all()
    assert (unsure.axis_angle_variance > sure.axis_angle_variance).all()


def test_an_empty_mask_has_no_uncertainty() -> None:
    geometry = geometry_of(np.full((1, CELLS, CELLS), -9.0, np.float32))
    assert np.isnan(geometry.centroid_covariance).all() and np.isnan(geometry.box_variance).all()
