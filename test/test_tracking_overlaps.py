"""Two objects that share their pixels: measured, and both doubted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tracking_cases import disc, moving_images, small_network, small_tracker

from sam2s_ros.engines import DecodeResult, create_engine
from sam2s_ros.tracking import StreamingTracker, TrackerConfig, TrackState
from sam2s_ros.tracking.class_memory import KnownClasses
from sam2s_ros.tracking.overlaps import FRESH_FRAMES, LEAST_ODDS, losing_twins, nearest_twins, pairwise_iou

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
    ("odds", "fresh", "lost"),
    [
        (LEAST_ODDS, [False, False], [False, True]),
        (-LEAST_ODDS, [False, False], [True, False]),
        (0.99 * LEAST_ODDS, [False, False], [False, False]),  # their classes do not tell
        (-5.0, [True, False], [False, True]),  # who was prompted just now stays
        (-5.0, [True, True], [False, False]),  # somebody has just looked at both
    ],
)
def test_of_two_twins_the_less_likely_is_out_of_view(
    odds: float, fresh: list[bool], lost: list[bool]
) -> None:
    iou, pairs = np.array([[0, 0.7], [0.7, 0]]), np.array([[0, odds], [-odds, 0]])
    assert losing_twins(iou, pairs, np.array(fresh), 0.6).tolist() == lost
    assert not losing_twins(iou, pairs, np.array(fresh), 0.7).any(), "only above the threshold"


def test_of_three_that_are_each_less_likely_than_another_one_is_left() -> None:
    iou = np.ones((3, 3)) - np.eye(3)
    odds = np.array([[0.0, 1.0, -2.0], [-1.0, 0.0, 1.5], [2.0, -1.5, 0.0]])
    assert losing_twins(iou, odds, np.zeros(3, np.bool_), 0.6).tolist() == [True, False, True]


def test_of_many_twins_one_is_left() -> None:
    """And an object that is apart is not touched."""
    iou, fit = np.zeros((4, 4)), np.array([0.7, 0.9, 0.5, 0.1])
    iou[:3, :3] = 0.9
    lost = losing_twins(iou, np.log(fit[:, None] / fit) * 2, np.zeros(4, np.bool_), 0.6)
    assert lost.tolist() == [True, False, True, False]


CLASSES = KnownClasses(("grasper", "hook", "suction"), np.eye(3, dtype=np.float32))


class Puppet:
    """Has an engine answer with masks and classes made by hand, by row: how much a mask looks like each class."""

    def __init__(self, tracker: StreamingTracker, masks: list[NDArray[np.bool_]], looks: list[Look]) -> None:
        self.masks, self.looks = masks, looks
        self.marked: list[list[int]] = []
        self.asked: list[list[int]] = []
        engine, side = tracker.engine, tracker.engine.mask_size
        mark = engine.mark_absent

        def decode(rows: NDArray[np.int64], _: int, __: Any, asked: NDArray[np.bool_]) -> DecodeResult:
            self.asked.append(rows[asked].tolist())
            small = [
                cv2.resize(self.masks[row].astype(np.float32), (side, side)) > 0.5 for row in rows.tolist()
            ]
            looks = np.array([self.looks[row] for row in rows.tolist()], np.float32)
            return DecodeResult(
                np.where(small, 5.0, -5.0).astype(np.float32),
                np.full(len(rows), 0.9, np.float32),
                np.full(len(rows), 3, np.float32),
                np.where(asked[:, None], looks, np.float32(np.nan)),
            )

        def mark_absent(rows: NDArray[np.int64], frame_slot: int) -> None:
            self.marked.append(rows.tolist())
            mark(rows, frame_slot)

        engine.decode, engine.mark_absent = decode, mark_absent  # type: ignore[method-assign]


Look = tuple[float, float, float]
GRASPER, HOOK, EITHER = (0.9, 0.1, 0.0), (0.1, 0.9, 0.0), (0.5, 0.5, 0.0)
LEFT, RIGHT = disc(40, 40, 15), disc(110, 40, 15)


def tracker_with_classes(**settings: Any) -> StreamingTracker:
    config = TrackerConfig(
        **{
            "drop_stray_components": False,
            "max_objects": 4,
            "class_scale": 2.0,
            "recover_frames": 1,
            **WITHIN,
        }
        | {"drop_twins": True, **settings}
    )
    return StreamingTracker(
        create_engine("eager", small_network(), config.engine_capacity()), config, CLASSES
    )


def begun(looks: list[Look], **settings: Any) -> tuple[StreamingTracker, Puppet, Iterator[NDArray[np.uint8]]]:
    """A grasper on the left and something else on the right, known long enough; the frames that follow."""
    frames = iter(moving_images(2 * FRESH_FRAMES + 12))
    tracker = tracker_with_classes(**settings)
    tracker.add_object(next(frames), mask=LEFT)
    tracker.add_object(None, mask=RIGHT)
    puppet = Puppet(tracker, [LEFT, RIGHT], looks)
    for _ in range(FRESH_FRAMES + 1):
        assert tracker.step(next(frames)).states == (TrackState.TRACKING, TrackState.TRACKING)
    return tracker, puppet, frames


def test_the_twin_of_another_class_is_out_of_view_until_they_part() -> None:
    """It is OCCLUDED with the reason, the other goes on; the engine remembers it as absent; then it may come back."""
    tracker, puppet, frames = begun([GRASPER, HOOK])
    puppet.masks[1], puppet.looks[1] = disc(42, 40, 15), GRASPER
    first = tracker.objects()[0].id
    tracker.step(next(frames))  # whose mask is contested is asked from the next frame on, if not in turn now
    seen_before = tracker.objects()[1].last_seen_ns
    twins = tracker.step(next(frames))
    assert twins.states[1] == TrackState.OCCLUDED
    assert twins.masks[0].any() and not twins.masks[1].any() and twins.presence[1] < 0.5
    assert np.isnan(twins.geometry.centroid[1]).all()
    assert f"its mask is that of object {first}" in twins.state_reasons[1]
    assert puppet.marked[-1] == [1] and tracker.objects()[1].last_seen_ns == seen_before
    assert tracker.step(next(frames)).states == (TrackState.TRACKING, TrackState.OCCLUDED)
    puppet.looks = [HOOK, HOOK]
    assert [mask.any() for mask in tracker.step(next(frames)).masks] == [False, True]
    puppet.masks[1] = RIGHT
    assert tracker.step(next(frames)).masks.any(axis=(1, 2)).all()
    assert tracker.step(next(frames)).states == (TrackState.TRACKING, TrackState.TRACKING)


def test_whose_mask_is_contested_is_asked_for_its_class_in_every_frame() -> None:
    """So that the judgement needs no more than one frame, however seldom classes are read else."""
    tracker, puppet, frames = begun([GRASPER, HOOK], class_interval=100)
    assert puppet.asked[-1] == []
    puppet.masks[1], puppet.looks[1] = disc(42, 40, 15), GRASPER
    for _ in range(4):
        tracker.step(next(frames))
    assert puppet.asked[-4:] == [[]] + [[0, 1]] * 3 and puppet.marked == [[1]] * 3
    puppet.masks[1] = RIGHT
    for _ in range(2):
        tracker.step(next(frames))
    assert puppet.asked[-2:] == [[0, 1], []]


@pytest.mark.parametrize(
    ("looks", "there"),
    [([GRASPER, GRASPER], GRASPER), ([GRASPER, HOOK], EITHER)],
    ids=["one class", "unclear"],
)
def test_twins_whose_classes_do_not_tell_are_both_shown_and_doubted(looks: list[Look], there: Look) -> None:
    tracker, puppet, frames = begun(looks)
    puppet.masks[1], puppet.looks = disc(42, 40, 15), [there, there]
    for _ in range(6):
        result = tracker.step(next(frames))
        assert result.masks.any(axis=(1, 2)).all() and result.states == (TrackState.UNCERTAIN,) * 2
    assert puppet.marked == []


def test_what_was_prompted_just_now_is_not_taken_away() -> None:
    """Whatever its class: the other goes, for as long as the prompt is recent."""
    tracker, puppet, frames = begun([GRASPER, HOOK])
    puppet.masks.append(disc(41, 40, 15))
    puppet.looks.append(GRASPER)
    puppet.looks[0] = HOOK  # the mask on the left, that of a grasper, comes to look like a hook
    tracker.add_object(None, mask=disc(41, 40, 15))
    puppet.looks[2] = HOOK
    shown = [[bool(mask.any()) for mask in tracker.step(next(frames)).masks] for _ in range(FRESH_FRAMES)]
    assert shown == [[False, True, True]] * FRESH_FRAMES


def test_a_network_without_classes_drops_no_twin() -> None:
    """Nor where one of them was prompted just now."""
    frames = moving_images(3 * FRESH_FRAMES)
    tracker = small_tracker(**WITHIN, drop_twins=True)
    tracker.add_object(frames[0], mask=disc(40, 40, 15))
    shared = 0
    for number, frame in enumerate(frames[1:], start=1):
        result = tracker.step(frame)
        if number == 2 * FRESH_FRAMES - 5:
            tracker.add_object(None, mask=result.masks[0])
        shared += any("same mask as" in reason for reason in result.state_reasons)
        assert not any("its mask is that of" in reason for reason in result.state_reasons)
    assert shared


def test_left_alone_both_twins_are_shown() -> None:
    frames = moving_images(FRESH_FRAMES + 3)
    tracker = tracker_with_classes(drop_twins=False)
    for x in (40, 41):
        tracker.add_object(frames[0] if x == 40 else None, mask=disc(x, 40, 15))
    puppet = Puppet(tracker, [disc(40, 40, 15), disc(41, 40, 15)], [GRASPER, HOOK])
    for frame in frames[1:]:
        result = tracker.step(frame)
        assert result.masks.any(axis=(1, 2)).all() and result.states == (TrackState.UNCERTAIN,) * 2
    assert puppet.marked == []
