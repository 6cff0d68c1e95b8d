"""Everything the node publishes: objects first, then what is only made when somebody wants it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2s_msgs.msg import LabelTable, SuggestionArray, TrackedObject, TrackedObjectArray
from sam2s_ros.engines.base import EngineDescription
from sam2s_ros.nodes.detections import detections_message, vision_messages
from sam2s_ros.nodes.image_messages import ImageWriter
from sam2s_ros.nodes.label_map import LabelMap, paint_labels
from sam2s_ros.nodes.messages import (
    label_table,
    latency_s,
    objects_array,
    set_counts,
    stage_latencies,
    told_class,
)
from sam2s_ros.nodes.object_topics import ObjectTopics
from sam2s_ros.nodes.overlay import draw_overlay
from sam2s_ros.nodes.settings import NodeSettings
from sam2s_ros.nodes.stage_percentiles import StagePercentiles
from sam2s_ros.nodes.stream_counter import StreamCounter
from sam2s_ros.nodes.suggestions import SuggestionPublisher
from sam2s_ros.tracking import FrameResult, TrackState
from sam2s_ros.tracking.surface import ObjectPositions
from sam2s_ros.tracking.uncertainty import image_uncertainty

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
PICTURES = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class TrackedFrame:
    """One image and what the tracker made of it: image uint8 [H, W, 3] RGB, stages name -> seconds so far.

    `trouble`: why nobody should act on the objects (status STALE); empty if nothing speaks against it.
    """

    header: Header
    image: npt.NDArray[np.uint8]
    result: FrameResult
    stages_s: dict[str, float]
    trouble: str = ""
    positions: ObjectPositions | None = None


@dataclass(frozen=True)
class LabelMeaning:
    """What the label table says: names, classes given by clients, and label values, by object id."""

    names: Mapping[int, str]
    class_names: Mapping[int, str]
    labels: Mapping[int, int]


@dataclass(frozen=True, eq=False)
class Unfilled:
    """A result of which no message has been made yet, with what was true when it came."""

    result: FrameResult
    header: Header
    labels: Mapping[int, int]
    class_names: Mapping[int, str]
    positions: ObjectPositions | None


class ResultPublisher:
    """Owns the publishers, the label values and the newest array, which heartbeats repeat. Made on configure.

    `publish`, `refresh` and `forget` are called by the worker, or while it rests; `repeat` by any thread.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: NodeSettings,
        engine: EngineDescription,
        session: str,
        resting: Mapping[int, float],
    ) -> None:
        """`resting`: `resting_labels` of the publisher before this one."""
        self._node, self._settings, self._engine, self._session = node, settings, engine, session
        self._counter = StreamCounter()
        self._vision = vision_messages()
        self._objects = self._publisher(TrackedObjectArray, "~/objects", objects_qos(settings))
        self._labels = self._publisher(Image, "~/labels", PICTURES)
        self._uncertainty = self._publisher(Image, "~/uncertainty", PICTURES)
        self._label_table = self._publisher(LabelTable, "~/label_table", LATCHED)
        self._suggested = self._publisher(SuggestionArray, "~/suggestions", LATCHED)
        self._suggestions = SuggestionPublisher(self._suggested)
        self._overlay = self._publisher(Image, "~/overlay", PICTURES)
        self._detections = None
        if self._vision is not None:
            self._detections = self._publisher(self._vision.Detection2DArray, "~/detections", RELIABLE)
        self._topics: ObjectTopics | None = None
        if settings.object_topics:
            self._topics = ObjectTopics(node, settings.range_input, RELIABLE)
        self._label_map = LabelMap(settings.label_rest_s, resting=resting)
        self._label_image, self._overlay_image = ImageWriter("mono8", 1), ImageWriter("rgb8", 3)
        self._uncertainty_image = ImageWriter("mono8", 1)
        self._newest = self._described(TrackedObjectArray())
        self._newest_lock = threading.Lock()
        self._unfilled: Unfilled | None = None
        self._header = Header()
        self._meaning = LabelMeaning({}, {}, {})
        self._class_names: dict[int, str] = {}
        self._last_publish_s = math.nan
        self.stages = StagePercentiles()
        """Stages of the newest images, and as `total` the time from image stamp to publication."""

    @property
    def newest(self) -> TrackedObjectArray:
        """The array published last, or about to be; not to be changed."""
        return self._newest

    def reconfigure(self, settings: NodeSettings) -> None:
        """Go on by settings that differ in `LIVE_PARAMETERS` only."""
        self._settings = settings

    def start(self, counter: StreamCounter) -> None:
        """Begin a stream, counted by `counter`: an empty label table says that nothing is tracked yet."""
        self._counter = counter
        self.stages.clear()
        self._meaning = LabelMeaning({}, {}, {})
        self._label_table.publish(label_table(self._header, self._session, {}, {}, {}))
        self._suggestions.start()

    def publish(self, frame: TrackedFrame) -> None:
        """Publish one tracked frame on every topic that is wanted, the objects first."""
        begun = time.perf_counter()
        self._take(frame.result, frame.header, frame.positions)
        with self._newest_lock:
            self._fill()
        filled = time.perf_counter()
        # how long publishing takes is only known afterwards, so the stage is that of the image before
        stages = {**frame.stages_s, "fill": filled - begun, "publish": self._last_publish_s}
        with self._newest_lock:
            self._newest.stage_latencies = stage_latencies(stages)
            reason = frame.trouble or frame.result.condition.reason
            self._send(TrackedObjectArray.STALE if frame.trouble else TrackedObjectArray.OK, reason)
            self.stages.add({**stages, "total": self._newest.latency})
        if self._topics is not None:
            right = None if frame.positions is None else frame.positions.right_centroid
            self._topics.publish(self._newest, right)
        self._suggestions.update(frame.result, frame.header, time.monotonic())
        self._publish_detections()
        self._publish_pictures(frame)
        self._last_publish_s = time.perf_counter() - filled

    def refresh(self, result: FrameResult) -> None:
        """Take a result as the newest, of the same image. Only a change of the label table or of what is suggested is
        published."""
        self._take(result, self._header, None)
        self._suggestions.update(result, self._header, time.monotonic())

    def _take(self, result: FrameResult, header: Header, positions: ObjectPositions | None) -> None:
        self._header = header
        ids = result.ids.tolist()
        if self._topics is not None:
            self._topics.keep(set(ids))
        self._class_names = {key: name for key, name in self._class_names.items() if key in ids}
        self._label_map.update(sorted(ids), time.monotonic())
        labels, class_names = self._label_map.labels(), dict(self._class_names)
        self._tell_labels(LabelMeaning(dict(zip(ids, result.names, strict=True)), class_names, labels))
        with self._newest_lock:
            self._unfilled = Unfilled(result, header, labels, class_names, positions)

    def _tell_labels(self, meaning: LabelMeaning) -> None:
        if meaning != self._meaning:
            self._meaning = meaning
            names = (meaning.names, meaning.class_names, meaning.labels)
            self._label_table.publish(label_table(self._header, self._session, *names))

    def _fill(self) -> None:
        """Make the newest array of the newest result, if it is not yet. With the lock held.

        Run lengths take a while, and many results are never published: a call of a service between two images that
        changes an object replaces the result of the image before.
        """
        if self._unfilled is None:
            return
        new, self._unfilled = self._unfilled, None
        most = self._settings.published_classes
        message = objects_array(new.result, new.header, new.labels, new.class_names, most, new.positions)
        stages = self._newest.stage_latencies
        self._newest = self._described(message)
        self._newest.stage_latencies = stages

    def repeat(self, status: int, reason: str) -> None:
        """Publish the newest array once more with its old header: a heartbeat, or a failed frame."""
        with self._newest_lock:
            self._send(status, reason)

    def assert_alive(self) -> None:
        """Assert the liveliness of ~/objects without publishing. To be called by the worker (see `heartbeat`)."""
        self._objects.assert_liveliness()

    def label(self, object_id: int) -> int:
        """The object's value in the label image; 0 if it has none."""
        return self._label_map.label(object_id)

    def set_class_name(self, object_id: int, class_name: str) -> None:
        """Remember the class that a client gave an object, as long as it is tracked."""
        self._class_names[object_id] = class_name

    def class_name(self, object_id: int) -> str:
        """The class that a client gave the object; empty if none."""
        return self._class_names.get(object_id, "")

    def told_class(self, object_id: int, seen: str, score: float) -> tuple[str, float]:
        """Class and score that are told of an object of which the tracker has seen one: `messages.told_class`."""
        return told_class(self.class_name(object_id), seen, score, self._settings.published_classes)

    @property
    def session(self) -> str:
        """Within which ids and labels mean the same."""
        return self._session

    def go_on_as(self, session: str, labels: Mapping[int, int]) -> None:
        """The objects of the next result are a snapshot's: take on its session, and the label values they had in it."""
        self._session = session
        self._label_map = LabelMap(self._settings.label_rest_s, labels, self.resting_labels())

    def resting_labels(self) -> Mapping[int, float]:
        """Label value -> when another object may have it, by the monotonic clock, for all that were given."""
        return self._label_map.resting(time.monotonic())

    def forget(self) -> None:
        """After a reset and before deactivation: free all label values, latch an empty table and no suggestion."""
        if self._topics is not None:
            self._topics.keep(())
        self._label_map.update((), time.monotonic())
        self._tell_labels(LabelMeaning({}, {}, {}))
        self._suggestions.forget()
        self._header = Header()
        with self._newest_lock:
            self._unfilled = None
            self._newest = self._described(TrackedObjectArray())

    def destroy(self) -> None:
        """Undo the constructor."""
        if self._topics is not None:
            self._topics.keep(())
        pictures = (self._labels, self._uncertainty, self._overlay)
        latched = (self._label_table, self._suggested)
        for publisher in (self._objects, *latched, self._detections, *pictures):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def _publisher(self, message_type: type, topic: str, qos: QoSProfile) -> Any:
        """A lifecycle publisher without rclpy's event callbacks, of which each is two more things that the executor
        waits for with every image; a subscriber of another QoS is warned on its own side."""
        callbacks = PublisherEventCallbacks(use_default_callbacks=False)
        return self._node.create_lifecycle_publisher(message_type, topic, qos, event_callbacks=callbacks)

    def _send(self, status: int, reason: str) -> None:
        self._fill()
        message = self._newest
        message.status, message.status_message = status, reason
        set_counts(message, self._counter.counts())
        message.published = self._node.get_clock().now().to_msg()
        if message.image_width:
            message.latency = latency_s(message.header.stamp, message.published)
        self._objects.publish(message)

    def _described(self, message: TrackedObjectArray) -> TrackedObjectArray:
        message.session = self._session
        message.model, message.model_sha256 = self._engine.model, self._engine.weights_sha256
        message.engine = f"{self._engine.name} {self._engine.precision} {self._engine.device}"
        message.latency = math.nan
        return message

    def _publish_detections(self) -> None:
        publisher, vision = self._detections, self._vision
        if publisher is not None and vision is not None and publisher.get_subscription_count():
            publisher.publish(detections_message(vision, self._newest))

    def _publish_pictures(self, frame: TrackedFrame) -> None:
        if self._uncertainty.get_subscription_count():
            image = self._uncertainty_image.pixels(*frame.result.image_size)
            paint_uncertainty(image, frame.result)
            self._uncertainty_image.message.header = frame.header
            self._uncertainty.publish(self._uncertainty_image.message)
        wants_labels = self._settings.labels_always or self._labels.get_subscription_count() > 0
        wants_overlay = self._overlay.get_subscription_count() > 0
        if not (wants_labels or wants_overlay):
            return
        result = frame.result
        height, width = result.image_size
        label_image = self._label_image.pixels(height, width)
        values = np.array([self._label_map.label(int(one)) for one in result.ids], np.uint8)
        paint_labels(label_image, result.runs, result.logits, values)
        if wants_labels:
            self._label_image.message.header = frame.header
            self._labels.publish(self._label_image.message)
        if wants_overlay:
            self._overlay_image.message.header = frame.header
            overlay = self._overlay_image.pixels(height, width)
            draw_overlay(frame.image, label_image, self._captions(), overlay, self._settings.overlay_alpha)
            self._overlay.publish(self._overlay_image.message)

    def _captions(self) -> list[tuple[int, str]]:
        return [(item.label, _caption(item)) for item in self._newest.objects if item.label]


def objects_qos(settings: NodeSettings) -> QoSProfile:
    """QoS of ~/objects: a subscriber with default QoS matches, one may ask for the deadline and liveliness offered."""
    qos = QoSProfile(depth=RELIABLE.depth, reliability=RELIABLE.reliability)
    if settings.objects_deadline_s > 0:
        qos.deadline = Duration(seconds=settings.objects_deadline_s)
    if settings.liveliness_lease_s > 0:
        qos.liveliness = LivelinessPolicy.MANUAL_BY_TOPIC
        qos.liveliness_lease_duration = Duration(seconds=settings.liveliness_lease_s)
    return qos


def _caption(item: TrackedObject) -> str:
    state = "" if item.state == TrackState.TRACKING else f" {TrackState(item.state).name.lower()}"
    return f"{item.id} {item.name or item.class_name}{state}"


def paint_uncertainty(out: npt.NDArray[np.uint8], result: FrameResult) -> None:
    """Write into `out` uint8 [H, W] how undecided the least certain object is at each pixel: 0 sure .. 255."""
    out[:] = 0
    for row in range(len(result.ids)):
        uncertainty = image_uncertainty(result.logits[row : row + 1], result.image_size)[0]
        np.maximum(out, np.rint(255 * uncertainty).astype(np.uint8), out=out)
