"""Two objects that share their pixels: measured, and both doubted."""

from __future__ import annotations

import numpy as np
import pytest
from tracking_cases import disc, moving_images, small_tracker

from sam2s_ros.tracking import TrackState
from sam2s_ros.tracking.overlaps import nearest_twins, pairwise_iou

WITHIN = {"uncertain_iou": 0.0, "uncertain_boundary": 1000.0, "uncertain_pixels": 1.0, "jump_distance": 10.0}
"""With these nothing but a twin makes an object of the small network UNCERTAIN."""


@pytest.mark.parametrize("size", [(16, 16), (13, 11)])
def test_overlaps_are_those_counted_pixel_by_pixel(size: tuple[int, int]) -> None:
    """Also of masks whose pixels do not fill whole bytes, of equal and of empty ones."""
    rng = np.random.default_rng(3)
    masks = rng.random((6, *size)) < rng.random((6, 1, 1))
    masks[4], masks[5] = masks[0], False
    expected = np.array([[(a & b).sum() / max((a | b).sum(), 1) for b in masks] for a in masks])
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(pairwise_iou(masks), expected, rtol=1e-12)
    iou, whose = nearest_twins(np.where(masks, 1.0, -1.0).astype(np.float32))
    np.testing.assert_allclose(iou, expected.max(axis=1))
    assert (whose[0], whose[4]) == (4, 0) and iou[5] == 0


@pytest.mark.parametrize("count", [0, 1])
def test_one_object_has_no_twin(count: int) -> None:
    assert nearest_twins(np.ones((count, 8, 8), np.float32))[0].tolist() == [0.0] * count
    assert pairwise_iou(np.ones((count, 8, 8), np.bool_)).shape == (count, count)


def test_objects_with_the_same_mask_are_both_uncertain_and_say_of_whom() -> None:
    """Whichever of the two is right: until one moves away, or is removed."""
    tracker = small_tracker(**WITHIN)
    image = moving_images(1)[0]
    first = tracker.add_object(image, mask=disc(60, 40, 20))
    apart = tracker.add_object(None, mask=disc(120, 60, 15))
    twin = tracker.add_object(None, mask=disc(61, 40, 20))
    result = tracker.last_result
    assert result is not None and result.ids.tolist() == [first, apart, twin]
    assert result.states == (TrackState.UNCERTAIN, TrackState.TRACKING, TrackState.UNCERTAIN)
    reasons = result.state_reasons
    assert f"same mask as object {twin}" in reasons[0] and f"same mask as object {first}" in reasons[2]
    tracker.refine_object(twin, mask=disc(90, 20, 12))
    assert tracker.last_result is not None
    assert tracker.last_result.states[2] == TrackState.TRACKING


def test_how_much_two_may_share_is_a_setting() -> None:
    """IoU 0.6 and more as shipped; 1 leaves even equal masks alone."""
    image = moving_images(1)[0]
    for threshold, shift, expected in (
        (0.6, 9, TrackState.TRACKING),
        (0.3, 9, TrackState.UNCERTAIN),
        (1.0, 0, TrackState.TRACKING),
    ):
        tracker = small_tracker(**WITHIN, uncertain_twin=threshold)
        tracker.add_object(image, mask=disc(60, 40, 20))
        tracker.add_object(None, mask=disc(60 + shift, 40, 20))
        assert tracker.last_result is not None
        assert tracker.last_result.states == (expected, expected), (threshold, shift)
