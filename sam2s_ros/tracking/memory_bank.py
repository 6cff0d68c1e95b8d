"""The bookkeeping of SAM 2's memory: which slot of which object holds which frame.

The engine owns the tensors; here are only their frame numbers, one int64 per slot, so the bank's content
can be printed. Objects start at different frames and age on their own, hence every array is per object.
Slots of one row: first the conditioning frames, then the long-term frames with an empty slot for the next of
them, then a ring in which frame t always has place t modulo the ring's length. Nothing is shifted, and a
frame prompted anew leaves a hole in the ring, as in SAM 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import EngineCapacity, MemoryKind, MemoryRead

EMPTY = -1
"""Frame number of a slot that holds nothing."""


@dataclass(frozen=True)
class MemorySlots:
    """Where N objects write one frame: int64 [N] memory slots and pointer slots of the rows."""

    memory: NDArray[np.int64]
    pointer: NDArray[np.int64]


class MemoryBank:
    """Frame numbers of all memory and pointer slots, [max_objects, slots], `EMPTY` where nothing is held.

    Source of the rules: SAM 2 `_prepare_memory_conditioned_features`, with stride 1; for the long-term entries, SAM2S's
    DiveMem (arXiv 2511.16618, section 4.2).
    """

    def __init__(self, capacity: EngineCapacity) -> None:
        self._capacity = capacity
        self.frames = np.full((capacity.max_objects, capacity.memory_slots), EMPTY, dtype=np.int64)
        self.pointer_frames = np.full((capacity.max_objects, capacity.pointer_slots), EMPTY, dtype=np.int64)
        self._recent_start = capacity.conditioning_slots + capacity.long_term_stored
        self._long_term = slice(capacity.conditioning_slots, self._recent_start)
        self._recent_steps = np.arange(1, capacity.recent_slots + 1)
        self._pointer_steps = np.arange(1, capacity.recent_pointers + 1)
        fixed = [MemoryKind.CONDITIONING] * capacity.conditioning_slots
        fixed += [MemoryKind.LONG_TERM] * capacity.long_term_slots
        self._kinds = np.array(fixed + [MemoryKind.RECENT] * capacity.recent_slots, dtype=np.int8)
        fixed_index = [capacity.recent_slots] * capacity.conditioning_slots
        fixed_index += [capacity.recent_slots + 1] * capacity.long_term_slots
        self._temporal_index = np.array([*fixed_index, *(self._recent_steps - 1)], dtype=np.int64)

    def memory_slots_of(self, fixed: NDArray[np.int64], clocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Memory slots by their number, for conditioning and long-term frames, then those of recent frames."""
        return np.concatenate((fixed, self._ring(clocks)))

    def pointer_slots_of(self, fixed: NDArray[np.int64], clocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Pointer slots by their number, for conditioning frames, then those of recent frames."""
        return np.concatenate((fixed, self._pointer_ring(clocks)))

    def clear(self, row: int) -> None:
        """Forget everything of one object."""
        self.frames[row] = EMPTY
        self.pointer_frames[row] = EMPTY

    def forget_since_first(self, row: int) -> None:
        """Forget everything of one object but its first conditioning frame, which always has the first slot."""
        self.frames[row, 1:] = EMPTY
        self.pointer_frames[row, 1:] = EMPTY

    def conditioning_frames(self, row: int) -> list[int]:
        """Frames at which the object was prompted and that are still remembered, in slot order."""
        held = self.frames[row, : self._capacity.conditioning_slots]
        return [int(frame) for frame in held if frame != EMPTY]

    def read(self, rows: NDArray[np.int64], frame: int, clock: int | None = None) -> MemoryRead:
        """What each object reads for `frame`: all its conditioning frames but this one, its long-term frames
        of the past, and those just before it, whether they are long-term too or not.

        Pointers of conditioning frames that lie later than `frame` are left out, their memory is not.
        Long-term frames have no pointers. `clock` is the frame's number among those that may be remembered, by
        which the ring is counted (`KeptFrame.clock`); its own number where all may.
        """
        clock = frame if clock is None else clock
        held = self.frames[rows]
        conditioning = held[:, : self._capacity.conditioning_slots]
        recent = clock - self._recent_steps
        recent_slots = self._ring(recent)
        long_term_slots, long_term_valid = self._read_long_term(held, frame)
        valid = np.concatenate(
            (
                (conditioning != EMPTY) & (conditioning != frame),
                long_term_valid,
                (held[:, recent_slots] == recent) & (recent >= 0),
            ),
            axis=1,
        )
        slots = np.concatenate(
            (
                np.broadcast_to(np.arange(conditioning.shape[1]), conditioning.shape),
                long_term_slots,
                np.broadcast_to(recent_slots, (len(rows), len(recent_slots))),
            ),
            axis=1,
        )
        pointer_slots, distance, pointer_valid = self._read_pointers(rows, frame, clock)
        return MemoryRead(
            slots=np.where(valid, slots, 0),
            kind=np.broadcast_to(self._kinds, valid.shape).copy(),
            temporal_index=np.broadcast_to(self._temporal_index, valid.shape).copy(),
            valid=valid,
            pointer_slots=pointer_slots,
            pointer_distance=distance,
            pointer_valid=pointer_valid,
        )

    def _read_long_term(
        self, held: NDArray[np.int64], frame: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Slots and validity [N, long_term_slots]: those of the stored ones that hold a frame of the past, first."""
        stored = held[:, self._long_term]
        valid = (stored != EMPTY) & (stored < frame)
        order = np.argsort(~valid, axis=1, kind="stable")[:, : self._capacity.long_term_slots]
        return order + self._capacity.conditioning_slots, np.take_along_axis(valid, order, axis=1)

    def _read_pointers(
        self, rows: NDArray[np.int64], frame: int, clock: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
        held = self.pointer_frames[rows]
        conditioning = held[:, : self._capacity.conditioning_slots]
        recent = clock - self._pointer_steps
        recent_slots = self._pointer_ring(recent)
        valid = np.concatenate(
            (
                (conditioning != EMPTY) & (conditioning < frame),
                (held[:, recent_slots] == recent) & (recent >= 0),
            ),
            axis=1,
        )
        slots = np.broadcast_to(
            np.concatenate((np.arange(self._capacity.conditioning_slots), recent_slots)), valid.shape
        )
        steps = np.broadcast_to(self._pointer_steps, (len(rows), len(self._pointer_steps)))
        distance = np.concatenate((frame - conditioning, steps), axis=1)
        return np.where(valid, slots, 0), np.where(valid, distance, 1).astype(np.float32), valid

    def has_memory(self, read: MemoryRead) -> bool:
        """Whether every object of the read has something to read."""
        return bool(read.valid.any(axis=1).all())

    def recent_slots(self, rows: NDArray[np.int64], clock: int) -> MemorySlots:
        """Where the tracked frame goes in each row's ring."""
        steps = np.full(len(rows), clock, dtype=np.int64)
        return MemorySlots(self._ring(steps), self._pointer_ring(steps))

    def record_recent(self, rows: NDArray[np.int64], clock: int, slots: MemorySlots) -> None:
        """The engine has written the tracked frame."""
        self.frames[rows, slots.memory] = clock
        self.pointer_frames[rows, slots.pointer] = clock

    def forget_recent(self, rows: NDArray[np.int64], clock: int) -> None:
        """Drop the rows' ring entries of one frame, and whatever else is in their places."""
        slots = self.recent_slots(rows, clock)
        self.frames[rows, slots.memory] = EMPTY
        self.pointer_frames[rows, slots.pointer] = EMPTY

    def conditioning_slots(self, row: int, frame: int) -> MemorySlots:
        """Where a prompted frame goes: its own slot if it has one, a free one, or that of the oldest but
        the first."""
        held = self.frames[row, : self._capacity.conditioning_slots]
        same, free = np.flatnonzero(held == frame), np.flatnonzero(held == EMPTY)
        if len(same):
            slot = int(same[0])
        elif len(free):
            slot = int(free[0])
        else:
            slot = 1 + int(np.argmin(held[1:]))
        chosen = np.array([slot], dtype=np.int64)
        return MemorySlots(chosen, chosen)

    def record_conditioning(self, row: int, frame: int, slots: MemorySlots, clock: int | None = None) -> None:
        """The engine has written the prompted frame; the frame's tracked entry, if `clock` names one, is no longer
        read."""
        clock = frame if clock is None else clock
        ring = self.recent_slots(np.array([row]), clock)
        for frames, place in (
            (self.frames, int(ring.memory[0])),
            (self.pointer_frames, int(ring.pointer[0])),
        ):
            if frames[row, place] == clock:
                frames[row, place] = EMPTY
        self.frames[row, slots.memory] = frame
        self.pointer_frames[row, slots.pointer] = frame

    def long_term_frames(self, row: int) -> list[int]:
        """Frames in the object's long-term memory, oldest first."""
        return sorted(int(frame) for frame in self.frames[row, self._long_term] if frame != EMPTY)

    def latest_long_term(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [N]: which of its long-term slots, from 0, holds each object's latest long-term frame; `EMPTY` where
        none does."""
        held = self.frames[rows, self._long_term]
        return np.where((held == EMPTY).all(axis=1), EMPTY, held.argmax(axis=1))

    def spare_long_term(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [N]: which of its long-term slots, from 0, each object's next long-term frame goes to."""
        return np.asarray((self.frames[rows, self._long_term] == EMPTY).argmax(axis=1))

    def long_term_slots(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Memory slots of long-term slots counted from 0."""
        return slots + self._capacity.conditioning_slots

    def record_long_term(self, rows: NDArray[np.int64], frames: NDArray[np.int64]) -> None:
        """The spare slot of each row holds this frame from now on. In a full queue the slot of the oldest becomes the
        spare one."""
        self.frames[rows, self.long_term_slots(self.spare_long_term(rows))] = frames
        held = self.frames[rows, self._long_term]
        full = (held != EMPTY).all(axis=1)
        self.frames[rows[full], self.long_term_slots(held[full].argmin(axis=1))] = EMPTY

    def forget_long_term(self, row: int, since: int) -> None:
        """Drop an object's long-term frames from number `since` on."""
        held = self.frames[row, self._long_term]
        held[held >= since] = EMPTY

    def _ring(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(self._recent_start + frames % self._capacity.recent_ring, dtype=np.int64)

    def _pointer_ring(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(
            self._capacity.conditioning_slots + frames % self._capacity.pointer_ring, dtype=np.int64
        )
