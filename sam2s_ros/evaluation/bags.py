"""Frames with ground truth from ROS 2 bags (MCAP or SQLite3).

Ground truth is one mono8 label image per frame with the stamp of its image, and the names of the label values
as JSON in a std_msgs/String. Pure Python: rosbags reads and writes bags without a ROS installation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.image import message_to_cvimage
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from sam2s_ros.evaluation.sequences import LabelledFrame

LABEL_TOPIC = "/ground_truth/labels"
NAMES_TOPIC = "/ground_truth/label_names"
IMAGE_TYPE = "sensor_msgs/msg/Image"
COMPRESSED_TYPE = "sensor_msgs/msg/CompressedImage"
STRING_TYPE = "std_msgs/msg/String"
DIRECT_ENCODINGS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}  # channels
TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}


def is_bag(path: Path) -> bool:
    """Whether a path looks like a ROS 2 bag: an .mcap or .db3 file, or a folder with metadata.yaml."""
    return path.suffix in (".mcap", ".db3") or (path / "metadata.yaml").is_file()


@dataclass(frozen=True)
class BagSequence:
    """A recorded image topic with the ground truth recorded beside it.

    `image_topic` may be left out where the bag has one image topic beside the ground truth.
    """

    path: Path
    image_topic: str | None = None
    label_topic: str = LABEL_TOPIC

    @property
    def name(self) -> str:
        """The bag's name without its suffix."""
        return self.path.stem

    @cached_property
    def label_names(self) -> Mapping[int, str]:
        """Names by label value as recorded under /ground_truth/label_names, empty without that topic."""
        with _open(self.path) as bag:
            for connection in bag.connections:
                if connection.topic == NAMES_TOPIC and connection.msgtype == STRING_TYPE:
                    for _, _, data in bag.messages([connection]):
                        message: Any = bag.deserialize(data, STRING_TYPE)
                        return {int(value): str(name) for value, name in json.loads(message.data).items()}
        return {}

    def frames(self) -> Iterator[LabelledFrame]:
        """Each image in recorded order, with the labels of the same stamp.

        Raises:
            FileNotFoundError: there is no such bag.
            ValueError: the topics are missing or ambiguous, or an image cannot be decoded.
        """
        with _open(self.path) as bag:
            labels = _stamped(bag, _connection(bag, self.label_topic, self.path))
            waiting = next(labels, None)
            for stamp_ns, message in _stamped(bag, self._image_connection(bag)):
                while waiting is not None and waiting[0] < stamp_ns:
                    waiting = next(labels, None)
                truth = _labels(waiting[1]) if waiting is not None and waiting[0] == stamp_ns else None
                yield LabelledFrame(stamp_ns, image_to_rgb(message), truth)

    def _image_connection(self, bag: AnyReader) -> Connection:
        if self.image_topic is not None:
            return _connection(bag, self.image_topic, self.path)
        images = [
            connection
            for connection in bag.connections
            if connection.msgtype in (IMAGE_TYPE, COMPRESSED_TYPE) and connection.topic != self.label_topic
        ]
        if len(images) != 1:
            topics = ", ".join(sorted(connection.topic for connection in images)) or "none"
            raise ValueError(
                f"{self.path}: name the image topic with --image-topic; image topics there: {topics}"
            )
        return images[0]


def image_to_rgb(message: Any) -> NDArray[np.uint8]:
    """An Image or CompressedImage message as RGB uint8 [H, W, 3]; ValueError if it cannot be decoded."""
    if message.__msgtype__ == COMPRESSED_TYPE:
        image = cv2.imdecode(message.data, cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(
                f"a compressed image ({message.format}, {message.data.size} bytes) cannot be decoded"
            )
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    if message.encoding not in DIRECT_ENCODINGS:
        return np.asarray(message_to_cvimage(message, "rgb8"), np.uint8)
    pixels = _pixels(message, DIRECT_ENCODINGS[message.encoding])
    if message.encoding == "rgb8":
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(pixels, TO_RGB[message.encoding]), np.uint8)


def _labels(message: Any) -> NDArray[np.uint8]:
    if message.__msgtype__ != IMAGE_TYPE or message.encoding not in ("mono8", "8UC1"):
        raise ValueError(f"label images must be sensor_msgs/Image in mono8, not {message.__msgtype__}")
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


@contextmanager
def _open(path: Path) -> Iterator[AnyReader]:
    if not path.exists():
        raise FileNotFoundError(f"there is no bag {path}")
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as bag:
            yield bag
    except AnyReaderError as error:
        raise ValueError(f"{path} is no readable ROS 2 bag: {error}") from error


def _connection(bag: AnyReader, topic: str, path: Path) -> Connection:
    for connection in bag.connections:
        if connection.topic == topic and connection.msgtype in (IMAGE_TYPE, COMPRESSED_TYPE):
            return connection
    topics = ", ".join(sorted({connection.topic for connection in bag.connections})) or "none"
    raise ValueError(f"{path} has no image topic {topic}; topics there: {topics}")


def _stamped(bag: AnyReader, connection: Connection) -> Iterator[tuple[int, Any]]:
    """(header stamp in ns, message) of one topic, in recorded order."""
    for _, _, data in bag.messages([connection]):
        message: Any = bag.deserialize(data, connection.msgtype)
        stamp = message.header.stamp
        yield stamp.sec * 1_000_000_000 + stamp.nanosec, message
