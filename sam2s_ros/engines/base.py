"""The engine interface: what runs the network's graphs and owns every tensor that lives longer than a call.

An engine keeps, preallocated, for `max_objects` rows: the memory bank, the object pointers, and a workspace
(memory conditioned features and class token, pointer and object score of the last decode); with long-term
memory, the image features of the frames in it; and for `frame_slots` recent frames: the image features and
the mask logits of every row. A tracker never sees a tensor of these. It names rows, frame slots and memory
slots by number and says, per object, which slots are valid and how old they are (`MemoryRead`). A GPU engine
can therefore keep everything on board, and no slot is ever shifted or re-stacked.

The order of the calls for one frame is `encode`, `attend`, `decode` (or `decode_mask`), `memorise`; then, for
a long-term memory, `similarity`, `keep_memory` and `keep_feature`. Rows are independent of each other in all of
them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.network.config import NetworkConfig

ABSENT_LOGIT = -1024.0
"""Mask logit everywhere in the mask of an object that is not in view (source: SAM 2 `NO_OBJ_SCORE`)."""
DROPPED_LOGIT = -10.0
"""Most that the logit of a mask pixel dropped by `keep` may be: background as clear as a given mask's."""
FIRST_FEATURE_SLOT = 0
"""Feature slot of an object's first conditioning frame; slot 1 + k is that of its k-th long-term slot."""


class MemoryKind(IntEnum):
    """What a memory slot holds; the network gives each kind its own temporal embedding."""

    CONDITIONING = 0
    LONG_TERM = 1
    RECENT = 2


@dataclass(frozen=True)
class EngineCapacity:
    """How much an engine allocates, once.

    `recent_slots` and `recent_pointers` are how many recent frames an object reads (SAM 2: 6 and 15).
    Storage goes back `frame_slots` further, so that a prompt for a kept frame reads the memory of its own
    time. `long_term_slots` is how many long-term frames an object reads; one more is stored, the candidate.
    """

    max_objects: int = 8
    conditioning_slots: int = 4
    long_term_slots: int = 0
    recent_slots: int = 6
    recent_pointers: int = 15
    frame_slots: int = 16

    def __post_init__(self) -> None:
        least = {
            "max_objects": 1,
            "conditioning_slots": 2,
            "recent_slots": 1,
            "recent_pointers": 1,
            "frame_slots": 1,
        }
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(
                    f"engine capacity: {name} is {getattr(self, name)}; it must be at least {minimum}"
                )
        if self.long_term_slots < 0:
            raise ValueError(f"engine capacity: long_term_slots is {self.long_term_slots}; use 0 for none")

    @property
    def recent_ring(self) -> int:
        """Recent memory entries stored per object."""
        return self.recent_slots + self.frame_slots

    @property
    def pointer_ring(self) -> int:
        """Recent object pointers stored per object."""
        return self.recent_pointers + self.frame_slots

    @property
    def long_term_stored(self) -> int:
        """Long-term memory entries stored per object: what is read, and a spare one for the candidate."""
        return self.long_term_slots + 1 if self.long_term_slots else 0

    @property
    def feature_slots(self) -> int:
        """Image features stored per object: the first conditioning frame's, then one a long-term entry."""
        return self.long_term_stored + 1 if self.long_term_slots else 0

    @property
    def memory_slots(self) -> int:
        """Memory slots stored per object: conditioning, then long-term, then the recent ring."""
        return self.conditioning_slots + self.long_term_stored + self.recent_ring

    @property
    def pointer_slots(self) -> int:
        """Pointer slots stored per object: conditioning, then the recent ring."""
        return self.conditioning_slots + self.pointer_ring

    @property
    def memory_reads(self) -> int:
        """M: the most memory slots that one object reads for one frame."""
        return self.conditioning_slots + self.long_term_slots + self.recent_slots

    @property
    def pointer_reads(self) -> int:
        """P: the most pointers that one object reads for one frame."""
        return self.conditioning_slots + self.recent_pointers


@dataclass(frozen=True)
class MemoryRead:
    """What N objects read for one frame. M = `memory_reads`, P = `pointer_reads`; every array is per object.

    slots int64 [N, M] (memory slot of the row; 0 where invalid), kind int8 [N, M] (`MemoryKind`),
    temporal_index int64 [N, M] (t_rel - 1 for a recent frame t_rel frames back; with R = `recent_slots`, R for
    conditioning and R + 1 for long-term), valid bool [N, M]; pointer_slots int64 [N, P], pointer_distance float32 [N,
    P] in frames, pointer_valid bool [N, P].
    """

    slots: NDArray[np.int64]
    kind: NDArray[np.int8]
    temporal_index: NDArray[np.int64]
    valid: NDArray[np.bool_]
    pointer_slots: NDArray[np.int64]
    pointer_distance: NDArray[np.float32]
    pointer_valid: NDArray[np.bool_]


@dataclass(frozen=True)
class PromptBatch:
    """The prompts of N rows for one decode; all rows have the same number of points K.

    points float32 [N, K, 2] x, y in pixels of the S x S network input, whole numbers being pixel centres;
    labels int32 [N, K]: 1 on the object, 0 not on it, 2 and 3 corners of a box, -1 no point.
    `previous_mask_slot` names the frame slot whose logits of these rows are the dense prompt (clamped to
    +-32), or is None. `previous_mask_flow`, float32 [mask_size, mask_size, 2] or None, says where each pixel
    was in that frame (displacement x, y in mask pixels): the logits are moved along it. `multimask`: choose
    the best of three.
    """

    points: NDArray[np.float32] | None = None
    labels: NDArray[np.int32] | None = None
    previous_mask_slot: int | None = None
    previous_mask_flow: NDArray[np.float32] | None = None
    multimask: bool = True


@dataclass(frozen=True)
class DecodeResult:
    """logits float32 [N, mask_size, mask_size] (> 0 is the object; -1024 everywhere when absent), iou
    float32 [N] (predicted), object_score float32 [N] (logit; > 0 is present); embedding float32 [N, D] of
    length 1, to be compared with the class bank, NaN where a reader was not asked; None for a network that knows no
    class."""

    logits: NDArray[np.float32]
    iou: NDArray[np.float32]
    object_score: NDArray[np.float32]
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class EngineDescription:
    """What runs, for logs, `~/objects` and reports. `reason` says why this engine was chosen."""

    name: str
    model: str
    precision: str
    device: str
    version: str
    threads: int
    image_size: int
    weights_sha256: str
    reason: str


class Engine(ABC):
    """Runs one model for up to `capacity.max_objects` objects of one stream. Not thread-safe: one caller at
    a time, except that one thread may `encode` into a slot that no other call uses meanwhile.

    `rows` is int64 [N], each row at most once; `frame_slot` is 0 .. frame_slots - 1. C is the network's
    hidden dimension, S = `image_size` the side of its square input, `mask_size` = S / 4 the side of its
    masks.
    """

    capacity: EngineCapacity
    image_size: int
    mask_size: int
    reads_classes: bool = True
    """Whether a network's class reader is asked at all; else `DecodeResult.embedding` is None. May change between
    frames."""

    @abstractmethod
    def encode(self, frame_rgb: NDArray[np.uint8], frame_slot: int) -> None:
        """Resize uint8 [H, W, 3] RGB to S x S, normalise, run the image encoder; keep the features in the
        slot."""

    @abstractmethod
    def attend(self, rows: NDArray[np.int64], frame_slot: int, read: MemoryRead | None) -> None:
        """Condition the slot's features on each row's memory, into the row's workspace. None: there is no
        memory yet."""

    @abstractmethod
    def decode(
        self,
        rows: NDArray[np.int64],
        frame_slot: int,
        prompt: PromptBatch,
        asked: NDArray[np.bool_] | None = None,
    ) -> DecodeResult:
        """Masks from the rows' conditioned features and prompts; the workspace and the slot's logits are
        replaced.

        `asked` [N]: of which rows a class reader is asked (None: of all); the others' embeddings are NaN.
        """

    @abstractmethod
    def decode_mask(
        self, rows: NDArray[np.int64], frame_slot: int, masks: NDArray[np.float32]
    ) -> DecodeResult:
        """Take float32 [N, S, S] masks of 0 and 1 as the output itself (SAM 2's `_use_mask_as_output`)."""

    @abstractmethod
    def mark_absent(self, rows: NDArray[np.int64], frame_slot: int) -> None:
        """Take the last decode of the rows, of this frame, for that of objects out of view, as the network itself would
        have said it: what `memorise` then writes, and the frame slot, show nothing of them."""

    @abstractmethod
    def memorise(
        self,
        rows: NDArray[np.int64],
        frame_slot: int,
        memory_slots: NDArray[np.int64],
        pointer_slots: NDArray[np.int64],
        keep: NDArray[np.bool_] | None = None,
        from_points: bool = False,
    ) -> None:
        """Write the last decode of the rows into one memory slot and one pointer slot of each row.

        `keep` bool [N, mask_size, mask_size]: where False, logits are first limited to `DROPPED_LOGIT`,
        those of the frame slot too. `from_points`: the masks come from clicks or a box. The memory need not be
        written when this returns; whatever reads it calls `settle` first.
        """

    def settle(self) -> None:  # noqa: B027  # most engines write at once
        """Finish what `memorise` left to be written; raises, once, what goes wrong with it."""

    @abstractmethod
    def similarity(
        self, rows: NDArray[np.int64], frame_slot: int, feature_slots: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Cosine of the frame's stride-16 feature map, flattened, with what one feature slot of each row holds.

        float32 [N], -1 .. 1; 0 where the slot holds nothing. Only with `long_term_slots` > 0, as the next two.
        """

    @abstractmethod
    def keep_memory(
        self, rows: NDArray[np.int64], from_slots: NDArray[np.int64], to_slots: NDArray[np.int64]
    ) -> None:
        """Copy one memory slot of each row into another of the same row."""

    @abstractmethod
    def keep_feature(
        self, rows: NDArray[np.int64], frame_slot: int, feature_slots: NDArray[np.int64]
    ) -> None:
        """Store the frame's stride-16 feature map, flattened and of length 1, in one feature slot of each row."""

    @abstractmethod
    def warm_up(self) -> None:
        """Run every graph once at full size, so that the first frame is not slow. Only before the first
        object."""

    @abstractmethod
    def describe(self) -> EngineDescription:
        """What runs."""

    @abstractmethod
    def export_state(
        self,
        rows: NDArray[np.int64],
        memory_slots: NDArray[np.int64] | None = None,
        pointer_slots: NDArray[np.int64] | None = None,
    ) -> dict[str, np.ndarray]:
        """A copy of the rows' memory [N, memory_slots, h*w, Cm] and pointers [N, pointer_slots, C], to be
        saved; with long-term memory, also of their features [N, feature_slots, C*h*w].

        `memory_slots`, `pointer_slots` int64 [K]: of all rows only these slots, in this order.
        """

    @abstractmethod
    def import_state(self, rows: NDArray[np.int64], state: dict[str, np.ndarray]) -> None:
        """Put an exported state into the rows. ValueError when keys, shapes or dtypes do not fit this
        engine."""

    @abstractmethod
    def free(self) -> None:
        """Give back all memory; the engine cannot be used afterwards."""


def check_capacity(config: NetworkConfig, capacity: EngineCapacity) -> None:
    """ValueError when the network does not read as many recent frames and pointers as the capacity says."""
    recent_slots, recent_pointers = config.num_maskmem - 1, config.max_pointers - 1
    if (capacity.recent_slots, capacity.recent_pointers) != (recent_slots, recent_pointers):
        raise ValueError(
            f"engine capacity: {config.name} reads {recent_slots} recent frames and {recent_pointers} recent "
            f"pointers, not {capacity.recent_slots} and {capacity.recent_pointers}"
        )


def check_state(state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError when an engine's exported state has not these arrays, of these shapes, in float32."""
    if state.keys() != shapes.keys():
        raise ValueError(f"engine state holds {sorted(state)}, expected {sorted(shapes)}")
    for name, expected in shapes.items():
        if state[name].shape != expected or state[name].dtype != np.float32:
            found = f"{state[name].dtype} {state[name].shape}"
            raise ValueError(f"engine state: {name} is {found}, this engine needs float32 {expected}")


def export_rows(
    banks: Mapping[str, NDArray[np.float32]],
    rows: NDArray[np.int64],
    memory_slots: NDArray[np.int64] | None,
    pointer_slots: NDArray[np.int64] | None,
) -> dict[str, np.ndarray]:
    """`Engine.export_state` of banks [max_objects, slots, ...] that lie in the machine's memory."""
    chosen = {"memory": memory_slots, "pointers": pointer_slots}
    return {
        name: bank[rows] if (slots := chosen.get(name)) is None else bank[np.ix_(rows, slots)]
        for name, bank in banks.items()
    }
