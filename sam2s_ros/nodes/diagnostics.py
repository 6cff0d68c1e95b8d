"""The node's health on /diagnostics, for `rqt_robot_monitor`, an aggregator, or a person with `ros2 topic echo`.

Five statuses, six with a range input, each named after the node (`tracker: stream`), with what an engineer would
ask for as key and value:

- stream: rates and drops since the last report, counts since activation, status and reason of `~/objects`;
- latency: p50, p90, p99 and maximum of every stage over the newest images;
- engine: which model and engine run, and why this one;
- memory: what the process holds, and what the tracker's memory has room for;
- objects: every object's state, presence, predicted IoU and age;
- positions: how many images got 3-D positions, and why the newest got none.

A report is made from counters and the newest array; it neither asks the worker nor waits for it, so that a node whose
engine hangs still reports, and says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from sam2s_msgs.msg import TrackedObjectArray
from sam2s_ros.engines.base import EngineDescription
from sam2s_ros.nodes.messages import stamp_to_ns
from sam2s_ros.nodes.range_input import RangeCounts
from sam2s_ros.nodes.stage_percentiles import StagePercentiles
from sam2s_ros.nodes.stream_counter import StreamCounts
from sam2s_ros.tracking import TrackState

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
MIN_TRACKED_SHARE = 0.5
"""Of the images received since the last report; below it the stream is reported as too fast for this machine."""
STATUS_NAMES = {
    TrackedObjectArray.OK: "OK",
    TrackedObjectArray.NO_INPUT: "NO_INPUT",
    TrackedObjectArray.STALE: "STALE",
    TrackedObjectArray.ENGINE_FAILED: "ENGINE_FAILED",
}


@dataclass(frozen=True)
class NodeHealth:
    """What a report is made of; all that the node knows at that moment.

    `status` and `reason` are those of the newest `~/objects`, `engine` is None before configure, `topic` empty while
    the node is not active, `positions` None without a range input.
    """

    topic: str = ""
    counts: StreamCounts = StreamCounts()
    newest: TrackedObjectArray | None = None
    engine: EngineDescription | None = None
    stale_after_s: float = 0.0
    max_objects: int = 0
    capacity: Mapping[str, str] = field(default_factory=dict)
    positions: RangeCounts | None = None
    stages: StagePercentiles = field(default_factory=StagePercentiles)


class Diagnostics:
    """Publishes a report every `period_s` seconds as long as the node lives, in whatever state.

    Args:
        node: reports in its name.
        health: gives what a report is made of; called on the timer's thread.
        period_s: 0 for no reports.
    """

    def __init__(self, node: Node, health: Callable[[], NodeHealth], period_s: float) -> None:
        self._node, self._health = node, health
        self._before: tuple[float, StreamCounts] | None = None
        if period_s > 0:
            qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
            self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos)
            self._timer = node.create_timer(
                period_s,
                self._report,
                callback_group=MutuallyExclusiveCallbackGroup(),
                clock=Clock(clock_type=ClockType.STEADY_TIME),
            )

    def _report(self) -> None:
        now_s, health = time.monotonic(), self._health()
        before, self._before = self._before, (now_s, health.counts)
        if before is None or health.counts.received < before[1].received:  # a stream has begun
            before = (now_s, health.counts)
        name = self._node.get_fully_qualified_name().lstrip("/")
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        parts = {
            "stream": stream_status(health, before[1], now_s - before[0]),
            "latency": latency_status(health),
            "engine": engine_status(health),
            "memory": memory_status(health),
            "objects": objects_status(health),
        }
        if health.positions is not None:
            parts["positions"] = positions_status(health.positions)
        for part, status in parts.items():
            status.name, status.hardware_id = f"{name}: {part}", health.topic or name
            message.status.append(status)
        self._publisher.publish(message)


def stream_status(health: NodeHealth, before: StreamCounts, seconds: float) -> DiagnosticStatus:
    """Rates since `before`, `seconds` ago (0: not known), and the status of the newest array."""
    now = health.counts
    values = {"topic": health.topic or "none, the node is not active"}
    if seconds > 0:
        for what in ("received", "tracked", "skipped", "lost"):
            values[f"{what} [Hz]"] = f"{(getattr(now, what) - getattr(before, what)) / seconds:.1f}"
    for what in ("received", "tracked", "skipped", "unreadable", "failed", "lost"):
        values[f"{what} since activation"] = str(getattr(now, what))
    level, text = _stream_level(health, before)
    return _status(level, text, values)


def latency_status(health: NodeHealth) -> DiagnosticStatus:
    """Percentiles of every stage; WARN where one image in a hundred is older than what counts as stale."""
    stages = health.stages.read()
    values = {}
    for name, (images, (p50, p90, p99, most)) in stages.items():
        values[f"{name} p50 p90 p99 max [ms]"] = " ".join(f"{1e3 * one:.1f}" for one in (p50, p90, p99, most))
        values["images"] = str(images)
    if not stages:
        return _status(OK, "no image tracked yet", values)
    _, total = stages.get("total", (0, None))
    if total is None:
        return _status(OK, "", values)
    text = f"p99 {1e3 * total[2]:.0f} ms from image stamp to publication"
    if 0 < health.stale_after_s < total[2]:
        limit_ms = 1e3 * health.stale_after_s
        return _status(WARN, f"{text}, more than stale_after_s ({limit_ms:.0f} ms)", values)
    return _status(OK, text, values)


def engine_status(health: NodeHealth) -> DiagnosticStatus:
    """What runs; ERROR while the newest image made it fail."""
    engine, newest = health.engine, health.newest
    if engine is None:
        return _status(WARN, "no model loaded: the node is not configured", {})
    values = {
        "model": engine.model,
        "weights SHA-256": engine.weights_sha256,
        "engine": f"{engine.name} {engine.version}",
        "precision": engine.precision,
        "device": engine.device,
        "threads": str(engine.threads),
        "image size [px]": str(engine.image_size),
        "chosen because": engine.reason,
    }
    if newest is not None and newest.status == TrackedObjectArray.ENGINE_FAILED:
        return _status(ERROR, newest.status_message, values)
    return _status(OK, f"{engine.model} on {engine.name} {engine.precision}", values)


def memory_status(health: NodeHealth) -> DiagnosticStatus:
    """Resident memory of the process; WARN when no further object can be added."""
    objects = len(health.newest.objects) if health.newest is not None else 0
    resident = resident_bytes()
    values = {"process resident [MiB]": f"{resident / 2**20:.0f}"} if resident else {}
    values |= {"objects": f"{objects} of {health.max_objects}", **health.capacity}
    if 0 < health.max_objects <= objects:
        text = f"all {objects} places for objects are taken: remove one, or raise max_objects"
        return _status(WARN, text, values)
    return _status(OK, f"{objects} of {health.max_objects} objects", values)


def objects_status(health: NodeHealth) -> DiagnosticStatus:
    """The objects of the newest array; WARN while one of them is not TRACKING."""
    newest = health.newest
    items = [] if newest is None else newest.objects
    values, troubled = {}, []
    for item in items:
        state = TrackState(item.state).name
        label = f"{item.id} {item.name or item.class_name}".strip()
        seen = stamp_to_ns(item.last_seen)
        age = (
            (stamp_to_ns(newest.header.stamp) - seen) * 1e-9 if newest is not None and seen else float("nan")
        )
        values[label] = (
            f"{state}, presence {item.presence:.2f}, predicted IoU {item.predicted_iou:.2f}, "
            f"seen {age:.1f} s before the newest image{f'; {item.state_reason}' if item.state_reason else ''}"
        )
        if item.state != TrackState.TRACKING:
            troubled.append(f"{label} {state}")
    text = ", ".join(troubled) or (f"all {len(items)} TRACKING" if items else "none")
    return _status(WARN if troubled else OK, text, values)


def positions_status(counts: RangeCounts) -> DiagnosticStatus:
    """WARN while the newest image with objects has no 3-D positions."""
    values = {"images with": str(counts.located), "images without": str(counts.missed)}
    if counts.trouble:
        return _status(WARN, f"none for the newest image: {counts.trouble}", values)
    return _status(OK, "OK" if counts.located else "no image with objects yet", values)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say (source: proc(5), statm)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _stream_level(health: NodeHealth, before: StreamCounts) -> tuple[bytes, str]:
    newest, now = health.newest, health.counts
    if not health.topic:
        return WARN, "not active"
    if newest is not None and newest.status != TrackedObjectArray.OK:
        level = WARN if newest.status == TrackedObjectArray.NO_INPUT else ERROR
        return level, f"{STATUS_NAMES[newest.status]}: {newest.status_message}"
    if (lost := now.lost - before.lost) > 0:
        return WARN, f"{lost} images lost in transport since the last report: set the DDS profile (README)"
    received, tracked = now.received - before.received, now.tracked - before.tracked
    if received >= 4 and tracked < MIN_TRACKED_SHARE * received:
        text = f"only {tracked} of {received} images tracked since the last report: too fast for this machine"
        return WARN, text
    return OK, "OK"


def _status(level: bytes, text: str, values: Mapping[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, message=text, values=pairs)
