"""What is said of the objects to somebody who asks for a list of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.long_term import LongTermFilter
from sam2s_ros.tracking.memory_bank import MemoryBank
from sam2s_ros.tracking.object_table import ObjectRecord
from sam2s_ros.tracking.result import FrameResult, TrackedObjectInfo
from sam2s_ros.tracking.states import TrackState


def list_objects(
    records: Sequence[ObjectRecord],
    frames_behind: NDArray[np.int64],
    result: FrameResult | None,
    bank: MemoryBank,
    long_term: LongTermFilter,
) -> list[TrackedObjectInfo]:
    """All objects in the order of `records`, as `result`, the newest frame's, has them."""
    unseen = [(TrackState.UNCERTAIN, "", float("nan"))] * len(records)
    seen = (
        unseen if result is None else zip(result.states, result.class_names, result.class_scores, strict=True)
    )
    return [
        TrackedObjectInfo(
            id=record.id,
            name=record.name,
            state=state,
            added_stamp_ns=record.first.stamp_ns,
            last_seen_ns=record.last_seen_ns,
            frames_behind=int(behind),
            conditioning_frames=len(bank.conditioning_frames(record.row)),
            long_term_frames=tuple(bank.long_term_frames(record.row)),
            long_term_insertions=int(long_term.insertions[record.row]),
            class_name=class_name,
            class_score=float(class_score),
        )
        for record, behind, (state, class_name, class_score) in zip(records, frames_behind, seen, strict=True)
    ]
