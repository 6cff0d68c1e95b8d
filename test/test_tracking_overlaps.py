"""Two objects that share their pixels: measured, and both doubted."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tracking_cases import disc, moving_images, small_tracker

from sam2s_ros.engines import DecodeResult
from sam2s_ros.tracking import StreamingTracker, TrackState
from sam2s_ros.tracking.overlaps import FRESH_FRAMES, losing_twins, nearest_twins, pairwise_iou

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
        tracker = small_tracker(**WITHIN, twin_iou=threshold)
        tracker.add_object(image, mask=disc(60, 40, 20))
        tracker.add_object(None, mask=disc(60 + shift, 40, 20))
        assert tracker.last_result is not None
        assert tracker.last_result.states == (expected, expected), (threshold, shift)


@pytest.mark.parametrize(
    ("sure", "fresh", "lost"),
    [
        ([0.9, 0.8], [False, False], [False, True]),
        ([0.8, 0.9], [False, False], [True, False]),
        ([0.8, 0.8], [False, False], [False, True]),  # the later one
        ([0.8, 0.9], [True, False], [False, True]),  # who was prompted just now stays
        ([0.8, 0.9], [True, True], [False, False]),  # somebody has just looked at both
    ],
)
def test_of_two_twins_the_less_sure_is_out_of_view(
    sure: list[float], fresh: list[bool], lost: list[bool]
) -> None:
    iou = np.array([[0, 0.7], [0.7, 0]])
    found = losing_twins(iou, np.array(sure), np.array(fresh), 0.6)
    assert found.tolist() == lost
    assert not losing_twins(iou, np.array(sure), np.array(fresh), 0.7).any(), "only above the threshold"


def test_of_many_twins_one_is_left() -> None:
    """And an object that is apart is not touched."""
    iou = np.zeros((4, 4))
    iou[:3, :3] = 0.9
    lost = losing_twins(iou, np.array([0.7, 0.9, 0.8, 0.1]), np.zeros(4, np.bool_), 0.6)
    assert lost.tolist() == [True, False, True, False]


class Puppet:
    """Has an engine answer with masks and predicted IoUs made by hand, by row."""

    def __init__(self, tracker: StreamingTracker) -> None:
        self.masks: dict[int, NDArray[np.bool_]] = {}
        self.iou: dict[int, float] = {}
        self.marked: list[list[int]] = []
        engine, side = tracker.engine, tracker.engine.mask_size
        mark = engine.mark_absent

        def decode(rows: NDArray[np.int64], *_: Any) -> DecodeResult:
            small = [
                cv2.resize(self.masks[row].astype(np.float32), (side, side)) > 0.5 for row in rows.tolist()
            ]
            iou = np.array([self.iou[row] for row in rows.tolist()], np.float32)
            return DecodeResult(
                np.where(small, 5.0, -5.0).astype(np.float32), iou, np.full(len(rows), 3, np.float32)
            )

        def mark_absent(rows: NDArray[np.int64], frame_slot: int) -> None:
            self.marked.append(rows.tolist())
            mark(rows, frame_slot)

        engine.decode, engine.mark_absent = decode, mark_absent  # type: ignore[method-assign]


def test_the_less_sure_twin_is_out_of_view_until_they_part() -> None:
    """It is OCCLUDED with the reason, the other goes on; the engine remembers it as absent; then it may come back."""
    frames = moving_images(FRESH_FRAMES + 8)
    tracker = small_tracker(**WITHIN, drop_twins=True, recover_frames=1)
    first = tracker.add_object(frames[0], mask=disc(40, 40, 15))
    tracker.add_object(None, mask=disc(110, 40, 15))
    puppet = Puppet(tracker)
    puppet.masks, puppet.iou = {0: disc(40, 40, 15), 1: disc(110, 40, 15)}, {0: 0.9, 1: 0.8}
    for frame in frames[1 : FRESH_FRAMES + 2]:
        assert tracker.step(frame).states == (TrackState.TRACKING, TrackState.TRACKING)
    puppet.masks[1] = disc(42, 40, 15)
    seen_before = tracker.objects()[1].last_seen_ns
    twins = tracker.step(frames[FRESH_FRAMES + 2])
    assert twins.states == (TrackState.TRACKING, TrackState.OCCLUDED)
    assert twins.masks[0].any() and not twins.masks[1].any() and twins.presence[1] < 0.5
    assert np.isnan(twins.geometry.centroid[1]).all()
    assert f"its mask is that of object {first}" in twins.state_reasons[1]
    assert puppet.marked == [[1]] and tracker.objects()[1].last_seen_ns == seen_before
    puppet.iou[1] = 0.95
    assert [mask.any() for mask in tracker.step(frames[FRESH_FRAMES + 3]).masks] == [False, True]
    puppet.masks[1] = disc(110, 40, 15)
    assert tracker.step(frames[FRESH_FRAMES + 4]).states == (TrackState.TRACKING, TrackState.TRACKING)
    assert puppet.marked == [[1], [0]]


def test_what_was_prompted_just_now_is_not_taken_away() -> None:
    """Whatever the network thinks of the mask; once the prompt is old, it is judged as any other."""
    frames = moving_images(2 * FRESH_FRAMES + 8)
    tracker = small_tracker(**WITHIN, drop_twins=True, recover_frames=1)
    tracker.add_object(frames[0], mask=disc(40, 40, 15))
    puppet = Puppet(tracker)
    puppet.masks, puppet.iou = {0: disc(40, 40, 15), 1: disc(41, 40, 15)}, {0: 0.9, 1: 0.3}
    for frame in frames[1 : FRESH_FRAMES + 2]:
        tracker.step(frame)
    tracker.add_object(None, mask=disc(41, 40, 15))
    shown = [[mask.any() for mask in tracker.step(frame).masks] for frame in frames[FRESH_FRAMES + 2 :]]
    assert shown[:FRESH_FRAMES] == [[False, True]] * FRESH_FRAMES
    assert shown[FRESH_FRAMES:] == [[True, False]] * (len(shown) - FRESH_FRAMES) and len(shown) > FRESH_FRAMES


def test_an_object_of_which_the_network_never_is_sure_is_left_alone() -> None:
    """Its predicted IoU says nothing of which of the two is the better: both are UNCERTAIN and shown."""
    frames = moving_images(FRESH_FRAMES + 6)
    tracker = small_tracker(**{**WITHIN, "uncertain_iou": 0.6}, drop_twins=True, recover_frames=1)
    tracker.add_object(frames[0], mask=disc(40, 40, 15))
    tracker.add_object(None, mask=disc(110, 40, 15))
    puppet = Puppet(tracker)
    puppet.masks, puppet.iou = {0: disc(40, 40, 15), 1: disc(110, 40, 15)}, {0: 0.9, 1: 0.5}
    for frame in frames[1 : FRESH_FRAMES + 2]:
        tracker.step(frame)
    puppet.masks[1], puppet.iou[1] = disc(42, 40, 15), 0.7
    for frame in frames[FRESH_FRAMES + 2 :]:
        result = tracker.step(frame)
        assert result.masks.any(axis=(1, 2)).all() and result.states == (TrackState.UNCERTAIN,) * 2
    assert puppet.marked == []


def test_left_alone_both_twins_are_shown() -> None:
    frames = moving_images(FRESH_FRAMES + 3)
    tracker = small_tracker(**WITHIN, drop_twins=False)
    for x in (40, 41):
        tracker.add_object(frames[0] if x == 40 else None, mask=disc(x, 40, 15))
    puppet = Puppet(tracker)
    puppet.masks, puppet.iou = {0: disc(40, 40, 15), 1: disc(41, 40, 15)}, {0: 0.9, 1: 0.3}
    for frame in frames[1:]:
        result = tracker.step(frame)
        assert result.masks.any(axis=(1, 2)).all() and result.states == (TrackState.UNCERTAIN,) * 2
    assert puppet.marked == []
