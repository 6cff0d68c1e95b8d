"""Which objects there are, which engine row each has, and what was seen of them on the kept frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import ABSENT_LOGIT, DecodeResult, EngineCapacity
from sam2s_ros.tracking.errors import TooManyObjectsError, UnknownObjectError
from sam2s_ros.tracking.kept_frames import KeptFrame, Lag
from sam2s_ros.tracking.prompts import Prompt
from sam2s_ros.tracking.states import Judgement

NEVER = -1
"""Stamp of something that has not happened; frame number of a slot without an observation."""


@dataclass(frozen=True)
class Twin:
    """The object that owns the mask which another was found with on one frame: its id and the IoU of the two."""

    id: int
    iou: float
    frame_index: int


@dataclass(eq=False)
class ObjectRecord:
    """One object: what does not change from frame to frame, and its latest prompt."""

    id: int
    name: str
    row: int
    first: KeptFrame
    last_seen_ns: int = NEVER
    prompt: Prompt | None = None
    prompt_frame: int = NEVER
    judgement: Judgement | None = None
    """Its state on the newest frame that was judged; None since its latest prompt."""
    twin: Twin | None = None
    """The owner of its mask on the newest frame on which it was taken to be out of view for that."""
    lag: Lag | None = None
    """How far it has come, while it is on its way from a prompted frame to the newest; None for one that is there."""


class ObjectTable:
    """Objects by id (from `first_id`, never used twice) and their observations, [max_objects, frame_slots, ...]."""

    def __init__(self, capacity: EngineCapacity, mask_size: int, first_id: int = 1) -> None:
        self._max_objects = capacity.max_objects
        self.next_id = first_id
        self._records: dict[int, ObjectRecord] = {}
        slots = (capacity.max_objects, capacity.frame_slots)
        self._observed = np.full(slots, NEVER, dtype=np.int64)
        self._logits = np.zeros((*slots, mask_size, mask_size), dtype=np.float32)
        self._iou = np.zeros(slots, dtype=np.float32)
        self._score = np.zeros(slots, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> list[ObjectRecord]:
        """All objects, by ascending id."""
        return list(self._records.values())

    @property
    def lagging(self) -> list[ObjectRecord]:
        """Those on their way to the newest frame, by ascending id."""
        return [record for record in self._records.values() if record.lag is not None]

    @property
    def lags(self) -> list[Lag]:
        """How far they have come."""
        return [record.lag for record in self._records.values() if record.lag is not None]

    @property
    def live_rows(self) -> NDArray[np.int64]:
        """Engine rows of all others, by ascending id."""
        return rows_of([record for record in self._records.values() if record.lag is None])

    def require_room(self) -> None:
        """TooManyObjectsError when no row is free."""
        if len(self._records) >= self._max_objects:
            raise TooManyObjectsError(
                f"all {self._max_objects} objects are in use (ids {', '.join(map(str, self._records))}); "
                "remove one, or raise max_objects"
            )

    def add(self, name: str, first: KeptFrame) -> ObjectRecord:
        """A new object with the lowest free row. TooManyObjectsError when there is none."""
        self.require_room()
        row = min(set(range(self._max_objects)) - {record.row for record in self._records.values()})
        record = ObjectRecord(self.next_id, name, row, first)
        self.next_id += 1
        self._records[record.id] = record
        self._observed[row] = NEVER
        return record

    def get(self, object_id: int) -> ObjectRecord:
        """UnknownObjectError when there is no such object."""
        if object_id not in self._records:
            known = ", ".join(map(str, self._records)) or "none"
            raise UnknownObjectError(f"no object has id {object_id}; the tracked ids are: {known}")
        return self._records[object_id]

    def remove(self, object_id: int) -> ObjectRecord:
        """UnknownObjectError when there is no such object."""
        record = self.get(object_id)
        del self._records[object_id]
        return record

    def withdraw(self, record: ObjectRecord) -> None:
        """Undo the latest `add`, its id included."""
        del self._records[record.id]
        self.next_id = record.id

    def back_to_first(self, record: ObjectRecord) -> None:
        """Forget what an object's later prompts said and later frames showed; it was last seen on its first frame."""
        first = record.first
        known = self._observed[record.row]
        known[known != first.index] = NEVER
        record.last_seen_ns = first.stamp_ns
        record.judgement = None
        if record.prompt_frame != first.index:
            record.prompt, record.prompt_frame = None, NEVER

    def clear(self) -> None:
        """Remove all objects; ids go on."""
        self._records.clear()

    def replace(self, records: Sequence[ObjectRecord], next_id: int) -> None:
        """Have these objects, by ascending id, instead of those that there are; ids never go back."""
        self._records = {record.id: record for record in records}
        self.next_id = max(self.next_id, next_id)
        self._observed[:] = NEVER

    def observe(
        self, rows: NDArray[np.int64], frame: KeptFrame, seen: DecodeResult, is_sight: bool = True
    ) -> None:
        """Record what a frame showed of the rows, replacing what it showed before; whether that counts as a sight."""
        self._observed[rows, frame.slot] = frame.index
        self._logits[rows, frame.slot] = seen.logits
        self._iou[rows, frame.slot] = seen.iou
        self._score[rows, frame.slot] = seen.object_score
        if is_sight:
            self.note_seen(rows, frame)

    def note_seen(self, rows: NDArray[np.int64], frame: KeptFrame) -> None:
        """Date the last sight of those rows that the frame's observation shows in view."""
        for record in self._records.values():
            if record.row in rows and self._score[record.row, frame.slot] > 0:
                record.last_seen_ns = frame.stamp_ns

    def note_twins(
        self, rows: NDArray[np.int64], frame: KeptFrame, twins: NDArray[np.int64], iou: NDArray[np.float64]
    ) -> None:
        """Remember in which row [N] the owner of each row's mask is, and the IoU [N] of the two."""
        for record, twin, overlap in zip(self._in_rows(rows), self.ids(twins), iou, strict=True):
            record.twin = Twin(int(twin), float(overlap), frame.index)

    def ids(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ids of the objects in these rows, [N]."""
        return np.array([record.id for record in self._in_rows(rows)], dtype=np.int64)

    def since_prompt(self, rows: NDArray[np.int64], frame: KeptFrame) -> NDArray[np.int64]:
        """How many frames before this one each of the rows had its latest prompt, [N]."""
        prompted = [max(one.prompt_frame, one.first.index) for one in self._in_rows(rows)]
        return frame.index - np.array(prompted, dtype=np.int64)

    def _in_rows(self, rows: NDArray[np.int64]) -> list[ObjectRecord]:
        by_row = {record.row: record for record in self._records.values()}
        return [by_row[row] for row in rows.tolist()]

    def forget(self, rows: NDArray[np.int64], frame: KeptFrame) -> None:
        """Nothing is known of what the frame showed of the rows."""
        self._observed[rows, frame.slot] = NEVER

    def was_observed(self, rows: NDArray[np.int64], frame: KeptFrame) -> NDArray[np.bool_]:
        """bool [N]: which rows have an observation of the frame."""
        return np.asarray(self._observed[rows, frame.slot] == frame.index)

    def observation(self, rows: NDArray[np.int64], frame: KeptFrame) -> DecodeResult:
        """A copy of what a frame showed of the rows; where it was not observed, an object out of view."""
        seen = self.was_observed(rows, frame)
        logits = self._logits[rows, frame.slot]
        logits[~seen] = ABSENT_LOGIT
        score = np.where(seen, self._score[rows, frame.slot], np.float32(ABSENT_LOGIT))
        return DecodeResult(logits, np.where(seen, self._iou[rows, frame.slot], np.float32(0)), score)

    def nothing(self) -> DecodeResult:
        """What a frame on which nothing was looked for shows of all objects: nothing is known."""
        count = len(self._records)
        unknown = np.full(count, np.nan, dtype=np.float32)
        return DecodeResult(
            np.full((count, *self._logits.shape[2:]), ABSENT_LOGIT, np.float32), unknown, unknown
        )


def rows_of(records: Sequence[ObjectRecord]) -> NDArray[np.int64]:
    """Engine rows of these objects, int64 [N]."""
    return np.array([record.row for record in records], dtype=np.int64)
