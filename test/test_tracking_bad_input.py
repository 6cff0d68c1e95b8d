"""Bad input gets an answer that names it and says what to do, and changes nothing: the stream goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tracking_cases import SIZE, disc, moving_images, small_tracker

from sam2s_ros.tracking import (
    FrameError,
    ImageSizeChangedError,
    PromptError,
    StreamingTracker,
    TooManyObjectsError,
    TrackerConfig,
    TrackState,
    UnknownObjectError,
    UnknownStampError,
)

FRAMES = moving_images(8)

BAD_PROMPTS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing at all": ({}, "the prompt is empty; give a mask, at least one point (a click), or a box"),
    "no points": ({"points": []}, "the prompt is empty"),
    "NaN click": (
        {"points": [[3, 4], [float("nan"), 5]]},
        "point 1 is (nan, 5.0); coordinates must be finite",
    ),
    "infinite click": ({"points": [[float("inf"), 5]]}, "must be finite"),
    "click right of the image": (
        {"points": [[159.6, 5]]},
        "point 0 (159.6, 5) is outside the image of 160 x 90",
    ),
    "click above the image": ({"points": [[5, -0.6]]}, "is outside the image"),
    "points of another shape": ({"points": [[1, 2, 3]]}, "points have shape (1, 3); give [K, 2]"),
    "points that are words": ({"points": [["a", "b"]]}, "points are not numbers"),
    "a label too few": ({"points": [[1, 2], [3, 4]], "labels": [1]}, "labels have shape (1,) for 2 points"),
    "label 2": ({"points": [[1, 2]], "labels": [2]}, "label 2 is neither 1 (on the object) nor 0"),
    "NaN label": ({"points": [[1, 2]], "labels": [float("nan")]}, "label nan is neither"),
    "labels alone": ({"labels": [1]}, "labels were given without points"),
    "33 points": ({"points": [[1, 2]] * 33}, "at most 32"),
    "box without width": ({"box": [10, 10, 10, 20]}, "has no area; give x0 < x1 and y0 < y1"),
    "box inside out": ({"box": [20, 20, 10, 10]}, "has no area"),
    "box with NaN": ({"box": [float("nan"), 0, 5, 5]}, "corners must be finite"),
    "box of three numbers": ({"box": [1, 2, 3]}, "the box has shape (3,); give the four numbers"),
    "box beside the image": ({"box": [170, 10, 200, 20]}, "is outside the image of 160 x 90"),
    "mask of another size": (
        {"mask": np.ones((90, 161), bool)},
        "the mask has shape (90, 161), the image is (90, 160)",
    ),
    "mask of floats": (
        {"mask": np.ones(SIZE, np.float32)},
        "the mask has dtype float32; give bool, or uint8",
    ),
    "empty mask": ({"mask": np.zeros(SIZE, np.uint8)}, "the mask is empty; mark at least one pixel"),
    "mask and clicks": ({"mask": np.ones(SIZE, bool), "points": [[1, 2]]}, "a mask was given beside points"),
}
BAD_FRAMES: dict[str, tuple[Any, str]] = {
    "no array": ([[1, 2, 3]], "the frame is a list; give a numpy array"),
    "grey": (np.zeros((90, 160), np.uint8), "the frame has shape (90, 160); give [H, W, 3]"),
    "four channels": (np.zeros((90, 160, 4), np.uint8), "give [H, W, 3]"),
    "floats": (np.zeros((90, 160, 3), np.float32), "the frame has dtype float32; give uint8"),
    "no rows": (np.zeros((0, 160, 3), np.uint8), "so no pixels"),
}


def tracking(**settings: Any) -> StreamingTracker:
    tracker = small_tracker(**settings)
    for index, frame in enumerate(FRAMES[:3]):
        tracker.step(frame, stamp_ns=100 + index)
        if index == 0:
            tracker.add_object(None, mask=disc(60, 40, 15))
    return tracker


def assert_undisturbed(tracker: StreamingTracker, refused: Callable[[], Any]) -> None:
    """The refused call leaves the tracker as one that never got it."""
    untouched = tracking()
    before = tracker.last_result
    refused()
    assert tracker.last_result is before
    assert [info.id for info in tracker.objects()] == [1]
    assert np.array_equal(tracker.step(FRAMES[3]).logits, untouched.step(FRAMES[3]).logits)
    assert tracker.add_object(None, points=[[5, 5]]) == 2, "no id was used up"


@pytest.mark.parametrize("case", BAD_PROMPTS)
def test_a_bad_prompt_is_refused_and_leaves_no_half_added_object(case: str) -> None:
    arguments, message = BAD_PROMPTS[case]
    tracker = tracking()

    def refused() -> None:
        for frame in (None, FRAMES[5]):
            with pytest.raises(PromptError, match=re.escape(message)):
                tracker.add_object(frame, **arguments)
        with pytest.raises(PromptError, match=re.escape(message)):
            tracker.refine_object(1, **arguments)

    assert_undisturbed(tracker, refused)


def test_a_new_object_needs_a_positive_click_and_a_correction_does_not() -> None:
    tracker = tracking()
    with pytest.raises(PromptError, match="all points have label 0"):
        tracker.add_object(None, points=[[5, 5]], labels=[0])
    tracker.refine_object(1, points=[[5, 5]], labels=[0])


def test_an_engine_that_fails_while_adding_leaves_no_half_added_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = tracking()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    def refused() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(tracker.engine, "memorise", fail)
            with pytest.raises(RuntimeError, match="out of memory"):
                tracker.add_object(None, points=[[5, 5]])

    assert_undisturbed(tracker, refused)


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_a_bad_frame_is_refused_and_the_stream_goes_on(case: str) -> None:
    frame, message = BAD_FRAMES[case]
    tracker = tracking()

    def refused() -> None:
        with pytest.raises(FrameError, match=re.escape(message)):
            tracker.step(frame)
        with pytest.raises(FrameError, match=re.escape(message)):
            tracker.add_object(frame, points=[[1, 1]])

    assert_undisturbed(tracker, refused)


def test_a_prompt_before_the_first_frame_is_refused() -> None:
    with pytest.raises(PromptError, match="no frame has been tracked yet; give frame_rgb, or step"):
        small_tracker().add_object(None, points=[[5, 5]])


def test_one_object_too_many_is_refused_before_the_frame_is_taken() -> None:
    tracker = tracking(max_objects=1)
    with pytest.raises(TooManyObjectsError, match=r"all 1 objects are in use \(ids 1\); remove one"):
        tracker.add_object(FRAMES[4], points=[[5, 5]])
    assert tracker.last_result.frame_index == 2


def test_an_unknown_id_is_refused_with_the_known_ones() -> None:
    tracker = tracking()
    with pytest.raises(UnknownObjectError, match="no object has id 7; the tracked ids are: 1"):
        tracker.refine_object(7, points=[[5, 5]])
    with pytest.raises(UnknownObjectError, match="no object has id 0"):
        tracker.remove_object(0)


def test_an_unknown_stamp_is_refused_with_the_kept_range() -> None:
    tracker = tracking()

    def refused() -> None:
        with pytest.raises(UnknownStampError, match=r"stamp 99 ns; the 3 kept frames span 100 \.\. 102 ns"):
            tracker.add_object(None, points=[[5, 5]], stamp_ns=99)

    assert_undisturbed(tracker, refused)


def test_a_frame_let_go_of_cannot_be_prompted() -> None:
    tracker = small_tracker(kept_frames=2)
    for stamp in range(4):
        tracker.step(FRAMES[stamp], stamp_ns=stamp)
    with pytest.raises(UnknownStampError, match=r"kept frames span 2 \.\. 3 ns"):
        tracker.add_object(None, points=[[5, 5]], stamp_ns=1)


def test_an_object_cannot_be_corrected_on_a_frame_before_it() -> None:
    tracker = tracking()
    tracker.add_object(None, points=[[5, 5]])
    with pytest.raises(PromptError, match="added on a later frame than the one stamped 101 ns"):
        tracker.refine_object(2, points=[[5, 5]], stamp_ns=101)


def test_a_size_change_loses_the_objects_until_a_reset() -> None:
    tracker = tracking()
    other = moving_images(1, (50, 70))[0]
    result = tracker.step(other, stamp_ns=200)
    assert result.states == (TrackState.LOST,)
    assert (
        "changed from 160 x 90 to 70 x 50" in result.needs_reset and "reset the tracker" in result.needs_reset
    )
    assert result.masks.shape == (1, 50, 70) and not result.masks.any()
    assert np.isnan(result.geometry.centroid).all() and np.isnan(result.presence).all()
    assert tracker.step(FRAMES[3]).needs_reset, "also for an image of the first size"
    assert tracker.objects()[0].state == TrackState.LOST
    for prompt in (
        lambda: tracker.add_object(None, points=[[1, 1]]),
        lambda: tracker.refine_object(1, box=[1, 1, 5, 5]),
    ):
        with pytest.raises(ImageSizeChangedError, match="reset the tracker"):
            prompt()
    tracker.reset()
    tracker.add_object(other, points=[[20, 20]])
    assert tracker.step(other).needs_reset == ""


def test_a_prompt_on_an_image_of_another_size_is_refused_and_the_stream_goes_on() -> None:
    tracker = tracking()

    def refused() -> None:
        with pytest.raises(
            ImageSizeChangedError, match="has 70 x 50 pixels, but .* of 160 x 90; give a frame of"
        ):
            tracker.add_object(moving_images(1, (50, 70))[0], points=[[1, 1]])

    assert_undisturbed(tracker, refused)


@pytest.mark.parametrize("stamp", [2**62 + 1, 2**63, -(2**70), 1.5, float("nan"), "x"])
def test_a_stamp_that_is_none_is_refused_and_the_stream_goes_on(stamp: Any) -> None:
    tracker = tracking()
    kept = tracker.kept_stamps_ns()

    def refused() -> None:
        with pytest.raises(FrameError, match="stamp_ns is .*; give nanoseconds"):
            tracker.step(FRAMES[3], stamp)
        assert tracker.kept_stamps_ns() == kept

    assert_undisturbed(tracker, refused)


@pytest.mark.parametrize(
    "settings", [{"max_objects": 2.5}, {"max_objects": "3"}, {"max_objects": True}, {"judge_images": 1}]
)
def test_a_setting_of_another_type_is_refused_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"tracker config: {name} is .*; it must be of type"):
        TrackerConfig(**settings)


def test_a_size_change_without_objects_is_taken_over() -> None:
    tracker = small_tracker()
    tracker.step(FRAMES[0])
    assert tracker.step(moving_images(1, (50, 70))[0]).needs_reset == ""
    assert len(tracker.kept_stamps_ns()) == 1, "the frames of the old size are gone"


def test_removing_the_last_lost_object_ends_the_need_for_a_reset() -> None:
    tracker = tracking()
    other = moving_images(1, (50, 70))[0]
    tracker.step(other)
    tracker.remove_object(1)
    assert tracker.step(other).needs_reset == ""
