"""The memory bank's bookkeeping reads and writes what SAM 2's dictionaries of past outputs would give."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_ros.engines import EngineCapacity, MemoryKind
from sam2s_ros.tracking.memory_bank import EMPTY, MemoryBank

ROW = np.array([1], dtype=np.int64)


def track(bank: MemoryBank, frame: int, rows: np.ndarray = ROW) -> None:
    bank.record_recent(rows, frame, bank.recent_slots(rows, frame))


def prompt(bank: MemoryBank, frame: int, row: int = 1) -> None:
    bank.record_conditioning(row, frame, bank.conditioning_slots(row, frame))


def entries(bank: MemoryBank, frame: int, row: int = 1) -> set[tuple[int, int]]:
    """(temporal index, frame) of what is read."""
    read = bank.read(np.array([row]), frame)
    held = bank.frames[row][read.slots[0]]
    return {
        (int(t), int(f)) for t, f, ok in zip(read.temporal_index[0], held, read.valid[0], strict=True) if ok
    }


def pointers(bank: MemoryBank, frame: int, row: int = 1) -> set[tuple[float, int]]:
    """(distance, frame) of the pointers that are read."""
    read = bank.read(np.array([row]), frame)
    held = bank.pointer_frames[row][read.pointer_slots[0]]
    return {
        (float(d), int(f))
        for d, f, ok in zip(read.pointer_distance[0], held, read.pointer_valid[0], strict=True)
        if ok
    }


def expected(conditioning: set[int], tracked: set[int], frame: int) -> tuple[set, set]:
    """SAM 2's rule, from its two dictionaries."""
    memory = {(6, t) for t in conditioning if t != frame}
    memory |= {(d - 1, frame - d) for d in range(1, 7) if frame - d in tracked}
    pointer = {(float(frame - t), t) for t in conditioning if t < frame}
    return memory, pointer | {(float(d), frame - d) for d in range(1, 16) if frame - d in tracked}


@pytest.mark.parametrize("seed", range(5))
def test_reads_equal_those_of_sam2_over_a_random_stream(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bank = MemoryBank(EngineCapacity(max_objects=2, conditioning_slots=10))
    conditioning, tracked = {3}, set()
    prompt(bank, 3)
    for frame in range(4, 60):
        memory, pointer = expected(conditioning, tracked, frame)
        assert entries(bank, frame) == memory
        assert pointers(bank, frame) == pointer
        track(bank, frame)
        tracked.add(frame)
        if len(conditioning) < 10 and rng.random() < 0.15:
            prompt(bank, frame)
            conditioning.add(frame)
            tracked.discard(frame)


def test_a_prompted_frame_leaves_a_hole_among_the_recent() -> None:
    bank = MemoryBank(EngineCapacity())
    prompt(bank, 0)
    for frame in range(1, 5):
        track(bank, frame)
    prompt(bank, 3)
    assert entries(bank, 5) == {(6, 0), (6, 3), (0, 4), (2, 2), (3, 1)}


def test_the_first_prompt_is_never_replaced_and_of_the_others_the_oldest_is() -> None:
    bank = MemoryBank(EngineCapacity())
    for frame in range(0, 70, 10):
        prompt(bank, frame)
    assert sorted(bank.conditioning_frames(1)) == [0, 40, 50, 60]


def test_a_frame_prompted_twice_has_one_entry() -> None:
    bank = MemoryBank(EngineCapacity())
    prompt(bank, 0)
    prompt(bank, 7)
    prompt(bank, 7)
    assert bank.conditioning_frames(1) == [0, 7]


def test_a_prompted_frame_does_not_read_itself() -> None:
    """As when it is corrected: what it held is what the correction replaces."""
    bank = MemoryBank(EngineCapacity())
    prompt(bank, 0)
    for frame in range(1, 4):
        track(bank, frame)
    prompt(bank, 3)
    assert entries(bank, 3) == expected({0, 3}, {1, 2}, 3)[0]
    assert (6, 3) not in entries(bank, 3) and (6, 3) in entries(bank, 4)


def test_only_the_first_prompt_survives_that_all_since_is_forgotten() -> None:
    bank = MemoryBank(EngineCapacity())
    prompt(bank, 0)
    for frame in range(1, 9):
        track(bank, frame)
    prompt(bank, 8)
    bank.forget_since_first(1)
    assert bank.conditioning_frames(1) == [0]
    assert (entries(bank, 9), pointers(bank, 9)) == ({(6, 0)}, {(9.0, 0)})


def test_a_late_read_sees_the_past_of_its_frame_and_later_prompts_without_their_pointers() -> None:
    bank = MemoryBank(EngineCapacity(frame_slots=16))
    prompt(bank, 0)
    for frame in range(1, 40):
        track(bank, frame)
    prompt(bank, 35)
    late = 39 - 15
    tracked = set(range(1, 40)) - {35}
    memory, pointer = expected({0, 35}, tracked, late)
    assert entries(bank, late) == memory
    assert pointers(bank, late) == pointer


def test_objects_of_one_read_age_on_their_own() -> None:
    bank = MemoryBank(EngineCapacity())
    prompt(bank, 0, row=0)
    prompt(bank, 8, row=2)
    rows = np.array([0, 2])
    for frame in range(1, 11):
        track(bank, frame, rows[:1] if frame <= 8 else rows)
    read = bank.read(rows, 11)
    assert read.valid.sum(axis=1).tolist() == [7, 3]
    assert read.pointer_valid.sum(axis=1).tolist() == [11, 3]
    assert read.kind[0].tolist() == [MemoryKind.CONDITIONING] * 4 + [MemoryKind.RECENT] * 6


def test_a_cleared_row_reads_nothing() -> None:
    bank = MemoryBank(EngineCapacity())
    prompt(bank, 0)
    track(bank, 1)
    bank.clear(1)
    assert entries(bank, 2) == set()
    assert pointers(bank, 2) == set()
    assert (bank.frames[1] == EMPTY).all()


def take_in(bank: MemoryBank, *frames: int, rows: np.ndarray = ROW) -> None:
    for frame in frames:
        bank.record_long_term(rows, np.full(len(rows), frame))


def test_long_term_frames_are_read_beside_the_others_with_an_index_of_their_own_and_no_pointer() -> None:
    """A frame that is recent too is read twice."""
    bank, without = (
        MemoryBank(EngineCapacity(long_term_slots=2)),
        MemoryBank(EngineCapacity()),
    )
    for one in (bank, without):
        prompt(one, 0)
        for frame in range(1, 12):
            track(one, frame)
    take_in(bank, 2, 10)
    assert entries(bank, 12) == entries(without, 12) | {(7, 2), (7, 10)}
    assert pointers(bank, 12) == pointers(without, 12)
    kinds = [MemoryKind.CONDITIONING] * 4 + [MemoryKind.LONG_TERM] * 2 + [MemoryKind.RECENT] * 6
    assert bank.read(ROW, 12).kind[0].tolist() == kinds


def test_a_full_long_term_queue_lets_go_of_its_oldest_and_moves_nothing_else() -> None:
    bank = MemoryBank(EngineCapacity(long_term_slots=2))
    places = []
    for frame in (5, 9, 14, 20):
        take_in(bank, frame)
        places.append({int(f): i for i, f in enumerate(bank.frames[1, 4:7]) if f != EMPTY})
    assert places == [{5: 0}, {5: 0, 9: 1}, {9: 1, 14: 2}, {14: 2, 20: 0}]


def test_a_late_read_sees_no_long_term_frame_of_its_future() -> None:
    bank = MemoryBank(EngineCapacity(long_term_slots=3))
    prompt(bank, 0)
    take_in(bank, 5, 9, 14)
    assert entries(bank, 9) == {(6, 0), (7, 5)}
    assert entries(bank, 10) == {(6, 0), (7, 5), (7, 9)}


def test_long_term_frames_are_forgotten_from_a_frame_on_or_with_the_object() -> None:
    bank = MemoryBank(EngineCapacity(long_term_slots=3))
    take_in(bank, 5, 9, 14, rows=np.array([1, 2]))
    bank.forget_long_term(1, since=9)
    assert (bank.long_term_frames(1), bank.long_term_frames(2)) == ([5], [5, 9, 14])
    bank.clear(2)
    assert bank.long_term_frames(2) == []


def test_objects_have_long_term_queues_of_their_own() -> None:
    bank = MemoryBank(EngineCapacity(long_term_slots=2))
    take_in(bank, 5, rows=np.array([0, 2]))
    take_in(bank, 9, rows=np.array([2]))
    assert bank.latest_long_term(np.arange(3)).tolist() == [0, EMPTY, 1]
    assert bank.spare_long_term(np.arange(3)).tolist() == [1, 0, 2]
    bank.record_long_term(np.array([0, 2]), np.array([11, 12]))
    assert [bank.long_term_frames(row) for row in range(3)] == [[5, 11], [], [9, 12]]
    assert bank.read(np.arange(3), 20).valid[:, 4:6].tolist() == [[True] * 2, [False] * 2, [True] * 2]
