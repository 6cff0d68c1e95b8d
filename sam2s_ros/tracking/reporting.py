"""From what the network saw of the objects to the `FrameResult` that the tracker hands out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import ABSENT_LOGIT, DecodeResult
from sam2s_ros.tracking.boundary import Boundary, find_boundary
from sam2s_ros.tracking.class_memory import ClassMemory
from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.geometry import MaskGeometry, measure
from sam2s_ros.tracking.geometry_uncertainty import with_subpixel_box, with_uncertainty
from sam2s_ros.tracking.kept_frames import KeptFrame
from sam2s_ros.tracking.masks import MaskUpsampler
from sam2s_ros.tracking.object_table import NEVER, ObjectRecord, ObjectTable, rows_of
from sam2s_ros.tracking.result import FrameResult
from sam2s_ros.tracking.runs import MaskRuns
from sam2s_ros.tracking.state_keeping import with_states
from sam2s_ros.tracking.states import TrackState
from sam2s_ros.tracking.stopwatch import Stopwatch
from sam2s_ros.tracking.uncertainty import mask_uncertainty


def report_frame(
    frame: KeptFrame,
    records: list[ObjectRecord],
    table: ObjectTable,
    upsampler: MaskUpsampler,
    insertions: NDArray[np.int64],
    classes: ClassMemory,
    config: TrackerConfig,
    behind: NDArray[np.int64],
    watch: Stopwatch,
) -> FrameResult:
    """The objects of these records as the frame showed them; `insertions` as `LongTermFilter` counts them.

    `behind` [N] is how many frames each of them is behind this one, which then shows nothing of it.
    """
    seen = without_those_behind(table.observation(rows_of(records), frame), behind)
    with watch.stage("masks"):
        given = given_masks(records, frame)
        runs = upsampler(seen.logits).with_masks(given)
    with watch.stage("geometry"):
        size = upsampler.image_size
        boundary = find_boundary(seen.logits, size)
        is_given = np.isin(np.arange(len(records)), list(given))
        geometry = with_subpixel_box(measure(runs), boundary, size, is_given)
        geometry = with_uncertainty(geometry, boundary, seen.iou, size, config.geometry)
    unjudged = (TrackState.UNCERTAIN,) * len(records)
    result = _result(
        frame.index,
        frame.stamp_ns,
        records,
        seen,
        runs,
        unjudged,
        geometry,
        boundary,
        insertions,
        classes,
        behind,
        watch,
    )
    return with_states(result, frame, records, config)


def report_lost(
    table: ObjectTable,
    image_size: tuple[int, int],
    stamp_ns: int,
    needs_reset: str,
    insertions: NDArray[np.int64],
    classes: ClassMemory,
    watch: Stopwatch,
) -> FrameResult:
    """No masks, all objects LOST, for an image that cannot be tracked on."""
    count = len(table)
    runs = MaskRuns.none(count, image_size)
    states, geometry = (TrackState.LOST,) * count, MaskGeometry.unknown(count)
    seen = table.nothing()
    records, behind = table.records, np.zeros(count, dtype=np.int64)
    boundary = find_boundary(seen.logits, image_size)
    return _result(
        NEVER,
        stamp_ns,
        records,
        seen,
        runs,
        states,
        geometry,
        boundary,
        insertions,
        classes,
        behind,
        watch,
        needs_reset,
    )


def _result(
    frame_index: int,
    stamp_ns: int,
    records: list[ObjectRecord],
    seen: DecodeResult,
    runs: MaskRuns,
    states: tuple[TrackState, ...],
    geometry: MaskGeometry,
    boundary: Boundary,
    insertions: NDArray[np.int64],
    classes: ClassMemory,
    behind: NDArray[np.int64],
    watch: Stopwatch,
    needs_reset: str = "",
) -> FrameResult:
    last_seen = last_seen_ns(records)
    rows = rows_of(records)
    probabilities = classes.probabilities(rows)
    class_names, class_scores = classes.most_probable(probabilities)
    return FrameResult(
        stamp_ns=stamp_ns,
        frame_index=frame_index,
        image_size=runs.image_size,
        ids=np.array([record.id for record in records], dtype=np.uint32),
        names=tuple(record.name for record in records),
        runs=runs,
        logits=seen.logits,
        presence=np.asarray(1 / (1 + np.exp(-np.clip(seen.object_score, -80, 80))), dtype=np.float32),
        iou=seen.iou,
        mask_uncertainty=mask_uncertainty(seen.logits),
        boundary_width=boundary.median_width(),
        states=states,
        geometry=geometry,
        velocity=np.full((len(records), 2), np.nan, dtype=np.float32),
        velocity_covariance=np.full((len(records), 2, 2), np.nan, dtype=np.float32),
        last_seen_ns=last_seen,
        age_s=ages_s(last_seen, stamp_ns),
        long_term_insertions=insertions[rows],
        classes=classes.names,
        class_names=class_names,
        class_scores=class_scores,
        class_probabilities=probabilities,
        frames_behind=behind,
        timings_ms=watch.timings_ms(),
        needs_reset=needs_reset,
        state_reasons=(needs_reset,) * len(records),
    )


def without_those_behind(seen: DecodeResult, behind: NDArray[np.int64]) -> DecodeResult:
    """What a frame showed, with nothing known of the objects that are behind it."""
    if not behind.any():
        return seen
    away, unknown = behind > 0, np.float32(np.nan)
    return DecodeResult(
        logits=np.where(away[:, None, None], np.float32(ABSENT_LOGIT), seen.logits),
        iou=np.where(away, unknown, seen.iou),
        object_score=np.where(away, unknown, seen.object_score),
    )


def given_masks(records: list[ObjectRecord], frame: KeptFrame) -> dict[int, NDArray[np.bool_]]:
    """The masks bool [H, W] that prompted objects on this very frame, by their place in `records`: they are the
    objects' masks there, exactly."""
    return {
        index: record.prompt.mask
        for index, record in enumerate(records)
        if record.prompt_frame == frame.index and record.prompt is not None and record.prompt.mask is not None
    }


def last_seen_ns(records: list[ObjectRecord]) -> NDArray[np.int64]:
    """Stamp of the last sight of each object, `NEVER` where there was none."""
    return np.array([record.last_seen_ns for record in records], dtype=np.int64)


def ages_s(last_seen: NDArray[np.int64], stamp_ns: int) -> NDArray[np.float64]:
    """Seconds from each last sight to a stamp; NaN where there was none, 0 where the stamps went back."""
    age = np.maximum(stamp_ns - last_seen, 0) / 1e9
    return np.where(last_seen == NEVER, np.nan, age)
