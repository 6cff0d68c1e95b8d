"""`sam2s make-bag`: an MCAP bag with ground truth from a folder of images and one of label images.

The bundled test/data/vocalfolds_seq4.mcap is made by it; the exact command is in test/data/README.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sam2s_ros.data.readers import read_rgb
from sam2s_ros.evaluation.bags import COMPRESSED_TYPE, IMAGE_TYPE, LABEL_TOPIC, NAMES_TOPIC, STRING_TYPE
from sam2s_ros.evaluation.sequences import (
    DEFAULT_RATE_HZ,
    ImageFolderSequence,
    find_folder_sequences,
    read_labels,
)

HELP = "make an MCAP bag with ground truth from an image folder"
IMAGE_TOPIC = "/endoscope/image/compressed"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s make-bag`."""
    parser.add_argument("images", type=Path, help="folder of images; the number in a name gives the order")
    parser.add_argument("out", type=Path, help="the .mcap file to write; an existing one is replaced")
    parser.add_argument(
        "--labels", type=Path, help="folder of label images (found by itself in known layouts)"
    )
    parser.add_argument(
        "--rate", type=float, default=DEFAULT_RATE_HZ, help="stamp = frame number / rate (Hz)"
    )
    parser.add_argument("--frame-id", default="endoscope", help="frame_id of every message")
    parser.add_argument("--image-topic", default=IMAGE_TOPIC, help="topic of the images")
    parser.add_argument(
        "--jpeg-quality", type=int, help="re-encode at this quality (default: the files' own bytes)"
    )
    parser.add_argument(
        "--attribution", default="", help="source, authors and licence, kept in the bag's metadata"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the bag and print its size."""
    sequences = find_folder_sequences(arguments.images, arguments.labels, arguments.rate)
    if len(sequences) != 1:
        names = ", ".join(sequence.name for sequence in sequences)
        raise ValueError(f"{arguments.images} holds {len(sequences)} sequences, a bag takes one of: {names}")
    frames = write_bag(
        sequences[0],
        arguments.out,
        frame_id=arguments.frame_id,
        image_topic=arguments.image_topic,
        jpeg_quality=arguments.jpeg_quality,
        attribution=arguments.attribution,
    )
    print(f"{arguments.out}: {frames} frames, {arguments.out.stat().st_size / 1e6:.2f} MB")
    return 0


def write_bag(
    sequence: ImageFolderSequence,
    out: Path,
    *,
    frame_id: str = "endoscope",
    image_topic: str = IMAGE_TOPIC,
    jpeg_quality: int | None = None,
    attribution: str = "",
) -> int:
    """Write a sequence as one MCAP file with zstd chunks; the same input gives the same bytes. Returns the
    frames.

    Raises:
        ValueError: the file is not named .mcap, or an image or its labels cannot be read.
    """
    if out.suffix != ".mcap":
        raise ValueError(f"the bag must be named .mcap, not {out.name}")
    typestore = get_typestore(Stores.ROS2_HUMBLE)  # its message types equal Jazzy's and Kilted's
    with tempfile.TemporaryDirectory() as folder:
        bag = Path(folder) / out.stem
        writer = Writer(bag, version=8, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        writer.set_custom_data("attribution", attribution)
        with writer:
            messages = _BagMessages(writer, typestore, frame_id)
            frames = _write_frames(messages, sequence, image_topic, jpeg_quality)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(bag / f"{out.stem}.mcap", out)
    return frames


def _write_frames(
    messages: _BagMessages, sequence: ImageFolderSequence, image_topic: str, jpeg_quality: int | None
) -> int:
    frames = sequence.paths()
    for index, (number, image_path, label_path) in enumerate(frames):
        stamp_ns = round(number * 1_000_000_000 / sequence.rate_hz)
        if index == 0 and sequence.label_names:
            messages.add_names(stamp_ns, sequence.label_names)
        messages.add_jpeg(stamp_ns, image_topic, _jpeg_bytes(image_path, jpeg_quality))
        if label_path:
            messages.add_labels(stamp_ns, read_labels(label_path))
    return len(frames)


class _BagMessages:
    """Messages written to a bag, each at the time of its own stamp (ns)."""

    def __init__(self, writer: Writer, typestore: Any, frame_id: str) -> None:
        self._writer = writer
        self._typestore = typestore
        self._frame_id = frame_id
        self._connections: dict[str, Any] = {}

    def add_jpeg(self, stamp_ns: int, topic: str, data: NDArray[np.uint8]) -> None:
        header = self._header(stamp_ns)
        # the form that image_transport's compressed plugin writes and reads
        message = self._message(
            COMPRESSED_TYPE, header=header, format="bgr8; jpeg compressed bgr8", data=data
        )
        self._write(stamp_ns, topic, COMPRESSED_TYPE, message)

    def add_labels(self, stamp_ns: int, labels: NDArray[np.uint8]) -> None:
        height, width = labels.shape
        message = self._message(
            IMAGE_TYPE,
            header=self._header(stamp_ns),
            height=height,
            width=width,
            encoding="mono8",
            is_bigendian=0,
            step=width,
            data=labels.reshape(-1),
        )
        self._write(stamp_ns, LABEL_TOPIC, IMAGE_TYPE, message)

    def add_names(self, stamp_ns: int, names: Mapping[int, str]) -> None:
        text = json.dumps({str(value): name for value, name in sorted(names.items())})
        self._write(stamp_ns, NAMES_TOPIC, STRING_TYPE, self._message(STRING_TYPE, data=text))

    def _header(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        stamp = self._message("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._message("std_msgs/msg/Header", stamp=stamp, frame_id=self._frame_id)

    def _message(self, message_type: str, **fields: Any) -> Any:
        return self._typestore.types[message_type](**fields)

    def _write(self, stamp_ns: int, topic: str, message_type: str, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, message_type, typestore=self._typestore
            )
        data = self._typestore.serialize_cdr(message, message_type)
        self._writer.write(self._connections[topic], stamp_ns, data)


def _jpeg_bytes(path: Path, quality: int | None) -> NDArray[np.uint8]:
    """The file's own bytes where it is a JPEG and no quality is asked for, else the image encoded as JPEG."""
    if quality is None and path.suffix.lower() in (".jpg", ".jpeg"):
        return np.fromfile(path, np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality if quality is not None else 95]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(read_rgb(path), cv2.COLOR_RGB2BGR), options)[1]
    return np.asarray(encoded, np.uint8).reshape(-1)
