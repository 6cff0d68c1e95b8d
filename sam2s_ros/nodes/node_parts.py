"""What the tracker node holds in each of its lifecycle states, and one image on its way through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rclpy.timer import Timer

from sam2s_ros.engines.base import EngineDescription
from sam2s_ros.nodes.audit_log import AuditLog
from sam2s_ros.nodes.frame_worker import FrameWorker
from sam2s_ros.nodes.image_source import ImageSource, ReceivedImage
from sam2s_ros.nodes.late_objects import LateObjects
from sam2s_ros.nodes.prompt_services import PromptServices
from sam2s_ros.nodes.range_input import RangeInput
from sam2s_ros.nodes.result_publisher import ResultPublisher
from sam2s_ros.nodes.settings import NodeSettings
from sam2s_ros.nodes.snapshots import Snapshots
from sam2s_ros.nodes.start_prompts import StartPrompts
from sam2s_ros.nodes.stream_watch import StreamWatch
from sam2s_ros.tracking import StreamingTracker
from sam2s_ros.tracking.prompts_file import StartPrompt


@dataclass(frozen=True)
class PreparedImage:
    """A received image as an array that the tracker has encoded ahead, and how long each part of that took."""

    received: ReceivedImage
    image: npt.NDArray[np.uint8]
    stages_s: dict[str, float]
    ready_s: float

    def stages(self, waited_s: float, timings_ms: Mapping[str, float], settled_s: float) -> dict[str, float]:
        """Seconds by stage, with how long the image waited for the tracker, the tracker's own milliseconds, and how
        long the engine took to remember the image before it."""
        stages_s = dict(self.stages_s)
        for stage, duration_ms in timings_ms.items():
            if stage != "total":
                stages_s[stage] = duration_ms * 1e-3
            if stage == "encode":
                stages_s["wait"] = waited_s
            elif stage == "memorise":
                stages_s[stage] += settled_s
        return stages_s


@dataclass
class Configured:
    """What exists from configure to cleanup."""

    settings: NodeSettings
    worker: FrameWorker[ReceivedImage, PreparedImage]
    tracker: StreamingTracker
    engine: EngineDescription
    results: ResultPublisher
    late_objects: LateObjects
    services: PromptServices
    audit: AuditLog
    snapshots: Snapshots
    start_prompts: list[StartPrompt]


@dataclass
class Active:
    """What exists from activate to deactivate."""

    source: ImageSource
    watch: StreamWatch
    timers: tuple[Timer, ...]
    start_prompts: StartPrompts
    range_input: RangeInput | None
    settled_s: float = 0.0
    """How long the engine took to remember the image before, once its objects were out."""
