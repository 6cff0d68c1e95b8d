"""The tracker on images that show nothing: it learns nothing from them and says so of every object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tracking_cases import SIZE, disc, moving_images, small_network, small_tracker

from sam2s_ros.engines.base import MemoryRead
from sam2s_ros.tracking import ImageCondition, StreamingTracker, TrackState

FRAMES = moving_images(14)
NOTHING = np.zeros((*SIZE, 3), np.uint8)
WITHIN = {
    "uncertain_iou": 0.0,
    "uncertain_boundary": 1000.0,
    "uncertain_pixels": 1.0,
    "twin_iou": 1.0,
    "jump_distance": 10.0,
}
"""With random weights no mask deserves trust: what is tested here is what the image does to it."""


def begin(**settings: object) -> StreamingTracker:
    """Two objects, stepped through four frames."""
    tracker = small_tracker(small_network(), **{**WITHIN, "jump_area_rate": 1000.0, **settings})
    tracker.add_object(FRAMES[0], mask=disc(60, 40, 20), name="a")
    tracker.add_object(None, mask=disc(100, 50, 15), name="b")
    for frame in FRAMES[1:4]:
        result = tracker.step(frame)
    assert result.states == (TrackState.TRACKING,) * 2, "the control: all is well before the trouble"
    return tracker


def bank(tracker: StreamingTracker) -> tuple[np.ndarray, np.ndarray]:
    return tracker._bank.frames.copy(), tracker._bank.pointer_frames.copy()


def test_an_image_that_shows_nothing_is_not_remembered() -> None:
    """Neither recent memory nor pointers nor candidates for the long-term memory; a usable image is."""
    tracker = begin(num_long_term=2, long_term_interval_s=0.0, long_term_min_iou=0.0)
    before, candidates = bank(tracker), tracker._long_term.candidates.copy()
    assert candidates.any()
    for _ in range(3):
        tracker.step(NOTHING)
    for held, now in zip(before, bank(tracker), strict=True):
        assert np.array_equal(held, now)
    assert np.array_equal(candidates, tracker._long_term.candidates)
    tracker.step(FRAMES[4])
    assert not np.array_equal(before[0], bank(tracker)[0])


def test_nothing_is_forgotten_while_images_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it lasts, the next usable image reads the memories that it would have read at once."""
    reads = []
    for trouble in (0, 30):
        tracker = begin()
        for _ in range(trouble):
            tracker.step(NOTHING)
        attend = tracker.engine.attend

        def watched(rows: np.ndarray, slot: int, read: MemoryRead | None, attend: Any = attend) -> None:
            reads.append(read)
            attend(rows, slot, read)

        monkeypatch.setattr(tracker.engine, "attend", watched)
        tracker.step(FRAMES[4])
        tracker.step(FRAMES[5])
    assert len(reads) == 4 and reads[0].valid.sum() > 2
    for at_once, later in zip(reads[:2], reads[2:], strict=True):
        for name in ("slots", "kind", "temporal_index", "valid", "pointer_slots", "pointer_valid"):
            assert np.array_equal(getattr(at_once, name), getattr(later, name)), name


def test_every_object_is_uncertain_with_the_reason() -> None:
    tracker = begin()
    result = tracker.step(NOTHING)
    assert result.condition == ImageCondition.BLACK
    assert result.states == (TrackState.UNCERTAIN,) * 2
    assert result.state_reasons == ("the image is black",) * 2
    assert [one.state for one in tracker.objects()] == [TrackState.UNCERTAIN] * 2


def test_objects_recover_after_good_frames_in_a_row() -> None:
    tracker = begin(recover_frames=3)
    tracker.step(NOTHING)
    states = [tracker.step(frame).states[0] for frame in FRAMES[4:8]]
    assert states == [TrackState.UNCERTAIN] * 2 + [TrackState.TRACKING] * 2


def test_an_object_is_not_seen_on_an_image_that_shows_nothing() -> None:
    """Its age goes on, whatever the network imagines there."""
    tracker = begin()
    last = tracker.last_result
    assert last is not None
    result = tracker.step(NOTHING, last.stamp_ns + 500_000_000)
    assert np.array_equal(result.last_seen_ns, last.last_seen_ns) and np.allclose(result.age_s, 0.5)


def test_a_frozen_camera_is_never_tracking() -> None:
    tracker = begin()
    results = [tracker.step(FRAMES[3]) for _ in range(20)]
    assert {result.condition for result in results} == {ImageCondition.FROZEN}
    assert {state for result in results for state in result.states} == {TrackState.UNCERTAIN}


def test_an_object_may_be_added_on_a_frozen_image_and_is_then_found() -> None:
    """An operator may well stop the camera to mark what is there; the mark is remembered."""
    tracker = begin()
    tracker.step(FRAMES[3])
    added = tracker.add_object(None, mask=disc(60, 40, 20), name="c")
    assert len(tracker._bank.conditioning_frames(tracker._table.get(added).row)) == 1
    for frame in (FRAMES[3], FRAMES[4], FRAMES[5]):
        result = tracker.step(frame)
        assert result.masks[result.index_of(added)].any()


def test_a_prompt_on_an_older_unusable_image_catches_up() -> None:
    """The images after it, usable or not, are tracked for the object as they were for the others."""
    tracker = begin()
    stamp_ns = tracker.step(FRAMES[3]).stamp_ns
    for frame in (FRAMES[3], FRAMES[4], FRAMES[5]):
        tracker.step(frame)
    added = tracker.add_object(None, mask=disc(60, 40, 20), stamp_ns=stamp_ns)
    row = tracker._table.get(added).row
    ring = tracker._bank.frames[:, tracker._bank._recent_start :]
    assert set(ring[row]) == {-1, 4, 5}, "the two usable images since, numbered as for the others"
    assert {4, 5} <= set(ring[0])


def test_a_frame_that_is_reported_again_is_judged_once() -> None:
    """A prompt for one object does not count the frame twice for the others."""
    tracker = begin(recover_frames=3)
    tracker.step(NOTHING)
    tracker.step(FRAMES[4])
    for _ in range(3):
        tracker.refine_object(2, points=[[100, 50]], labels=[1])
    assert tracker.objects()[0].state == TrackState.UNCERTAIN
    assert tracker.step(FRAMES[5]).states[0] == TrackState.UNCERTAIN
    assert tracker.step(FRAMES[6]).states[0] == TrackState.TRACKING


def test_a_prompt_is_believed_at_once() -> None:
    """The operator has just marked it: no good frames are waited for."""
    tracker = begin()
    tracker.step(NOTHING)
    tracker.step(FRAMES[4])
    tracker.refine_object(1, mask=disc(60, 40, 20))
    assert tracker.last_result is not None
    assert tracker.last_result.states == (TrackState.TRACKING, TrackState.UNCERTAIN)


def test_the_same_calls_give_the_same_states() -> None:
    """With the default thresholds, which random weights fail in many ways."""

    def run() -> list[object]:
        tracker = small_tracker(small_network())
        tracker.add_object(FRAMES[0], mask=disc(60, 40, 20))
        results = [tracker.step(frame) for frame in (*FRAMES[1:4], NOTHING, *FRAMES[4:8])]
        return [(result.states, result.state_reasons, result.condition) for result in results]

    assert run() == run()


def test_removing_an_object_keeps_the_reasons_of_the_others() -> None:
    tracker = begin()
    tracker.step(NOTHING)
    tracker.remove_object(1)
    assert tracker.last_result is not None
    assert tracker.last_result.state_reasons == ("the image is black",)
