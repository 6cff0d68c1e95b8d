"""Objects prompted on an older frame and brought to now in slices between the steps of the stream."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from tracking_cases import disc, moving_images, small_network, small_tracker

from sam2s_ros.tracking import (
    FrameResult,
    ObjectBehindError,
    StreamingTracker,
    TrackState,
    UnknownStampError,
)

NETWORK = small_network()
FRAMES = moving_images(28)
PROMPTED, ARRIVES = 5, 15
"""The frame that a late prompt refers to, and the one after which it comes."""
MS = 1_000_000
ROUNDING = 5e-6
"""Accepted deviation between batches of another size, relative to the range of the logits."""


def timely() -> list[FrameResult]:
    """An object from the first frame, and a second one prompted in time."""
    tracker, seen = started(), []
    for index in range(1, len(FRAMES)):
        tracker.step(FRAMES[index], index)
        if index == PROMPTED:
            tracker.add_object(None, mask=disc(90, 50, 14))
        seen.append(tracker.last_result)
    return seen


def started() -> StreamingTracker:
    tracker = small_tracker(NETWORK)
    tracker.add_object(FRAMES[0], mask=disc(40, 40, 15), stamp_ns=0)
    return tracker


def late(turns: Callable[[int], int]) -> list[FrameResult]:
    """The same with the second prompt late; `turns` gives the frames to advance by after each step."""
    tracker, seen = started(), []
    for index in range(1, len(FRAMES)):
        tracker.step(FRAMES[index], index)
        if index == ARRIVES:
            tracker.add_object(None, mask=disc(90, 50, 14), stamp_ns=PROMPTED, catch_up=False)
        if index >= ARRIVES:
            tracker.advance(turns(index))
        seen.append(tracker.last_result)
    return seen


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.fixture(scope="module")
def in_time() -> list[FrameResult]:
    return timely()


@pytest.fixture(scope="module")
def alone() -> list[FrameResult]:
    """The first object in a run without the second."""
    tracker = started()
    return [tracker.step(FRAMES[index], index) for index in range(1, len(FRAMES))]


@pytest.mark.parametrize(
    "turns",
    [lambda _: 2, lambda _: 3, lambda index: (0, 5, 1, 4)[index % 4], lambda _: 100],
    ids=["2", "3", "uneven", "at once"],
)
def test_however_it_is_sliced_the_object_joins_as_if_prompted_in_time_and_others_do_not_notice(
    turns: Callable[[int], int], in_time: list[FrameResult], alone: list[FrameResult]
) -> None:
    seen = late(turns)
    joined = 0
    for result, expected, other in zip(seen, in_time, alone, strict=True):
        assert result.stamp_ns == other.stamp_ns, "no frame is left out"
        spread = np.ptp(other.logits[0])
        assert np.abs(result.logits[0] - other.logits[0]).max() <= ROUNDING * spread
        assert iou(result.masks[0], other.masks[0]) >= 0.999
        if len(result.ids) < 2 or result.frames_behind[1]:
            continue
        joined += 1
        assert np.ptp(expected.logits[1]) > 0.5, "the case shows something"
        assert np.abs(result.logits[1] - expected.logits[1]).max() <= ROUNDING * np.ptp(expected.logits[1])
        assert iou(result.masks[1], expected.masks[1]) >= 0.9
    assert joined, "it gains on the stream"


def test_the_same_slices_give_the_same_results() -> None:
    for first, second in zip(late(lambda _: 2), late(lambda _: 2), strict=True):
        assert np.array_equal(first.logits, second.logits)


def test_an_object_on_its_way_shows_nothing_and_says_how_far_it_is_behind() -> None:
    results = late(lambda _: 2)[ARRIVES - 1 :]
    behind = [int(result.frames_behind[1]) for result in results]
    assert behind == [10, 9, 8, 7, 6, 5, 4, 3, 0, 0, 0, 0, 0], "as of the step, until it is there"
    for result in results[: behind.index(0)]:
        assert not result.masks[1].any() and np.isnan(result.presence[1])
        assert result.states[1] == TrackState.UNCERTAIN and "joining" in result.state_reasons[1]
        assert result.frames_behind[0] == 0
    assert results[-1].masks[1].any() and "joining" not in results[-1].state_reasons[1]


def test_a_slice_is_bounded_and_the_prompt_itself_catches_up_through_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = started()
    for index in range(1, 11):
        tracker.step(FRAMES[index], index)
    calls = []
    decode = tracker.engine.decode
    monkeypatch.setattr(tracker.engine, "decode", lambda *a, **k: (calls.append(1), decode(*a, **k))[1])
    added = tracker.add_object(None, mask=disc(90, 50, 14), stamp_ns=4, catch_up=False)
    prompted = tracker.last_prompted
    assert prompted is not None and prompted.stamp_ns == 4
    assert np.array_equal(prompted.masks[0], disc(90, 50, 14)), "its mask is there before it has caught up"
    assert tracker.frames_behind(added) == 6
    calls.clear()
    assert tracker.advance(2) == 4 and len(calls) == 2
    assert tracker.advance(9) == 0 and len(calls) == 6
    assert tracker.advance(9) == 0 and len(calls) == 6


def test_without_slices_the_steps_bring_it_along_before_a_frame_is_lost(in_time: list[FrameResult]) -> None:
    seen = late(lambda index: 100 if index == len(FRAMES) - 1 else 0)
    assert seen[-2].frames_behind[1] == small_tracker(NETWORK).config.kept_frames
    assert seen[-1].frames_behind[1] == 0
    expected = in_time[-1].logits[1]
    assert np.abs(seen[-1].logits[1] - expected).max() <= ROUNDING * np.ptp(expected)


def test_a_late_correction_is_brought_to_now_in_slices() -> None:
    at_once, sliced = started(), started()
    for tracker in (at_once, sliced):
        for index in range(1, 9):
            tracker.step(FRAMES[index], index)
    at_once.refine_object(1, points=[[60, 45]], stamp_ns=3)
    sliced.refine_object(1, points=[[60, 45]], stamp_ns=3, catch_up=False)
    assert sliced.last_result is not None and not sliced.last_result.masks[0].any(), "the old mask is wrong"
    with pytest.raises(ObjectBehindError, match="object 1 is still 5 frames behind the one stamped 8 ns"):
        sliced.refine_object(1, points=[[60, 45]], catch_up=False)
    while sliced.advance(2):
        pass
    assert at_once.last_result is not None and sliced.last_result is not None
    assert np.array_equal(at_once.last_result.logits, sliced.last_result.logits)


def test_a_frame_on_which_the_engine_fails_is_left_out_and_the_object_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = started()
    for index in range(1, 9):
        tracker.step(FRAMES[index], index)
    before = tracker.last_result
    added = tracker.add_object(None, mask=disc(90, 50, 14), stamp_ns=3, catch_up=False)
    with monkeypatch.context() as patch:
        patch.setattr(
            tracker.engine, "attend", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("memory"))
        )
        with pytest.raises(RuntimeError):
            tracker.advance(2)
    assert tracker.frames_behind(added) == 4
    assert tracker.advance(9) == 0
    result = tracker.last_result
    assert before is not None and result is not None and result.masks[1].any()
    assert np.array_equal(result.logits[0], before.logits[0])


def test_an_object_on_its_way_can_be_removed_and_forgotten_by_a_reset() -> None:
    tracker = started()
    for index in range(1, 9):
        tracker.step(FRAMES[index], index)
    added = tracker.add_object(None, mask=disc(90, 50, 14), stamp_ns=3, catch_up=False)
    tracker.remove_object(added)
    assert tracker.advance(3) == 0
    tracker.add_object(None, mask=disc(90, 50, 14), stamp_ns=3, catch_up=False)
    tracker.reset()
    assert tracker.advance(3) == 0 and tracker.objects() == []


def test_an_object_on_its_way_is_taken_back_to_its_first_prompt_at_once() -> None:
    seen = []
    for catch_up in (True, False):
        tracker = started()
        for index in range(1, 9):
            tracker.step(FRAMES[index], index)
        tracker.refine_object(1, points=[[60, 45]], stamp_ns=3, catch_up=catch_up)
        tracker.reset_object(1)
        assert tracker.frames_behind(1) == 0
        seen.append(tracker.step(FRAMES[9], 9))
    assert np.array_equal(seen[0].logits, seen[1].logits) and seen[1].masks[0].any()


def test_a_snapshot_has_of_an_object_on_its_way_what_it_has_come_through() -> None:
    """Not what it was on later frames before it was corrected; of others all."""
    tracker = started()
    tracker.add_object(None, mask=disc(90, 50, 14))
    for index in range(1, 9):
        tracker.step(FRAMES[index], index)
    tracker.refine_object(1, points=[[60, 45]], stamp_ns=3, catch_up=False)
    tracker.advance(2)
    taken = tracker.take_snapshot()
    clocks = taken.facts["memory"]["clocks"]
    first, other = taken.arrays["memory_frames"][:, -len(clocks) :]
    assert clocks == [3, 4, 5, 6, 7, 8] and other.tolist() == clocks
    assert first.tolist() == [-1, 4, 5, -1, -1, -1], "frame 3 is a prompted one now"
    assert taken.arrays["seen.logits"][0].max() < 0 < taken.arrays["seen.logits"][1].max()
    restored = small_tracker(NETWORK)
    restored.restore_snapshot(taken)
    assert restored.frames_behind(1) == 0
    assert restored.step(FRAMES[9], 9).states[0] == TrackState.UNCERTAIN


def test_frames_are_kept_for_milliseconds_and_an_older_stamp_is_refused_with_the_range() -> None:
    tracker = small_tracker(NETWORK, kept_ms=200, kept_frames=8)
    for index in range(8):
        tracker.step(FRAMES[index], index * 50 * MS)
    assert tracker.kept_stamps_ns() == [index * 50 * MS for index in range(3, 8)]
    refusal = r"kept frames span 150000000 \.\. 350000000 ns, 50 ms after it: they go back kept_ms = 200"
    with pytest.raises(UnknownStampError, match=refusal):
        tracker.add_object(None, points=[[5, 5]], stamp_ns=100 * MS)
    with pytest.raises(UnknownStampError, match=r"span 150000000 \.\. 350000000 ns\. Name"):
        tracker.add_object(None, points=[[5, 5]], stamp_ns=175 * MS)
    tracker.step(FRAMES[8], 900 * MS)
    assert tracker.kept_stamps_ns() == [900 * MS], "a pause of the stream ages them all"
