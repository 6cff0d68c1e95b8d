"""Writes MCAP bags as `bags` reads them: JPEG images, label images with the same stamps, names of the label values."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sam2s_ros.data.readers import read_rgb
from sam2s_ros.evaluation.bags import COMPRESSED_TYPE, IMAGE_TYPE, LABEL_TOPIC, NAMES_TOPIC, STRING_TYPE
from sam2s_ros.evaluation.mcap_checks import seal
from sam2s_ros.evaluation.sequences import ImageFolderSequence, LabelledFrame, read_labels

IMAGE_TOPIC = "/endoscope/image/compressed"
FRAME_ID = "endoscope"
JPEG_QUALITY = 95


class BagWriter:
    """One MCAP file with zstd chunks and their checksums, each message at the time of its own stamp (ns).

    The file is there, whole, once the writer is left in good order; one of that name is replaced. The same input gives
    the same bytes. Memory does not grow with its length.
    """

    def __init__(self, out: Path, frame_id: str = FRAME_ID, attribution: str = "") -> None:
        """`attribution`: source, authors, licence, kept in the bag's metadata; ValueError for a name without .mcap."""
        if out.suffix != ".mcap":
            raise ValueError(f"the bag must be named .mcap, not {out.name}")
        self._out, self._frame_id, self._attribution = out, frame_id, attribution
        self._store = get_typestore(Stores.ROS2_HUMBLE)  # its message types equal Jazzy's and Kilted's
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        """Open a file beside the one that is to be."""
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f".{self._out.stem}_", dir=self._out.parent))
        self._writer = Writer(self._folder / self._out.stem, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.set_custom_data("attribution", self._attribution)
        self._writer.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it and give it its name; remove it after an error."""
        try:
            self._writer.close()
            if kind is None:
                written = self._folder / self._out.stem / self._out.name
                seal(written)
                os.replace(written, self._out)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add_jpeg(self, stamp_ns: int, topic: str, data: NDArray[np.uint8]) -> None:
        """Add an image as the bytes [N] of a JPEG file, in the form of image_transport's compressed plugin."""
        header = self._header(stamp_ns)
        form = "bgr8; jpeg compressed bgr8"
        self._add(
            stamp_ns,
            topic,
            COMPRESSED_TYPE,
            self._message(COMPRESSED_TYPE, header=header, format=form, data=data),
        )

    def add_labels(
        self,
        stamp_ns: int,
        labels: NDArray[np.uint8],
        frame_id: str | None = None,
        time_ns: int | None = None,
    ) -> None:
        """Add a label image [H, W], with the frame and the time of its message where they are its image's."""
        height, width = labels.shape
        message = self._message(
            IMAGE_TYPE,
            header=self._header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding="mono8",
            is_bigendian=0,
            step=width,
            data=np.ascontiguousarray(labels).reshape(-1),
        )
        self._add(stamp_ns if time_ns is None else time_ns, LABEL_TOPIC, IMAGE_TYPE, message)

    def add_names(self, time_ns: int, names: Mapping[int, str]) -> None:
        """Add the names of the label values."""
        text = json.dumps({str(value): name for value, name in sorted(names.items())})
        self._add(time_ns, NAMES_TOPIC, STRING_TYPE, self._message(STRING_TYPE, data=text))

    def copy(self, bag: AnyReader, connection: Connection, time_ns: int, data: bytes | memoryview) -> None:
        """Add a message of another bag, byte for byte."""
        key = f"{connection.id} {connection.topic}"
        if key not in self._connections:
            assert isinstance(connection.ext, ConnectionExtRosbag2)
            self._connections[key] = self._writer.add_connection(
                connection.topic,
                connection.msgtype,
                msgdef=connection.msgdef.data,
                rihs01=connection.digest or bag.typestore.hash_rihs01(connection.msgtype),
                serialization_format=connection.ext.serialization_format,
                offered_qos_profiles=connection.ext.offered_qos_profiles,
            )
        self._writer.write(self._connections[key], time_ns, data)

    def _header(self, stamp_ns: int, frame_id: str | None = None) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        stamp = self._message("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._message(
            "std_msgs/msg/Header", stamp=stamp, frame_id=self._frame_id if frame_id is None else frame_id
        )

    def _message(self, message_type: str, **fields: Any) -> Any:
        return self._store.types[message_type](**fields)

    def _add(self, time_ns: int, topic: str, message_type: str, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, message_type, typestore=self._store)
        data = self._store.serialize_cdr(message, message_type)
        self._writer.write(self._connections[topic], time_ns, data)


def write_images(
    writer: BagWriter,
    sequence: ImageFolderSequence,
    image_topic: str = IMAGE_TOPIC,
    quality: int | None = None,
) -> int:
    """Write the images of a folder with their labels: a JPEG file's own bytes unless a quality is given.

    Returns how many images. Raises ValueError where an image or its labels cannot be read.
    """
    frames = sequence.paths()
    for index, (number, image_path, label_path) in enumerate(frames):
        stamp_ns = round(number * 1_000_000_000 / sequence.rate_hz)
        if index == 0 and sequence.label_names:
            writer.add_names(stamp_ns, sequence.label_names)
        writer.add_jpeg(stamp_ns, image_topic, _file_as_jpeg(image_path, quality))
        if label_path:
            writer.add_labels(stamp_ns, read_labels(label_path))
    return len(frames)


def write_frames(
    writer: BagWriter,
    frames: Iterable[LabelledFrame],
    names: Mapping[int, str],
    image_topic: str = IMAGE_TOPIC,
    quality: int = JPEG_QUALITY,
) -> int:
    """Write frames, each encoded as JPEG, with their labels; returns how many."""
    count = 0
    for frame in frames:
        if count == 0 and names:
            writer.add_names(frame.stamp_ns, names)
        writer.add_jpeg(frame.stamp_ns, image_topic, to_jpeg(frame.image, quality))
        if frame.labels is not None:
            writer.add_labels(frame.stamp_ns, frame.labels)
        count += 1
    return count


def to_jpeg(image_rgb: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> NDArray[np.uint8]:
    """The bytes [N] of a JPEG file of RGB uint8 [H, W, 3]."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), options)[1]
    return np.asarray(encoded, np.uint8).reshape(-1)


def _file_as_jpeg(path: Path, quality: int | None) -> NDArray[np.uint8]:
    if quality is None and path.suffix.lower() in (".jpg", ".jpeg"):
        return np.fromfile(path, np.uint8)
    return to_jpeg(read_rgb(path), JPEG_QUALITY if quality is None else quality)
