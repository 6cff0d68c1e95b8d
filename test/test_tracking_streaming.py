"""The streaming tracker's promises: batching, determinism, late prompts, corrections, nothing that grows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from sam2_reference import set_object_score_bias
from tracking_cases import SIZE, disc, moving_images, small_network, small_tracker

from sam2s_ros.tracking import StreamingTracker, TrackerConfig, TrackState

BOX = [30.0, 20.0, 80.0, 60.0]
RANGE = 5e-6
"""Accepted deviation between batches of another size, relative to the range of the logits."""


def run_alone(prompts: dict, first: int, frames: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    tracker = small_tracker()
    for frame in frames[: first + 1]:
        tracker.step(frame)
    tracker.add_object(None, **prompts)
    seen = [tracker.last_result.logits[0]]
    seen += [tracker.step(frame).logits[0] for frame in frames[first + 1 :]]
    return seen


def test_three_objects_added_at_different_frames_get_in_one_batch_what_they_get_alone() -> None:
    frames = moving_images(22)
    script = {0: {"points": [[40, 30]]}, 4: {"mask": disc(100, 50, 18)}, 9: {"box": BOX}}
    tracker = small_tracker()
    together: dict[int, list] = {first: [] for first in script}
    for index, frame in enumerate(frames):
        tracker.step(frame)
        if index in script:
            tracker.add_object(None, **script[index])
        for first, logits in zip(together, tracker.last_result.logits, strict=False):
            together[first].append(logits)
    for first, prompts in script.items():
        alone = np.stack(run_alone(prompts, first, frames))
        batched = np.stack(together[first])
        assert np.ptp(alone) > 1, "the case shows something"
        assert np.abs(alone - batched).max() <= RANGE * np.ptp(alone)


def test_the_same_calls_give_the_same_results() -> None:
    frames = moving_images(10)

    def run() -> list[NDArray[np.float32]]:
        tracker = small_tracker(drop_stray_components=True)
        tracker.add_object(frames[0], points=[[50, 40]])
        seen = [tracker.step(frame).logits for frame in frames[1:6]]
        tracker.add_object(None, box=BOX)
        tracker.refine_object(1, points=[[60, 40], [5, 5]], labels=[1, 0])
        return seen + [tracker.step(frame).logits for frame in frames[6:]]

    for first, second in zip(run(), run(), strict=True):
        assert np.array_equal(first, second)


def test_a_prompt_for_an_older_frame_gives_what_it_would_have_given_in_time() -> None:
    frames = moving_images(20)
    timely = small_tracker()
    late = small_tracker()
    for index, frame in enumerate(frames[:15]):
        timely.step(frame, stamp_ns=1000 + index)
        late.step(frame, stamp_ns=1000 + index)
        if index == 5:
            timely.add_object(None, mask=disc(60, 40, 15))
    late.add_object(None, mask=disc(60, 40, 15), stamp_ns=1005)
    assert np.array_equal(timely.last_result.logits, late.last_result.logits)
    for frame in frames[15:]:
        assert np.array_equal(timely.step(frame).logits, late.step(frame).logits)


def test_a_correction_of_an_older_frame_gives_what_it_would_have_given_in_time() -> None:
    frames = moving_images(34)
    timely = small_tracker()
    late = small_tracker()
    for index, frame in enumerate(frames[:30]):
        for tracker in (timely, late):
            tracker.step(frame, stamp_ns=index)
            if index == 1:
                tracker.add_object(None, box=BOX)
        if index == 16:
            timely.refine_object(1, points=[[70, 45]])
    before = late.last_result.logits
    late.refine_object(1, points=[[70, 45]], stamp_ns=16)
    assert not np.array_equal(before, late.last_result.logits)
    assert np.array_equal(timely.last_result.logits, late.last_result.logits)
    for frame in frames[30:]:
        assert np.array_equal(timely.step(frame).logits, late.step(frame).logits)


def test_a_later_prompt_survives_the_correction_of_an_older_frame() -> None:
    frames = moving_images(8)
    tracker = small_tracker()
    for index, frame in enumerate(frames):
        tracker.step(frame, stamp_ns=index)
        if index == 0:
            tracker.add_object(None, box=BOX)
    tracker.refine_object(1, mask=disc(60, 40, 12))
    corrected = tracker.last_result.logits
    tracker.refine_object(1, points=[[55, 40]], stamp_ns=4)
    assert np.array_equal(tracker.last_result.logits, corrected)
    assert tracker.objects()[0].conditioning_frames == 3


def test_other_objects_do_not_notice_a_late_prompt() -> None:
    frames = moving_images(12)
    tracker = small_tracker()
    for index, frame in enumerate(frames):
        tracker.step(frame, stamp_ns=index)
        if index == 0:
            tracker.add_object(None, points=[[40, 40]])
    before = tracker.last_result
    tracker.add_object(None, mask=disc(100, 40, 12), stamp_ns=6)
    after = tracker.last_result
    assert after.ids.tolist() == [1, 2]
    assert np.array_equal(before.logits[0], after.logits[0])
    assert np.array_equal(before.masks[0], after.masks[0])
    assert tracker.kept_stamps_ns() == list(range(12))


def test_the_equal_image_prompts_the_newest_frame_and_another_image_advances_the_stream() -> None:
    frames = moving_images(3)
    tracker = small_tracker()
    tracker.step(frames[0])
    tracker.add_object(frames[0].copy(), points=[[40, 40]])
    assert tracker.last_result.frame_index == 0
    before = tracker.last_result.logits[0]
    tracker.add_object(frames[1], points=[[90, 40]])
    assert tracker.last_result.frame_index == 1
    assert not np.array_equal(tracker.last_result.logits[0], before), "the first object advanced too"


def test_a_given_mask_is_returned_exactly_on_its_frame() -> None:
    tracker = small_tracker()
    given = disc(57, 33, 11.3)
    tracker.add_object(moving_images(1)[0], mask=given)
    assert np.array_equal(tracker.last_result.masks[0], given)
    assert tracker.last_result.geometry.area[0] == given.sum()


def test_a_second_click_on_a_frame_corrects_the_mask_of_the_first() -> None:
    frame = moving_images(1)[0]
    tracker = small_tracker()
    tracker.add_object(frame, points=[[40, 40]])
    first = tracker.last_result.logits
    tracker.refine_object(1, frame, points=[[60, 40]])
    assert not np.array_equal(first, tracker.last_result.logits)
    assert tracker.last_result.frame_index == 0
    assert tracker.objects()[0].conditioning_frames == 1


def test_an_object_out_of_view_has_an_empty_mask_and_no_geometry_and_turns_lost() -> None:
    network = small_network()
    frames = moving_images(6)
    tracker = small_tracker(network, lost_after_s=0.1)
    tracker.add_object(frames[0], mask=disc(60, 40, 15), stamp_ns=0)
    set_object_score_bias(network, -60.0)
    states = []
    for index, frame in enumerate(frames[1:], start=1):
        result = tracker.step(frame, stamp_ns=index * 40_000_000)
        states.append(result.states[0])
    assert states == [TrackState.OCCLUDED] * 2 + [TrackState.LOST] * 3
    assert not result.masks.any()
    assert np.isnan(result.geometry.centroid).all() and np.isnan(result.geometry.area).all()
    assert result.presence[0] < 0.5
    assert result.last_seen_ns[0] == 0
    assert result.age_s[0] == pytest.approx(0.2)


def test_ids_are_never_used_again_and_a_row_is() -> None:
    frames = moving_images(4)
    tracker = small_tracker(max_objects=2)
    assert tracker.add_object(frames[0], points=[[40, 40]]) == 1
    assert tracker.add_object(None, points=[[90, 40]]) == 2
    tracker.remove_object(1)
    assert tracker.last_result.ids.tolist() == [2]
    assert tracker.add_object(frames[1], points=[[10, 10]]) == 3
    assert tracker.step(frames[2]).ids.tolist() == [2, 3]
    tracker.reset()
    assert tracker.objects() == []
    assert tracker.add_object(frames[3], points=[[10, 10]]) == 4


def test_a_row_used_again_remembers_nothing_of_its_former_object() -> None:
    frames = moving_images(12)
    used, fresh = small_tracker(max_objects=1), small_tracker(max_objects=1)
    for frame in frames[:6]:
        used.step(frame)
        fresh.step(frame)
        if frame is frames[0]:
            used.add_object(None, mask=disc(120, 30, 9))
    used.remove_object(1)
    for tracker in (used, fresh):
        tracker.add_object(None, points=[[40, 40]])
    for frame in frames[6:]:
        assert np.array_equal(used.step(frame).logits, fresh.step(frame).logits)


@pytest.mark.parametrize("mode", ["mask", "flow", "box", "centre"])
def test_the_previous_mask_prompts_by_setting(mode: str) -> None:
    frames = moving_images(6)
    plain, prompted = small_tracker(), small_tracker(previous_mask_prompt=mode)
    for tracker in (plain, prompted):
        tracker.add_object(frames[0], mask=disc(60, 40, 15))
    for frame in frames[1:]:
        without, with_prompt = plain.step(frame).logits, prompted.step(frame).logits
    assert not np.array_equal(without, with_prompt)


def test_every_image_size_is_tracked() -> None:
    network = small_network()
    for size in [(1, 1), (40, 40), (128, 128), (300, 20), (37, 411)]:
        frames = moving_images(3, size)
        tracker = small_tracker(network)
        tracker.add_object(frames[0], mask=np.ones(size, dtype=bool))
        result = tracker.step(frames[1])
        assert result.masks.shape == (1, *size)
        assert result.image_size == size


def test_a_step_without_objects_gives_an_empty_result() -> None:
    result = small_tracker().step(moving_images(1)[0])
    assert result.masks.shape == (0, *SIZE)
    assert result.geometry.centroid.shape == (0, 2)
    assert result.states == ()


def test_an_engine_of_another_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="engine was made for"):
        StreamingTracker(small_tracker().engine, TrackerConfig(max_objects=7))


def test_an_image_need_not_be_writable_or_contiguous() -> None:
    frames = moving_images(3)
    plain, strided = small_tracker(), small_tracker()
    for tracker in (plain, strided):
        tracker.add_object(frames[0], points=[[40, 40]])
    padded = np.zeros((SIZE[0], SIZE[1] + 7, 3), dtype=np.uint8)
    padded[:, : SIZE[1]] = frames[1]
    padded.flags.writeable = False
    assert np.array_equal(plain.step(frames[1]).logits, strided.step(padded[:, : SIZE[1]]).logits)
    backwards = frames[2][..., ::-1].copy()[..., ::-1]
    assert np.array_equal(plain.step(frames[2]).logits, strided.step(backwards).logits)


@pytest.mark.parametrize("stage", ["attend", "decode", "memorise"])
def test_a_frame_on_which_the_engine_failed_leaves_no_trace(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = moving_images(5)
    network = small_network()
    tracker, undisturbed = small_tracker(network), small_tracker(network)
    for one in (tracker, undisturbed):
        one.add_object(frames[0], mask=disc(60, 40, 15))
        one.step(frames[1])
    before = tracker.last_result
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("out of memory")

        patch.setattr(tracker.engine, stage, fail)
        with pytest.raises(RuntimeError):
            tracker.step(frames[2])
    assert tracker.last_result is before
    assert tracker.kept_stamps_ns() == undisturbed.kept_stamps_ns()
    added = tracker.add_object(None, mask=disc(30, 30, 8))
    result = tracker.last_result
    assert result is not None and before is not None
    assert result.stamp_ns == before.stamp_ns and added in result.ids
    assert np.array_equal(result.masks[0], before.masks[0])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("previous_mask_prompt", ["off", "flow"])
def test_frames_encoded_ahead_on_another_thread_give_the_same_results(previous_mask_prompt: str) -> None:
    """One frame ahead of `step` while it runs; both threads compute with as many threads of their own."""
    frames = moving_images(16)

    def prepared(tracker: StreamingTracker) -> StreamingTracker:
        tracker.add_object(frames[0], mask=disc(60, 40, 20))
        return tracker

    plain = prepared(small_tracker(kept_frames=3, previous_mask_prompt=previous_mask_prompt))
    expected = [plain.step(frame).logits for frame in frames[1:]]
    tracker = prepared(small_tracker(kept_frames=3, previous_mask_prompt=previous_mask_prompt))
    seen = []
    with ThreadPoolExecutor(1) as encoder:
        ahead = encoder.submit(tracker.encode_ahead, frames[1])
        for frame, following in zip(frames[1:], [*frames[2:], None], strict=True):
            ahead.result()
            if following is not None:
                ahead = encoder.submit(tracker.encode_ahead, following)
            seen.append(tracker.step(frame).logits)
    assert np.ptp(expected) > 1, "the case shows something"
    assert np.array_equal(seen, expected)


def test_a_frame_encoded_ahead_is_not_encoded_again_and_others_are_forgotten() -> None:
    frames = moving_images(8)
    tracker = small_tracker(kept_frames=2)
    encoded = []
    encode = tracker.engine.encode
    tracker.engine.encode = lambda frame, slot: (encoded.append((frame, slot)), encode(frame, slot))  # type: ignore[method-assign]
    for frame in frames[:5]:  # more than there are slots for
        tracker.encode_ahead(frame)
    tracker.step(frames[4])
    assert [frame is frames[index] for index, (frame, _) in enumerate(encoded)] == [True] * 5
    tracker.encode_ahead(frames[5])
    tracker.reset()
    tracker.step(frames[6])
    tracker.step(frames[7])
    assert [frame is wanted for (frame, _), wanted in zip(encoded[5:], frames[5:], strict=True)] == [True] * 3
    assert max(slot for _, slot in encoded) < tracker.engine.capacity.frame_slots


def test_the_answer_to_a_late_prompt_describes_the_image_that_was_prompted() -> None:
    """`last_prompted` is the prompted frame with the one object, `last_result` the newest with all."""
    frames = moving_images(4)
    tracker = small_tracker()
    for index, frame in enumerate(frames):
        tracker.step(frame, stamp_ns=index)
    tracker.add_object(None, mask=disc(30, 30, 9), stamp_ns=3)
    late = tracker.add_object(None, mask=disc(90, 50, 12), stamp_ns=1)
    prompted, newest = tracker.last_prompted, tracker.last_result
    assert prompted is not None and newest is not None
    assert (prompted.stamp_ns, prompted.ids.tolist()) == (1, [late])
    assert np.array_equal(prompted.masks[0], disc(90, 50, 12))
    assert (newest.stamp_ns, len(newest.ids)) == (3, 2)
    assert not np.array_equal(newest.masks[1], prompted.masks[0])
    tracker.reset()
    assert tracker.last_prompted is None


def test_an_image_of_another_size_with_the_stamp_of_a_kept_one_is_a_new_image() -> None:
    """Its coordinates are its own, not those of the kept image."""
    tracker = small_tracker()
    tracker.step(moving_images(1)[0], stamp_ns=1)
    larger = moving_images(1, (180, 320))[0]
    tracker.add_object(larger, mask=disc(200, 100, 20, (180, 320)), stamp_ns=1)
    assert tracker.last_result is not None and tracker.last_result.image_size == (180, 320)


def test_what_the_caller_does_to_a_frame_after_a_step_changes_nothing() -> None:
    """The tracker compares the next prompt's frame with a copy, unless it was told that none is needed."""
    frame = moving_images(1)[0]
    for copy in (True, False):
        tracker = small_tracker()
        given = frame.copy()
        tracker.step(given, 0, copy=copy)
        before = tracker.last_result
        given[:] = 0
        tracker.add_object(frame, box=[10, 10, 40, 40])
        assert tracker.last_result is not None and before is not None
        assert tracker.last_result.frame_index == before.frame_index + (not copy)


def test_copies_and_frames_that_need_none_may_take_turns() -> None:
    frames = moving_images(12)
    tracker = small_tracker()
    for index, frame in enumerate(frames):
        given = frame.copy()
        tracker.step(given, index * 40_000_000, copy=index % 3 != 0)
        if index % 3:
            given[:] = 0
    kept = tracker._intake.newest_images
    assert all(np.array_equal(one, frame) for one, frame in zip(kept, frames[::-1], strict=False))
