"""The long-term memory takes in what DiveMem's rule says, at the pace of the clock, and stays within its slots."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from tracking_cases import SMALL, disc, moving_images, small_network, small_tracker

from sam2s_ros.engines import DecodeResult, MemoryRead
from sam2s_ros.engines.eager import EagerEngine
from sam2s_ros.network import ImageFeatures
from sam2s_ros.tracking import FrameResult, StreamingTracker, TrackerConfig
from sam2s_ros.tracking.kept_frames import KeptFrame
from sam2s_ros.tracking.long_term import LongTermFilter
from sam2s_ros.tracking.memory_bank import MemoryBank

ROW = np.array([1], dtype=np.int64)
BLANK = np.zeros((8, 8, 3), dtype=np.uint8)
EAGER: dict[str, Any] = {
    "num_long_term": 4,
    "long_term_interval_s": 0.0,
    "long_term_candidates": 2,
    "long_term_min_iou": 0.0,
}
"""Settings with which a network of random weights soon fills its long-term memory."""


class FilterCase:
    """The filter over a real engine. The feature of every frame is a direction given by its angle, so that the
    similarity of two frames is the cosine of the difference; memory entries hold their frame's number."""

    def __init__(self, **settings: Any) -> None:
        rule = {"num_long_term": 2, "long_term_interval_s": 0.0, "long_term_candidates": 3, **settings}
        config = TrackerConfig(max_objects=2, **rule)
        network = small_network()
        network.encode_image = self._feature  # type: ignore[method-assign]
        self.engine = EagerEngine(network, config.engine_capacity())
        self.bank = MemoryBank(self.engine.capacity)
        self.filter = LongTermFilter(self.engine, config, self.bank)
        self.angle = 0.0
        self.index = -1
        self.prompt(0.0)

    def _feature(self, image: Tensor) -> ImageFeatures:
        side, c = SMALL.feature_size, SMALL.hidden_dim
        f2 = torch.zeros(1, c, side, side)
        f2[:, 0], f2[:, 1] = 3 * math.cos(self.angle), 3 * math.sin(self.angle)
        return ImageFeatures(torch.zeros(()), torch.zeros(()), f2)

    def _next(self, angle: float, stamp_s: float | None) -> KeptFrame:
        self.index, self.angle = self.index + 1, angle
        slot = self.index % self.engine.capacity.frame_slots
        self.engine.encode(BLANK, slot)
        seconds = 0.04 * self.index if stamp_s is None else stamp_s
        return KeptFrame(self.index, slot, round(1e9 * seconds))

    def _memorise(self, slot: int) -> None:
        state = self.engine.export_state(ROW)
        state["memory"][0, slot] = self.index
        self.engine.import_state(ROW, state)

    def prompt(self, angle: float, stamp_s: float | None = None) -> None:
        frame = self._next(angle, stamp_s)
        slots = self.bank.conditioning_slots(1, frame.index)
        self._memorise(int(slots.memory[0]))
        self.bank.record_conditioning(1, frame.index, slots)
        self.filter.conditioned(1, frame, first=frame.index == 0)

    def track(
        self,
        angle: float = 0.0,
        stamp_s: float | None = None,
        object_score: float = 8.0,
        iou: float = 0.99,
        memorise: bool = True,
    ) -> list[int]:
        """One tracked frame; gives the long-term frames after it, oldest first."""
        frame = self._next(angle, stamp_s)
        slots = self.bank.recent_slots(ROW, frame.index)
        if memorise:
            self._memorise(int(slots.memory[0]))
        self.bank.record_recent(ROW, frame.index, slots)
        seen = DecodeResult(
            np.zeros((1, 2, 2), np.float32), np.array([iou], np.float32), np.array([object_score], np.float32)
        )
        self.filter.tracked(ROW, frame, seen, slots.memory)
        return self.bank.long_term_frames(1)

    def stored(self) -> dict[int, float]:
        """Frame number of each valid fixed memory slot that a read names -> what the engine holds there."""
        read = self.bank.read(ROW, self.index + 100)
        memory = self.engine.export_state(ROW)["memory"][0]
        slots = read.slots[0][read.valid[0]]
        return {int(self.bank.frames[1, slot]): float(memory[slot].mean()) for slot in slots}


def test_of_the_candidates_the_least_similar_one_enters() -> None:
    case = FilterCase()
    assert case.track(0.1) == case.track(0.9) == []
    assert case.track(0.5) == [2]
    assert case.stored() == {0: 0.0, 2: 2.0}


def test_candidates_are_compared_with_the_latest_long_term_frame() -> None:
    """The fifth frame looks like the first prompt, but not like the frame that entered before it."""
    case = FilterCase()
    for angle in (0.1, 0.9, 0.5, 0.8, 0.0):
        case.track(angle)
    assert case.track(1.2) == [2, 5]


@pytest.mark.parametrize("failing", [{"object_score": 0.0}, {"iou": 0.95}, {"iou": float("nan")}])
def test_a_failing_frame_clears_the_candidates(failing: dict[str, float]) -> None:
    case = FilterCase()
    case.track(1.5)
    case.track(0.2)
    case.track(0.1, **failing)
    assert case.track(0.1) == case.track(0.2) == []
    assert case.track(0.15) == [5], "the best of the cleared candidates is forgotten too"


def test_a_frame_that_fails_between_two_candidates_clears_them() -> None:
    case = FilterCase(long_term_interval_s=1.0)
    for stamp_s in (1.0, 2.0):
        case.track(1.0, stamp_s)
    case.track(0.1, 2.5, iou=0.5)
    assert case.track(0.1, 3.0) == case.track(0.2, 4.0) == []
    assert case.track(0.1, 5.0) == [5]


def test_in_a_full_queue_the_oldest_is_replaced_and_the_first_prompt_never_is() -> None:
    case = FilterCase(long_term_candidates=1)
    assert [case.track(angle) for angle in (0.5, 1.0, 1.5, 2.0)] == [[1], [1, 2], [2, 3], [3, 4]]
    assert case.stored() == {0: 0.0, 3: 3.0, 4: 4.0}
    features = case.engine.export_state(ROW)["features"][0]
    assert features[0].max() == features[0][0] > 0, "the first prompt's feature is still there"
    assert case.filter.insertions[1] == 4


def test_a_queue_of_one_is_replaced_each_time() -> None:
    case = FilterCase(num_long_term=1, long_term_candidates=2)
    assert [case.track(0.1 * t) for t in range(1, 7)] == [[], [2], [2], [4], [4], [6]]
    assert case.stored() == {0: 0.0, 6: 6.0}


@pytest.mark.parametrize("rate_hz", [1, 25, 60])
def test_the_interval_is_kept_at_any_frame_rate(rate_hz: int) -> None:
    """One candidate a second, one in five enters: twelve in a minute."""
    case = FilterCase(long_term_interval_s=1.0, long_term_candidates=5)
    for frame in range(1, 60 * rate_hz + 1):
        case.track(math.sin(frame), frame / rate_hz, memorise=False)
    assert case.filter.insertions[1] == 12


def test_without_an_interval_every_frame_is_a_candidate() -> None:
    case = FilterCase(long_term_candidates=5)
    for frame in range(1, 101):
        case.track(math.sin(frame), frame / 60, memorise=False)
    assert case.filter.insertions[1] == 20


def test_stamps_that_go_back_start_the_wait_anew() -> None:
    case = FilterCase(long_term_interval_s=1.0, long_term_candidates=2)
    case.track(0.5, 100.0)
    assert case.track(0.1, 3.0) == case.track(0.1, 3.9) == []
    assert case.track(0.1, 4.0) == [1]


def test_a_prompt_drops_candidates_and_long_term_frames_from_its_frame_on() -> None:
    case = FilterCase(long_term_candidates=2)
    for angle in (0.5, 0.4, 1.0, 1.1, 1.6):
        case.track(angle)
    assert case.bank.long_term_frames(1) == [1, 4]
    case.filter.conditioned(1, KeptFrame(4, 4, 160_000_000), first=False)
    assert case.bank.long_term_frames(1) == [1]
    assert case.track(0.6) == [1]
    assert case.track(0.7) == [1, 7], "frame 1 is the latest again"


def test_after_a_prompt_the_interval_starts_anew() -> None:
    case = FilterCase(long_term_interval_s=1.0, long_term_candidates=1)
    case.prompt(0.0, stamp_s=10.0)
    assert case.track(0.5, 10.9) == []
    assert case.track(0.5, 11.0) == [3]


def test_the_state_of_an_object_can_be_printed() -> None:
    case = FilterCase()
    assert case.filter.describe(1) == "long-term frames none (0 entered); no candidate"
    for angle in (0.5, 0.1, 0.2, math.pi / 2 + 0.5, 0.2):
        case.track(angle)
    assert case.filter.describe(1) == (
        "long-term frames 1 (1 entered); 2 of 3 candidates, best frame 4 with similarity -0.000, "
        "last at 200000000 ns"
    )
    case.filter.clear(1)
    case.bank.clear(1)
    assert case.filter.describe(1) == "long-term frames none (0 entered); no candidate"


def run(tracker: StreamingTracker, frames: int = 24) -> list[FrameResult]:
    """Two objects through some frames, one of them corrected on the way."""
    images = moving_images(frames)
    tracker.add_object(images[0], mask=disc(60, 40, 15))
    tracker.add_object(None, points=[[100, 40]])
    results = [tracker.step(image) for image in images[1 : frames // 2]]
    tracker.refine_object(1, points=[[70, 40]])
    return results + [tracker.step(image) for image in images[frames // 2 :]]


def same(first: list[FrameResult], second: list[FrameResult]) -> bool:
    return all(
        np.array_equal(a.logits, b.logits) and np.array_equal(a.iou, b.iou)
        for a, b in zip(first, second, strict=True)
    )


def test_an_empty_long_term_memory_changes_nothing() -> None:
    """A predicted IoU is never above 1, so that nothing enters."""
    without, empty = small_tracker(), small_tracker(**{**EAGER, "long_term_min_iou": 1.0})
    assert same(run(without), run(empty))
    assert all(one.long_term_frames == () for one in without.objects() + empty.objects())


def test_a_filled_long_term_memory_is_read() -> None:
    tracker = small_tracker(**EAGER)
    with_memory, without = run(tracker), run(small_tracker())
    assert same(with_memory[:2], without[:2]), "nothing has entered yet"
    assert not same(with_memory[-1:], without[-1:])
    for one in tracker.objects():
        assert len(one.long_term_frames) == 4
        assert one.long_term_insertions > 4
    counts = tracker.last_result.long_term_insertions.tolist()
    assert counts == [one.long_term_insertions for one in tracker.objects()]


def test_a_late_object_gets_the_long_term_memory_that_it_would_have_had() -> None:
    in_time, late = small_tracker(**EAGER), small_tracker(**EAGER)
    for tracker in (in_time, late):
        for index, image in enumerate(moving_images(12)):
            tracker.step(image, stamp_ns=index)
            if index == (3 if tracker is in_time else 11):
                tracker.add_object(None, mask=disc(60, 40, 15), stamp_ns=3)
    assert in_time.objects()[0].long_term_frames == late.objects()[0].long_term_frames != ()
    last = moving_images(13)[12]
    assert same([in_time.step(last, 12)], [late.step(last, 12)])


def test_a_late_correction_is_tracked_again_with_the_long_term_memory_of_its_time() -> None:
    tracker = small_tracker(**EAGER)
    images = moving_images(16)
    tracker.add_object(images[0], mask=disc(60, 40, 15), stamp_ns=0)
    for index, image in enumerate(images[1:], start=1):
        tracker.step(image, stamp_ns=index)
    latest_read: list[int] = []
    attend = tracker.engine.attend

    def listening(rows: np.ndarray, frame_slot: int, read: MemoryRead | None) -> None:
        assert read is not None
        frames = tracker._bank.frames[rows[0], read.slots[0][read.valid[0] & (read.kind[0] == 1)]]
        latest_read.append(int(frames.max(initial=0)))
        attend(rows, frame_slot, read)

    tracker.engine.attend = listening  # type: ignore[method-assign]
    tracker.refine_object(1, points=[[70, 40]], stamp_ns=7)
    assert len(latest_read) == 16 - 7
    assert all(frame < 7 + k for k, frame in enumerate(latest_read))
    assert latest_read[-1] > 7, "frames entered again after the correction"


def test_a_prompted_frame_clears_the_candidates_when_it_is_passed_again() -> None:
    """Three in a row enter: of frames 1 to 4 one does, of 6 and 7 and of 9 and 10, with a prompt on 8, none."""
    tracker = small_tracker(**{**EAGER, "long_term_candidates": 3})
    images = moving_images(11)
    tracker.add_object(images[0], mask=disc(60, 40, 15), stamp_ns=0)
    for index, image in enumerate(images[1:], start=1):
        tracker.step(image, stamp_ns=index)
    for stamp_ns in (8, 5):
        tracker.refine_object(1, points=[[70, 40]], stamp_ns=stamp_ns)
    (entered,) = tracker.objects()[0].long_term_frames
    assert entered <= 3


def test_removing_an_object_or_resetting_forgets_its_long_term_memory() -> None:
    tracker = small_tracker(**EAGER)
    run(tracker)
    tracker.remove_object(1)
    image = moving_images(1)[0]
    tracker.add_object(image, mask=disc(60, 40, 15))
    assert tracker.objects()[1].long_term_frames == ()
    assert tracker.objects()[1].long_term_insertions == 0
    tracker.reset()
    tracker.add_object(image, mask=disc(60, 40, 15))
    assert tracker.objects()[0].long_term_frames == ()


def test_no_tensor_changes_its_shape_or_place_in_two_hundred_frames() -> None:
    tracker = small_tracker(**EAGER, max_objects=1)
    engine, images = tracker.engine, moving_images(20)
    assert isinstance(engine, EagerEngine)
    tensors = {name: value for name, value in vars(engine).items() if isinstance(value, Tensor)}
    places = {name: (tensor.shape, tensor.data_ptr()) for name, tensor in tensors.items()}
    reads, attend = set(), engine.attend

    def listening(rows: np.ndarray, frame_slot: int, read: MemoryRead | None) -> None:
        if read is not None:
            reads.add(tuple(getattr(read, field.name).shape for field in dataclasses.fields(read)))
        attend(rows, frame_slot, read)

    engine.attend = listening  # type: ignore[method-assign]
    tracker.add_object(images[0], mask=disc(60, 40, 15))
    for frame in range(1, 200):
        tracker.step(images[frame % len(images)])
    after = {name: (getattr(engine, name).shape, getattr(engine, name).data_ptr()) for name in tensors}
    assert after == places
    assert len(reads) == 1
    assert reads.pop()[0] == (1, engine.capacity.memory_reads)
    assert tracker.objects()[0].long_term_insertions == 99
