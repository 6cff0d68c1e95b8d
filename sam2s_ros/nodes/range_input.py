"""What tells how far things are: a depth image, or the right image of a stereo pair, each with its camera_info.

The tracked image never waits for the transport of these, unless `range_wait_s` allows it a bounded time. A set of
messages that belongs to an image is taken by the image's stamp, once its masks are there; a set that comes later is of
no use and is forgotten.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from sam2s_ros.nodes.image_messages import ImageMessageError, image_to_rgb
from sam2s_ros.nodes.messages import stamp_to_ns
from sam2s_ros.nodes.settings import NodeSettings
from sam2s_ros.nodes.time_synchronizer import new_filter, synchronize
from sam2s_ros.tracking import FrameResult
from sam2s_ros.tracking.camera import Calibration, Camera, CameraError, camera_of, stereo_of
from sam2s_ros.tracking.depth import locate_in_depth
from sam2s_ros.tracking.stereo import locate_in_pair
from sam2s_ros.tracking.surface import ObjectPositions

QUEUE = 8
"""Messages of each topic that wait for the others of their set, and sets that wait for their image."""
INPUT_QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
MOST_AHEAD_S = 10.0
"""Messages stamped so many seconds after the newest image are left out: they would fill the queue until then."""
MOST_WARNINGS = 32
"""Different warnings of one stream; their texts name sizes, so that a wild publisher has many."""
TOPICS: dict[str, tuple[tuple[str, type], ...]] = {
    "depth": (("camera_info", CameraInfo), ("depth", Image)),
    "stereo": (("camera_info", CameraInfo), ("right/image", Image), ("right/camera_info", CameraInfo)),
}

NOTHING_SEEN = {"depth": "no depth is known", "stereo": "nothing of the right image matches"}


@dataclass(frozen=True)
class _Tracked:
    """Stands for the tracked image in a set: its pixels need not wait."""

    header: Header


@dataclass(frozen=True)
class RangeCounts:
    """Images with objects since activation: how many got positions, how many none, and why the newest got none."""

    located: int = 0
    missed: int = 0
    trouble: str = ""


class RangeInput:
    """Subscribes what `range_input` names and turns the masks of an image into positions. Made on activate."""

    def __init__(self, node: Node, settings: NodeSettings) -> None:
        self._node, self._settings = node, settings
        self.counts = RangeCounts()
        self._changed = threading.Condition()
        self._sets: OrderedDict[int, tuple[Any, ...]] = OrderedDict()
        self._newest_ns = -1
        self._ahead = ""
        self._closed = False
        self._said: set[str] = set()
        group = MutuallyExclusiveCallbackGroup()
        self._subscriptions = [
            node.create_subscription(kind, topic, self._putter(place), INPUT_QOS, callback_group=group)
            for place, (topic, kind) in enumerate(TOPICS[settings.range_input], start=1)
        ]
        self._connect()

    def image_received(self, header: Header) -> None:
        """An image to be tracked has come. Stamps that go back begin a new stream: what waits is forgotten."""
        stamp = stamp_to_ns(header.stamp)
        if stamp < self._newest_ns:
            with self._changed:
                self._sets.clear()
            self._connect()
        self._newest_ns = stamp
        self._filters[0].signalMessage(_Tracked(header))

    def locate(
        self, image: npt.NDArray[np.uint8], header: Header, result: FrameResult
    ) -> ObjectPositions | None:
        """Positions of the objects of an image, uint8 [H, W, 3] RGB; None, and the reason logged, where none are known.

        To be called by the worker.
        """
        if len(result.ids) == 0 or result.needs_reset:
            return None
        found = self._take(stamp_to_ns(header.stamp))
        if found is None:
            self._missed(
                f"no {' and '.join(one.topic_name for one in self._subscriptions)} for this image by the time it was "
                "tracked: check that they are published with its stamp (sync_slop_s), or let it wait (range_wait_s)"
                + self._ahead
            )
            return None
        try:
            positions = self._positions(image, header, result, found)
        except (CameraError, ImageMessageError, cv2.error, np.linalg.LinAlgError) as error:
            self._missed(str(error))
            return None
        in_view = np.asarray(result.geometry.area) > 0
        if np.isfinite(positions.position[in_view]).all(axis=1).any():
            self.counts, self._ahead = replace(self.counts, located=self.counts.located + 1, trouble=""), ""
        elif in_view.any():
            self._missed(
                f"{NOTHING_SEEN[self._settings.range_input]} in the mask of any object: check its range "
                f"({self._settings.depth_min_m:g} to {self._settings.depth_max_m:g} m, depth_min_m and depth_max_m)"
            )
        return positions

    def destroy(self) -> None:
        """Undo the constructor."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for one in self._subscriptions:
            self._node.destroy_subscription(one)

    def _connect(self) -> None:
        self._filters = [new_filter() for _ in range(1 + len(self._subscriptions))]
        self._synchronizer = synchronize(self._filters, QUEUE, self._settings.sync_slop_s, self._on_set)

    def _putter(self, place: int) -> Callable[[Any], None]:
        topic = TOPICS[self._settings.range_input][place - 1][0]

        def put(message: Any) -> None:
            ahead_s = (stamp_to_ns(message.header.stamp) - self._newest_ns) * 1e-9
            if self._newest_ns >= 0 and ahead_s > MOST_AHEAD_S:
                self._ahead = (
                    f"; {topic} comes stamped {ahead_s:.0f} s after the newest image: check its clock"
                )
                return
            self._filters[place].signalMessage(message)

        return put

    def _on_set(self, tracked: _Tracked, *messages: Any) -> None:
        with self._changed:
            self._sets[stamp_to_ns(tracked.header.stamp)] = messages
            while len(self._sets) > QUEUE:
                self._sets.popitem(last=False)
            self._changed.notify_all()

    def _take(self, stamp_ns: int) -> tuple[Any, ...] | None:
        deadline = time.monotonic() + self._settings.range_wait_s
        with self._changed:
            while stamp_ns not in self._sets and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            found = self._sets.pop(stamp_ns, None)
            for older in [one for one in self._sets if one < stamp_ns]:
                del self._sets[older]
        return found

    def _positions(
        self, image: npt.NDArray[np.uint8], header: Header, result: FrameResult, found: tuple[Any, ...]
    ) -> ObjectPositions:
        settings, size = self._settings, result.image_size
        info = found[0]
        same_frame("camera_info", info.header.frame_id, header.frame_id)
        camera = camera_of(calibration_of(info), size, settings.image_rectification)
        limits = (settings.depth_min_m, settings.depth_max_m)
        if settings.range_input == "depth":
            depth, unit = read_depth(found[1], header.frame_id, size)
            return locate_in_depth(depth, unit, result.runs, result.geometry, camera, limits)
        return self._in_pair(image, result, camera, found[1], found[2], limits)

    def _in_pair(
        self,
        image: npt.NDArray[np.uint8],
        result: FrameResult,
        camera: Camera,
        message: Image,
        right_info: CameraInfo,
        limits: tuple[float, float],
    ) -> ObjectPositions:
        size = result.image_size
        if (message.height, message.width) != size:
            raise ImageMessageError(
                f"right/image has {message.width} x {message.height} pixels, the tracked image {size[1]} x {size[0]}: "
                "stereo needs a rectified pair of one size"
            )
        same_frame("right/camera_info", right_info.header.frame_id, message.header.frame_id, "right/image")
        right_camera = camera_of(calibration_of(right_info), size, self._settings.image_rectification)
        pair = stereo_of(camera, right_camera)
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        right = np.asarray(cv2.cvtColor(image_to_rgb(message), cv2.COLOR_RGB2GRAY), np.uint8)
        return locate_in_pair(grey, right, result.runs, result.geometry, pair, limits)

    def _missed(self, text: str) -> None:
        """Count the image, and say each trouble once in a stream; `counts` says what is still wrong."""
        self.counts = replace(self.counts, missed=self.counts.missed + 1, trouble=text)
        if text not in self._said and len(self._said) < MOST_WARNINGS:
            self._said.add(text)
            self._node.get_logger().warning(f"no 3-D positions: {text}")


def same_frame(name: str, frame_id: str, expected: str, of: str = "the tracked image") -> None:
    """Raise CameraError where two messages that must be of one optical frame are not."""
    if frame_id != expected:
        raise CameraError(
            f"{name} has frame_id '{frame_id}', {of} '{expected}': both must name the same optical frame"
        )


def calibration_of(info: CameraInfo) -> Calibration:
    """The fields of a CameraInfo."""
    roi = info.roi
    return Calibration(
        size=(info.height, info.width),
        k=list(info.k),
        d=list(info.d),
        p=list(info.p),
        model=info.distortion_model,
        roi=(roi.x_offset, roi.y_offset, roi.height, roi.width),
        binning=(info.binning_x, info.binning_y),
    )


def read_depth(
    message: Image, frame_id: str, size: tuple[int, int]
) -> tuple[npt.NDArray[np.float32] | npt.NDArray[np.uint16], float]:
    """A depth image, 32FC1 in m or 16UC1 in mm (REP 118), as a view [H, W] on the message, and its unit in m.

    Raises ImageMessageError or CameraError where it is none, or not registered with the image of `size` in `frame_id`.
    """
    kinds = {"32FC1": ("f4", 1.0), "16UC1": ("u2", 0.001), "mono16": ("u2", 0.001)}
    if message.encoding not in kinds:
        raise ImageMessageError(f"depth has encoding '{message.encoding}': publish 32FC1 in m or 16UC1 in mm")
    same_frame("depth", message.header.frame_id, frame_id)
    if (message.height, message.width) != size:
        raise ImageMessageError(
            f"depth has {message.width} x {message.height} pixels, the tracked image {size[1]} x {size[0]}: register "
            "the depth with the tracked image"
        )
    kind, unit = kinds[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    row = message.width * dtype.itemsize
    if message.step < row or len(message.data) < message.step * (message.height - 1) + row:
        raise ImageMessageError(
            f"depth {message.width}x{message.height} {message.encoding} with step {message.step} has only "
            f"{len(message.data)} bytes: check its publisher"
        )
    return np.ndarray(size, dtype, message.data, 0, (message.step, dtype.itemsize)), unit
