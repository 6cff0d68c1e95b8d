"""Tracking: prompts, memory bookkeeping, the streaming tracker and mask geometry. No ROS here."""

from __future__ import annotations

from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.errors import (
    FrameError,
    ImageSizeChangedError,
    ObjectBehindError,
    PromptError,
    SnapshotError,
    TooManyObjectsError,
    UnknownObjectError,
    UnknownStampError,
)
from sam2s_ros.tracking.geometry import MaskGeometry
from sam2s_ros.tracking.image_condition import ImageCondition
from sam2s_ros.tracking.loader import load_tracker
from sam2s_ros.tracking.result import FrameResult, TrackedObjectInfo
from sam2s_ros.tracking.snapshot import Snapshot
from sam2s_ros.tracking.snapshot_files import read_snapshot, write_snapshot
from sam2s_ros.tracking.states import TrackState
from sam2s_ros.tracking.tracker import StreamingTracker

__all__ = [
    "FrameError",
    "FrameResult",
    "ImageCondition",
    "ImageSizeChangedError",
    "MaskGeometry",
    "ObjectBehindError",
    "PromptError",
    "Snapshot",
    "SnapshotError",
    "StreamingTracker",
    "TooManyObjectsError",
    "TrackState",
    "TrackedObjectInfo",
    "TrackerConfig",
    "UnknownObjectError",
    "UnknownStampError",
    "load_tracker",
    "read_snapshot",
    "write_snapshot",
]
