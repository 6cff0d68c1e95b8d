"""Frames with ground truth from ROS 2 bags (MCAP or SQLite3).

Ground truth is one label image per frame: in a topic of the bag, mono8 with the stamp of its image, the names of the
label values as JSON in a std_msgs/String; or in a folder (`ground_truth`). Pure Python: rosbags reads and writes bags
without a ROS installation.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.image import ImageError, message_to_cvimage
from rosbags.interfaces import Connection

from sam2s_ros.evaluation.bag_messages import connections_of, messages_of, open_bag
from sam2s_ros.evaluation.ground_truth import FolderTruth, require_size
from sam2s_ros.evaluation.sequences import LabelledFrame

LABEL_TOPIC = "/ground_truth/labels"
NAMES_TOPIC = "/ground_truth/label_names"
IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = frozenset({IMAGE_TYPE, COMPRESSED_TYPE})
STRING_TYPE = "std_msgs/msg/String"
DIRECT_ENCODINGS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}  # channels
TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}
FILE_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND\xaeB`\x82"}  # of JPEG and PNG, by how they begin
PADDING = 64  # bytes that a camera driver may have put behind an image
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagSequence:
    """A recorded image topic with its ground truth, from a topic of the bag or from a folder (`FolderTruth`).

    `image_topic` may be left out where the bag has one image topic beside the ground truth.
    """

    path: Path
    image_topic: str | None = None
    label_topic: str = LABEL_TOPIC
    label_folder: Path | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """The bag's name without its suffix, unless it was given another."""
        return self.title or self.path.stem

    @cached_property
    def label_names(self) -> Mapping[int, str]:
        """Names by label value as recorded under /ground_truth/label_names, empty without that topic."""
        with open_bag(self.path) as bag:
            found = [
                one for one in bag.connections if one.topic == NAMES_TOPIC and one.msgtype == STRING_TYPE
            ]
            if not found:
                return {}
            for message in messages_of(bag, self.path, found):
                try:
                    return {int(value): str(name) for value, name in json.loads(message.data).items()}
                except (ValueError, AttributeError) as error:
                    raise ValueError(
                        f"{self.path}: {NAMES_TOPIC} holds no names by label value: {error}"
                    ) from None
        return {}

    def frames(self) -> Iterator[LabelledFrame]:
        """Each image in recorded order, with its labels: those of the same stamp, or as `FolderTruth` says.

        Raises:
            FileNotFoundError: there is no such bag.
            ValueError: the file is damaged, cut or empty, topics are missing, of another type or ambiguous, an image
                cannot be decoded, or ground truth has another size or belongs to no image.
        """
        with open_bag(self.path) as bag:
            connections = self.image_connections(bag)
            truth: FolderTruth | _TopicTruth
            if self.label_folder is not None:
                count = sum(connection.msgcount for connection in connections)
                truth = FolderTruth(self.label_folder, count, self.path)
            else:
                truth = _TopicTruth(bag, self.path, self.label_topic)
            for message in messages_of(bag, self.path, connections):
                stamp_ns = header_stamp_ns(message)
                image = decode_image(message, self.path, connections[0].topic)
                yield LabelledFrame(stamp_ns, image, truth.labels(stamp_ns, image.shape[:2]))
            truth.require_all_matched()

    def image_connections(self, bag: AnyReader) -> list[Connection]:
        """The image topic's connections.

        Raises:
            ValueError: there is none, or several and none is named; or it holds no image.
        """
        topic = self.image_topic
        if topic is None:
            topics = {one.topic for one in bag.connections if one.msgtype in IMAGE_TYPES}
            topics -= {self.label_topic, LABEL_TOPIC}
            if len(topics) != 1:
                known = ", ".join(sorted(topics))
                if not topics:
                    others = ", ".join(sorted(f"{one.topic} ({one.msgtype})" for one in bag.connections))
                    raise ValueError(
                        f"{self.path} has no topic of images ({' or '.join(sorted(IMAGE_TYPES))}); "
                        f"topics there: {others or 'none'}"
                    )
                raise ValueError(
                    f"{self.path}: name the image topic with --image-topic; image topics there: {known}"
                )
            (topic,) = topics
        found = connections_of(bag, self.path, topic, IMAGE_TYPES)
        if not sum(connection.msgcount for connection in found):
            raise ValueError(f"{self.path}: {topic} is empty: no image was recorded")
        return found


class _TopicTruth:
    """Label images of a topic, by the stamp of their image; both come in order of their stamps."""

    def __init__(self, bag: AnyReader, path: Path, topic: str) -> None:
        self._path, self._topic = path, topic
        self._messages = messages_of(bag, path, connections_of(bag, path, topic, IMAGE_TYPES))
        self._waiting = next(self._messages, None)
        self._matched = self._orphans = 0

    def labels(self, stamp_ns: int, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Labels uint8 [H, W] of the image with this stamp, None where it has none; ValueError for another size."""
        while self._waiting is not None and header_stamp_ns(self._waiting) < stamp_ns:
            self._pass()
        message = self._waiting
        if message is None or header_stamp_ns(message) != stamp_ns:
            return None
        self._waiting = next(self._messages, None)
        self._matched += 1
        try:
            labels = _labels(message)
        except ValueError as error:
            raise ValueError(f"{self._path}: {self._topic}, stamped {stamp_ns} ns: {error}") from error
        require_size(labels, size, f"{self._topic} of {self._path}", f"the image stamped {stamp_ns} ns")
        return labels

    def require_all_matched(self) -> None:
        """ValueError where no label image had an image; a warning where some had none, which were dropped frames."""
        while self._waiting is not None:
            self._pass()
        if self._orphans and not self._matched:
            raise ValueError(
                f"{self._path}: none of the {self._orphans} label images of {self._topic} has the stamp of an image; "
                "ground truth must carry the stamp of its image"
            )
        if self._orphans:
            LOG.warning(
                "%s: %d label images of %s belong to no recorded image and are not scored",
                *(self._path, self._orphans, self._topic),
            )

    def _pass(self) -> None:
        self._orphans += 1
        self._waiting = next(self._messages, None)


def decode_image(message: Any, path: Path, topic: str) -> NDArray[np.uint8]:
    """`image_to_rgb`; ValueError also names the bag, the topic and the stamp."""
    try:
        return image_to_rgb(message)
    except (ValueError, ImageError) as error:
        raise ValueError(f"{path}: {topic}, image stamped {header_stamp_ns(message)} ns: {error}") from error


def image_to_rgb(message: Any) -> NDArray[np.uint8]:
    """An Image or CompressedImage message as RGB uint8 [H, W, 3]; ValueError if it cannot be decoded."""
    if message.__msgtype__ == COMPRESSED_TYPE:
        image = _decompressed(message, cv2.IMREAD_COLOR)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    if message.encoding not in DIRECT_ENCODINGS:
        return np.asarray(message_to_cvimage(message, "rgb8"), np.uint8)
    pixels = _pixels(message, DIRECT_ENCODINGS[message.encoding])
    if message.encoding == "rgb8":
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(pixels, TO_RGB[message.encoding]), np.uint8)


def header_stamp_ns(message: Any) -> int:
    """The header stamp of a message in ns."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _decompressed(message: Any, flags: int) -> NDArray[Any]:
    data = message.data
    end = next((end for begin, end in FILE_ENDS.items() if data[:2].tobytes() == begin), b"")
    image = cv2.imdecode(data, flags) if data.size and end in data[-PADDING:].tobytes() else None
    if image is None:
        raise ValueError(
            f"a compressed image ({message.format}, {data.size} bytes) is cut or cannot be decoded"
        )
    return image


def _labels(message: Any) -> NDArray[np.uint8]:
    if message.__msgtype__ == COMPRESSED_TYPE:
        labels = _decompressed(message, cv2.IMREAD_UNCHANGED)
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(
                f"label images must have one channel of 8 bits, not {labels.shape} {labels.dtype}"
            )
        return np.asarray(labels, np.uint8)
    if message.encoding not in ("mono8", "8UC1"):
        raise ValueError(f"label images must be mono8, not {message.encoding}")
    return np.ascontiguousarray(_pixels(message, 1)[..., 0])


def _pixels(message: Any, channels: int) -> NDArray[np.uint8]:
    """A view [H, W, channels] of an Image's bytes that honours its row step."""
    if message.step < message.width * channels or message.data.size < message.step * message.height:
        raise ValueError(
            f"an image of {message.width}x{message.height} {message.encoding} with step {message.step} "
            f"cannot have {message.data.size} bytes"
        )
    strides = (message.step, channels, 1)
    return np.ndarray((message.height, message.width, channels), np.uint8, message.data, 0, strides)
