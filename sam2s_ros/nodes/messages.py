"""Results of the tracker as messages. The only place that fills in sam2s_msgs fields."""

from __future__ import annotations

import array
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from sam2s_msgs.msg import (
    BoundingBox2D,
    ClassScore,
    ErrorCode,
    LabelEntry,
    LabelTable,
    MaskSummary,
    Point2D,
    RleMask,
    StageLatency,
    TrackedObject,
    TrackedObjectArray,
    Vector2D,
)
from sam2s_ros.nodes.stream_counter import StreamCounts
from sam2s_ros.tracking import FrameResult, rle
from sam2s_ros.tracking.surface import ObjectPositions

NAN = math.nan
ERROR_NAMES: dict[int, str] = {
    getattr(ErrorCode, name): name
    for name in dir(ErrorCode)
    if name.isupper() and isinstance(getattr(ErrorCode, name), int)
}
"""Constant of sam2s_msgs/ErrorCode -> its name."""
_LARGEST_LATENCY_S = 3600.0  # beyond this, the camera's clock and ours are not the same


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds of a stamp."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def ns_to_stamp(ns: int) -> Time:
    """Stamp of a time in nanoseconds; a negative one, which stands for "never", becomes 0."""
    ns = max(ns, 0)
    return Time(sec=ns // 1_000_000_000, nanosec=ns % 1_000_000_000)


def latency_s(earlier: Time, later: Time) -> float:
    """Seconds from one stamp to a later one; NaN if that is negative or absurd, so the clocks differ."""
    seconds = (stamp_to_ns(later) - stamp_to_ns(earlier)) * 1e-9
    return seconds if 0.0 <= seconds <= _LARGEST_LATENCY_S else NAN


def objects_array(
    result: FrameResult,
    header: Header,
    labels: Mapping[int, int],
    class_names: Mapping[int, str],
    most_classes: int = 0,
    positions: ObjectPositions | None = None,
) -> TrackedObjectArray:
    """All objects of one tracked frame, without what describes node and stream.

    `labels` and `class_names` are by id; a class named there takes the place of the one that the tracker sees, and has
    no score. `most_classes`: how many class probabilities are given per object; 0: nothing of what the tracker sees of
    classes. `positions`: in the result's order.
    """
    message = TrackedObjectArray(header=header)
    message.image_height, message.image_width = result.image_size
    message.image_condition = int(result.condition)
    message.objects = [_tracked_object(result, row) for row in range(len(result.ids))]
    for one in message.objects:
        one.label = labels.get(one.id, 0)
        given = class_names.get(one.id, "")
        one.class_name, one.class_score = told_class(given, one.class_name, one.class_score, most_classes)
    for one, probabilities in zip(message.objects, result.class_probabilities, strict=True):
        one.class_probabilities = class_scores(result.classes, probabilities, most_classes)
    if positions is not None:
        for row, one in enumerate(message.objects):
            _set_position(one, positions, row)
    return message


def told_class(given: str, seen: str, score: float, most_classes: int) -> tuple[str, float]:
    """The class that a client has given, which has no score; else the one that the tracker has seen, with its score; ""
    and NaN where `most_classes` is 0, so that nothing is told of what it sees."""
    return (seen, score) if most_classes and not given else (given, NAN)


def class_scores(
    classes: Sequence[str], probabilities: npt.NDArray[np.float32], most: int
) -> list[ClassScore]:
    """At most `most` of the classes [K], the most probable first; none where the probabilities [K] are not known."""
    if np.isnan(probabilities).any():
        return []
    order = np.argsort(-probabilities, kind="stable")[:most]
    return [ClassScore(name=classes[row], probability=float(probabilities[row])) for row in order]


def stage_latencies(stages_s: Mapping[str, float]) -> list[StageLatency]:
    """Stages in order of execution, from name -> seconds."""
    return [StageLatency(stage=stage, duration=float(seconds)) for stage, seconds in stages_s.items()]


def set_counts(message: TrackedObjectArray, counts: StreamCounts) -> None:
    """Copy the stream's counts into the array."""
    message.frames_received = counts.received
    message.frames_tracked = counts.tracked
    message.frames_skipped = counts.skipped
    message.frames_lost = counts.lost


def _tracked_object(result: FrameResult, row: int) -> TrackedObject:
    geometry = result.geometry
    message = TrackedObject()
    _set_unknown(message)
    message.id = int(result.ids[row])
    message.name = result.names[row]
    message.class_name = result.class_names[row]
    message.class_score = float(result.class_scores[row])
    message.state = int(result.states[row])
    message.state_reason = result.state_reasons[row]
    message.presence = float(result.presence[row])
    message.predicted_iou = float(result.iou[row])
    message.uncertainty = float(result.mask_uncertainty[row])
    message.boundary_width = float(result.boundary_width[row])
    message.last_seen = ns_to_stamp(int(result.last_seen_ns[row]))
    message.mask_age = 0.0 if _has_mask(result, row) else NAN
    message.centroid = point_message(geometry.centroid[row])
    message.tip = point_message(geometry.tip[row])
    message.axis = _vector(geometry.axis[row])
    message.axis_angle_variance = float(geometry.axis_angle_variance[row])
    message.axis_length = float(geometry.axis_length[row])
    message.bounding_box = box_message(geometry.box[row])
    message.area = _area(result, row)
    message.velocity = _vector(result.velocity[row])
    message.centroid_covariance = geometry.centroid_covariance[row].ravel().astype(np.float64)
    message.tip_covariance = geometry.tip_covariance[row].ravel().astype(np.float64)
    message.bounding_box_variance = geometry.box_variance[row].astype(np.float64)
    message.velocity_covariance = result.velocity_covariance[row].ravel().astype(np.float64)
    message.long_term_insertions = int(result.long_term_insertions[row])
    if _has_mask(result, row):
        (height, width), runs = result.image_size, result.runs.of(row)
        message.mask = _rle_message(rle.encode_runs(runs, result.image_size), height, width)
    return message


def _has_mask(result: FrameResult, row: int) -> bool:
    """Whether a mask was made on this image: not where the tracker needs a reset, nor of an object on its way to it."""
    return not result.needs_reset and result.frames_behind[row] == 0


def _area(result: FrameResult, row: int) -> float:
    """0 for a mask without any pixel, whose other measures are NaN; NaN where no mask was made at all."""
    if not _has_mask(result, row):
        return NAN
    area = float(result.geometry.area[row])
    return area if math.isfinite(area) else 0.0


def _set_unknown(message: TrackedObject) -> None:
    """Mark as not known what needs another camera or a depth image, so that no default 0 is taken for a value."""
    for name in ("position", "tip_position"):
        point = getattr(message, name)
        point.x = point.y = point.z = NAN
        setattr(message, f"{name}_covariance", np.full(9, NAN))


def _set_position(message: TrackedObject, positions: ObjectPositions, row: int) -> None:
    """Fill in the 3-D fields as far as they are known."""
    message.has_position = bool(np.isfinite(positions.position[row]).all())
    if not message.has_position:
        return
    for name in ("position", "tip_position"):
        point, values = getattr(message, name), getattr(positions, name)[row]
        point.x, point.y, point.z = (float(one) for one in values)
        setattr(message, f"{name}_covariance", getattr(positions, f"{name}_covariance")[row].ravel())


def rle_message(mask: npt.NDArray[np.bool_]) -> RleMask:
    """A mask bool [H, W] as run lengths."""
    height, width = mask.shape
    return _rle_message(rle.encode(mask), height, width)


def _rle_message(counts: npt.NDArray[np.uint32], height: int, width: int) -> RleMask:
    return RleMask(height=height, width=width, counts=array.array("I", counts.tobytes()))


def mask_summary(result: FrameResult, object_id: int) -> MaskSummary:
    """What a console needs to judge one object's mask; all unknown if the result does not hold the object."""
    rows = np.flatnonzero(result.ids == object_id)
    if rows.size == 0:
        return unknown_summary()
    row, geometry = int(rows[0]), result.geometry
    return MaskSummary(
        state=int(result.states[row]),
        presence=float(result.presence[row]),
        predicted_iou=float(result.iou[row]),
        area=_area(result, row),
        centroid=point_message(geometry.centroid[row]),
        bounding_box=box_message(geometry.box[row]),
    )


def unknown_summary() -> MaskSummary:
    """The summary where no mask was made."""
    unknown = np.full(4, NAN)
    return MaskSummary(
        state=TrackedObject.LOST,
        presence=NAN,
        predicted_iou=NAN,
        area=NAN,
        centroid=point_message(unknown),
        bounding_box=box_message(unknown),
    )


def label_table(
    header: Header,
    session: str,
    names: Mapping[int, str],
    class_names: Mapping[int, str],
    labels: Mapping[int, int],
) -> LabelTable:
    """The meaning of the label values: names, class names and `labels` are by object id."""
    entries = [
        LabelEntry(label=label, id=key, name=names.get(key, ""), class_name=class_names.get(key, ""))
        for key, label in sorted(labels.items(), key=lambda item: item[1])
    ]
    return LabelTable(header=header, session=session, entries=entries)


def point_message(xy: Sequence[float] | npt.NDArray[Any]) -> Point2D:
    """The point x, y."""
    return Point2D(x=float(xy[0]), y=float(xy[1]))


def _vector(xy: Sequence[float] | npt.NDArray[Any]) -> Vector2D:
    return Vector2D(x=float(xy[0]), y=float(xy[1]))


def box_message(corners: Sequence[float] | npt.NDArray[Any]) -> BoundingBox2D:
    """The box x_min, y_min, x_max, y_max."""
    return BoundingBox2D(
        x_min=float(corners[0]), y_min=float(corners[1]), x_max=float(corners[2]), y_max=float(corners[3])
    )
