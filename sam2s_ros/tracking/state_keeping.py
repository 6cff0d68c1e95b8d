"""From the numbers of a `FrameResult` to the states of its objects, which their records remember for the next frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.kept_frames import KeptFrame
from sam2s_ros.tracking.object_table import ObjectRecord
from sam2s_ros.tracking.overlaps import nearest_twins
from sam2s_ros.tracking.result import FrameResult
from sam2s_ros.tracking.states import Judgement, ObjectStatus, Place, Sight, TrackState, next_status


def with_states(
    result: FrameResult, frame: KeptFrame, records: Sequence[ObjectRecord], config: TrackerConfig
) -> FrameResult:
    """The result with condition, states and their reasons; `records` are its objects, in its order.

    A frame may be judged more than once, as when a prompt changes what is known of it: each time from the status of the
    frame before. One older than the newest judged frame is judged by itself and changes no record. An object that is
    behind the frame is not judged on it.
    """
    behind, sights = result.frames_behind.tolist(), sights_of(result, records)
    statuses = [
        _on_its_way(frames) if frames else _judge(record, frame, sight, config)
        for record, frames, sight in zip(records, behind, sights, strict=True)
    ]
    return replace(
        result,
        condition=frame.condition,
        states=tuple(status.state for status in statuses),
        state_reasons=tuple(status.reason for status in statuses),
    )


def with_doubt(result: FrameResult, reason: str) -> FrameResult:
    """The result with every object UNCERTAIN or worse, for this reason and those that it had."""
    return replace(
        result,
        states=tuple(max(state, TrackState.UNCERTAIN) for state in result.states),
        state_reasons=tuple(
            one if reason in one else f"{reason}; {one}" if one else reason for one in result.state_reasons
        ),
    )


def _judge(record: ObjectRecord, frame: KeptFrame, sight: Sight, config: TrackerConfig) -> ObjectStatus:
    last = record.judgement
    trouble = frame.condition.reason
    if last is not None and frame.index < last.frame_index:
        return next_status(None, sight, config, trouble)
    before = None
    if last is not None:
        before = last.before if frame.index == last.frame_index else last.now
    record.judgement = Judgement(frame.index, before, next_status(before, sight, config, trouble))
    return record.judgement.now


def _on_its_way(frames_behind: int) -> ObjectStatus:
    images = "1 image" if frames_behind == 1 else f"{frames_behind} images"
    return ObjectStatus(
        TrackState.UNCERTAIN,
        f"joining: on its way from the prompted image to this one, {images} behind",
        0,
        0,
        None,
    )


def sights_of(result: FrameResult, records: Sequence[ObjectRecord]) -> list[Sight]:
    """What a result shows of each of its objects, and of those whose mask is another one's, whose."""
    overlap, whose = nearest_twins(result.logits)
    twins = list(zip(overlap.tolist(), result.ids[whose].tolist(), strict=True))
    for row, record in enumerate(records):
        twin = record.twin
        if twin is not None and twin.frame_index == result.frame_index and twin.iou > twins[row][0]:
            twins[row] = (twin.iou, twin.id)
    return [_sight(result, row, *twin) for row, twin in enumerate(twins)]


def _sight(result: FrameResult, row: int, twin_iou: float, twin_id: int) -> Sight:
    height, width = result.image_size
    area = float(result.geometry.area[row])
    place = None
    if not np.isnan(area):
        x, y = result.geometry.centroid[row] / np.hypot(height, width)
        place = Place(result.stamp_ns, float(x), float(y), area / (height * width))
    return Sight(
        present=bool(result.presence[row] > 0.5),
        iou=float(result.iou[row]),
        uncertainty=float(result.mask_uncertainty[row]),
        boundary=float(result.boundary_width[row] / np.sqrt(area)),
        place=place,
        age_s=float(result.age_s[row]),
        twin_iou=twin_iou,
        twin_id=twin_id,
    )
