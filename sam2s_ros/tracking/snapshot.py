"""What a tracker remembers, as a value that can be written down, and back into a tracker.

A snapshot holds, of each object, the memory that the next frame would read (features of the network, no image), its
pointers, id, name, class, state, latest prompt and last mask; of the stream, numbers and stamps. What belongs to kept
frames is left out: no prompt may refer to a frame from before. Memories are stored by frame number and not by slot, in
float32 whatever the engine computes in, so that another engine, or one for more objects, can go on from them.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import DecodeResult, Engine
from sam2s_ros.tracking.class_memory import ClassMemory
from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.errors import SnapshotError
from sam2s_ros.tracking.kept_frames import KeptFrame, KeptFrames
from sam2s_ros.tracking.long_term import LongTermFilter
from sam2s_ros.tracking.memory_bank import EMPTY, MemoryBank
from sam2s_ros.tracking.object_table import ObjectRecord, ObjectTable, rows_of
from sam2s_ros.tracking.prompts import Prompt
from sam2s_ros.tracking.reporting import without_those_behind
from sam2s_ros.tracking.states import Judgement, ObjectStatus, Place, TrackState, restored_status

FORMAT_VERSION = 4
NO_SLOT = -1
"""Slot of a frame that is not kept any more."""
PER_OBJECT = {
    "long_term": ("candidates", "best_similarity", "best_frame", "last_stamp_ns", "insertions"),
    "classes": ("mean_log", "weight", "last_frame", "left_out", "contested"),
}
"""Arrays [max_objects, ...] of the parts that remember, of which each object's part is saved."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A tracker's memory: facts that JSON can hold, and arrays by name. Nothing else uses the arrays."""

    facts: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    @property
    def image_size(self) -> tuple[int, int]:
        """height, width of the stream's images in pixels."""
        height, width = self.facts["stream"]["image_size"]
        return int(height), int(width)

    @property
    def ids(self) -> list[int]:
        """Ids of its objects, ascending."""
        return [int(one["id"]) for one in self.facts["objects"]]


@dataclass(frozen=True)
class Remembered:
    """The parts of a tracker that remember something."""

    engine: Engine
    config: TrackerConfig
    frames: KeptFrames
    table: ObjectTable
    bank: MemoryBank
    long_term: LongTermFilter
    classes: ClassMemory


@dataclass(frozen=True)
class StreamFacts:
    """Of the stream: height and width of its images, its last stamp, its usual share of tissue (NaN: not known)."""

    image_size: tuple[int, int]
    last_stamp_ns: int | None
    usual_tissue: float


def take_snapshot(parts: Remembered, stream: StreamFacts) -> Snapshot:
    """A copy of all that is remembered, between two frames. SnapshotError when there is no object.

    An object on its way to the newest frame is saved as it was on the frame to which it has come.
    """
    records = parts.table.records
    rows = rows_of(records)
    if not records:
        raise SnapshotError("no object is tracked, so there is nothing to save")
    capacity, bank = parts.engine.capacity, parts.bank
    clock = parts.frames.next_index - parts.frames.unusable
    fixed = capacity.conditioning_slots + capacity.long_term_stored
    memory = _Columns.read_from(fixed, clock, capacity.recent_slots)
    pointers = _Columns.read_from(capacity.conditioning_slots, clock, capacity.recent_pointers)
    memory_slots = bank.memory_slots_of(memory.fixed, memory.clocks)
    pointer_slots = bank.pointer_slots_of(pointers.fixed, pointers.clocks)
    memory_frames = _without_those_ahead(bank.frames[np.ix_(rows, memory_slots)], records, memory)
    pointer_frames = _without_those_ahead(bank.pointer_frames[np.ix_(rows, pointer_slots)], records, pointers)
    held = (memory_frames != EMPTY).any(axis=0)
    held[capacity.conditioning_slots : fixed] = True  # one of them holds the candidate, without a number
    pointer_held = (pointer_frames != EMPTY).any(axis=0)
    memory, pointers = memory.chosen(held), pointers.chosen(pointer_held)
    memory_slots, pointer_slots = memory_slots[held], pointer_slots[pointer_held]
    arrays: dict[str, NDArray[Any]] = parts.engine.export_state(rows, memory_slots, pointer_slots)
    arrays["memory_frames"], arrays["pointer_frames"] = (
        memory_frames[:, held],
        pointer_frames[:, pointer_held],
    )
    for part, names in PER_OBJECT.items():
        arrays |= {f"{part}.{name}": getattr(getattr(parts, part), name)[rows] for name in names}
    before = parts.frames.newest_usable
    if before is not None:
        behind = np.array([record.lag is not None for record in records])
        seen = without_those_behind(parts.table.observation(rows, before), behind)
        arrays |= {"seen.logits": seen.logits, "seen.iou": seen.iou, "seen.score": seen.object_score}
    for record in records:
        if record.prompt is not None and record.prompt.mask is not None:
            arrays[f"prompt_mask.{record.id}"] = np.packbits(record.prompt.mask)
    facts = {
        "format": FORMAT_VERSION,
        "saved": saved_now(),
        "model": _model_facts(parts),
        "stream": {
            **asdict(stream),
            "next_index": parts.frames.next_index,
            "unusable": parts.frames.unusable,
            "next_id": parts.table.next_id,
            "before": None if before is None else _frame_facts(before),
        },
        "memory": memory.facts(),
        "pointers": pointers.facts(),
        "objects": [_object_facts(record) for record in records],
    }
    return Snapshot(facts, arrays)


def _without_those_ahead(
    frames: NDArray[np.int64], records: list[ObjectRecord], columns: _Columns
) -> NDArray[np.int64]:
    """Frame numbers [N, K] of the columns without recent frames to which an object has not come yet: what its memory
    has of them is from before the prompt that it comes from."""
    for row, record in enumerate(records):
        if record.lag is not None:
            reached = record.lag.reached
            ahead = columns.clocks >= reached.clock + reached.condition.usable
            frames[row, len(columns.fixed) :][ahead] = EMPTY
    return frames


def check_snapshot(parts: Remembered, snapshot: Snapshot) -> None:
    """SnapshotError when it is from another model, or from a tracker with another or a larger memory."""
    saved, own = snapshot.facts["model"], _model_facts(parts)
    differing = [name for name in own if saved.get(name) != own[name]]
    if differing:
        different = "; ".join(f"{name} is {saved.get(name)!r}, here {own[name]!r}" for name in differing)
        raise SnapshotError(f"it is from another model or memory: {different}")
    count, most = len(snapshot.facts["objects"]), parts.engine.capacity.max_objects
    if count > most:
        raise SnapshotError(f"it has {count} objects; max_objects is {most}")


def restore_snapshot(parts: Remembered, snapshot: Snapshot, spare_ids: int = 0) -> StreamFacts:
    """Put a snapshot's memory in the place of all that is remembered; nothing is changed if that fails.

    Its objects get the first rows. All are UNCERTAIN, or worse if they were, until frames confirm them.

    Args:
        parts: of the tracker.
        snapshot: see `check_snapshot`.
        spare_ids: how many ids after its last may have been given to objects that it does not know.

    Raises:
        SnapshotError: it does not fit.
    """
    try:
        check_snapshot(parts, snapshot)
        records = [
            _record(one, row, snapshot, parts.config) for row, one in enumerate(snapshot.facts["objects"])
        ]
        rows = np.arange(len(records), dtype=np.int64)
        stream = snapshot.facts["stream"]
        numbers = (int(stream["next_index"]), int(stream["unusable"]), int(stream["next_id"]) + spare_ids)
        told = StreamFacts(snapshot.image_size, stream["last_stamp_ns"], float(stream["usual_tissue"]))
        last_sight = _last_sight(parts, snapshot, len(rows))
        per_object = _per_object(parts, snapshot, len(rows))
        frames, pointer_frames, state = _memory(parts, snapshot, len(rows))
        parts.engine.import_state(rows, state)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SnapshotError(str(error)) from error
    for row in range(parts.engine.capacity.max_objects):
        parts.bank.clear(row)
        parts.long_term.clear(row)
        parts.classes.clear(row)
    parts.bank.frames[rows], parts.bank.pointer_frames[rows] = frames, pointer_frames
    for part, name, values in per_object:
        getattr(getattr(parts, part), name)[rows] = values
    next_index, unusable, next_id = numbers
    parts.table.replace(records, next_id)
    before = parts.frames.resume(next_index, unusable, None if last_sight is None else last_sight[0])
    if before is not None and last_sight is not None:
        parts.table.observe(rows, before, last_sight[1], is_sight=False)
    return told


def saved_now() -> dict[str, Any]:
    """When: by the wall clock, and by the time since boot, which nobody sets, with what tells boots apart."""
    boot_ns, boot_id = boot_clock()
    return {"wall_ns": time.time_ns(), "boot_ns": boot_ns, "boot_id": boot_id}


def boot_clock() -> tuple[int, str]:
    """Nanoseconds since boot, and the boot's id; 0 and "" where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return time.clock_gettime_ns(time.CLOCK_BOOTTIME), file.read().strip()
    except (OSError, AttributeError):  # not Linux
        return 0, ""


def snapshot_age_s(snapshot: Snapshot) -> float:
    """Seconds since it was taken; negative for one from the future.

    By the wall clock. In the same boot that must not be younger than the time since boot says, or somebody has put the
    clock back.
    """
    saved = snapshot.facts["saved"]
    age_ns = time.time_ns() - int(saved["wall_ns"])
    boot_ns, boot_id = boot_clock()
    if boot_id and boot_id == saved["boot_id"] and age_ns >= 0:
        age_ns = max(age_ns, boot_ns - int(saved["boot_ns"]))
    return age_ns * 1e-9


@dataclass(frozen=True, eq=False)
class _Columns:
    """Which memories of every object are saved: `fixed` slots by number, then recent frames by `KeptFrame.clock`."""

    fixed: NDArray[np.int64]
    clocks: NDArray[np.int64]

    @classmethod
    def read_from(cls, fixed: int, clock: int, recent: int) -> _Columns:
        """What frames from `clock` on may read: all fixed slots, and so many recent frames."""
        return cls(np.arange(fixed, dtype=np.int64), np.arange(max(0, clock - recent), clock, dtype=np.int64))

    @classmethod
    def of(cls, facts: dict[str, Any]) -> _Columns:
        return cls(np.array(facts["fixed"], dtype=np.int64), np.array(facts["clocks"], dtype=np.int64))

    def chosen(self, keep: NDArray[np.bool_]) -> _Columns:
        return _Columns(self.fixed[keep[: len(self.fixed)]], self.clocks[keep[len(self.fixed) :]])

    def facts(self) -> dict[str, list[int]]:
        return {"fixed": self.fixed.tolist(), "clocks": self.clocks.tolist()}


def _model_facts(parts: Remembered) -> dict[str, Any]:
    """What must be the same for a memory to mean the same."""
    capacity = parts.engine.capacity
    return {
        "weights_sha256": parts.engine.describe().weights_sha256,
        "input_size": parts.engine.image_size,
        "class_bank": parts.classes.sha256,
        "max_conditioning": capacity.conditioning_slots,
        "num_long_term": capacity.long_term_slots,
    }


def _frame_facts(frame: KeptFrame) -> dict[str, int]:
    return {"index": frame.index, "stamp_ns": frame.stamp_ns, "unusable_before": frame.unusable_before}


def _frame(facts: dict[str, Any]) -> KeptFrame:
    return KeptFrame(
        int(facts["index"]),
        NO_SLOT,
        int(facts["stamp_ns"]),
        unusable_before=int(facts["unusable_before"]),
        in_engine=False,
    )


def _object_facts(record: ObjectRecord) -> dict[str, Any]:
    prompt, judgement = record.prompt, record.judgement
    return {
        "id": record.id,
        "name": record.name,
        "first": _frame_facts(record.first),
        "last_seen_ns": record.last_seen_ns,
        "prompt_frame": record.prompt_frame,
        "prompt": None
        if prompt is None
        else {
            "mask_size": None if prompt.mask is None else list(prompt.mask.shape),
            "points": prompt.points.tolist(),
            "labels": prompt.labels.tolist(),
        },
        "status": None
        if judgement is None
        else {**asdict(judgement.now), "frame_index": judgement.frame_index},
    }


def _record(facts: dict[str, Any], row: int, snapshot: Snapshot, config: TrackerConfig) -> ObjectRecord:
    status, saved, frame_index = facts["status"], None, int(facts["first"]["index"])
    if status is not None:
        place = None if status["place"] is None else Place(**status["place"])
        saved = ObjectStatus(TrackState(status["state"]), "", 0, 0, place)
        frame_index = int(status["frame_index"])
    return ObjectRecord(
        id=int(facts["id"]),
        name=str(facts["name"]),
        row=row,
        first=_frame(facts["first"]),
        last_seen_ns=int(facts["last_seen_ns"]),
        prompt=_prompt(facts["prompt"], snapshot.arrays.get(f"prompt_mask.{facts['id']}")),
        prompt_frame=int(facts["prompt_frame"]),
        judgement=Judgement(frame_index, None, restored_status(saved, config)),
    )


def _prompt(facts: dict[str, Any] | None, packed: NDArray[np.uint8] | None) -> Prompt | None:
    if facts is None:
        return None
    mask = None
    if facts["mask_size"] is not None and packed is not None:
        height, width = facts["mask_size"]
        mask = np.unpackbits(packed, count=height * width).reshape(height, width).astype(np.bool_)
    points = np.array(facts["points"], dtype=np.float32).reshape(-1, 2)
    return Prompt(mask, points, np.array(facts["labels"], dtype=np.int32))


def _last_sight(parts: Remembered, snapshot: Snapshot, count: int) -> tuple[KeptFrame, DecodeResult] | None:
    """The last usable frame, and what it showed of the objects."""
    before = snapshot.facts["stream"]["before"]
    if before is None:
        return None
    side = parts.engine.mask_size
    seen = DecodeResult(
        _array(snapshot, "seen.logits", (count, side, side)),
        _array(snapshot, "seen.iou", (count,)),
        _array(snapshot, "seen.score", (count,)),
    )
    return _frame(before), seen


def _per_object(parts: Remembered, snapshot: Snapshot, count: int) -> list[tuple[str, str, NDArray[Any]]]:
    """Part, name and values of each of `PER_OBJECT`."""
    return [
        (
            part,
            name,
            _array(snapshot, f"{part}.{name}", (count, *getattr(getattr(parts, part), name).shape[1:])),
        )
        for part, names in PER_OBJECT.items()
        for name in names
    ]


def _memory(
    parts: Remembered, snapshot: Snapshot, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Frame numbers of all memory and of all pointer slots of the objects, and what the engine holds in them."""
    capacity, bank, arrays = parts.engine.capacity, parts.bank, snapshot.arrays
    memory, pointers = _Columns.of(snapshot.facts["memory"]), _Columns.of(snapshot.facts["pointers"])
    slots = bank.memory_slots_of(memory.fixed, memory.clocks)
    pointer_slots = bank.pointer_slots_of(pointers.fixed, pointers.clocks)
    state = {
        "memory": _spread(arrays["memory"], slots, capacity.memory_slots, 0),
        "pointers": _spread(arrays["pointers"], pointer_slots, capacity.pointer_slots, 0),
    }
    if capacity.long_term_slots:
        state["features"] = arrays["features"]
    frames = _array(snapshot, "memory_frames", (count, len(slots)))
    pointer_frames = _array(snapshot, "pointer_frames", (count, len(pointer_slots)))
    return (
        _spread(frames, slots, capacity.memory_slots, EMPTY),
        _spread(pointer_frames, pointer_slots, capacity.pointer_slots, EMPTY),
        state,
    )


def _spread(values: NDArray[Any], slots: NDArray[np.int64], count: int, elsewhere: int) -> NDArray[Any]:
    """Values [N, K, ...] of K slots -> of all [N, count, ...]."""
    spread = np.full((len(values), count, *values.shape[2:]), elsewhere, dtype=values.dtype)
    spread[:, slots] = values
    return spread


def _array(snapshot: Snapshot, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    values = snapshot.arrays[name]
    if values.shape != shape:
        raise SnapshotError(f"{name} has shape {values.shape}, not {shape}")
    return values
