"""`sam2s bag`: bags to evaluate and to replay, from what laboratories have.

The bundled test/data/vocalfolds_seq4.mcap is made by it; the exact command is in test/data/README.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from sam2s_ros.evaluation.bag_messages import message_of, open_bag, raw_messages_of
from sam2s_ros.evaluation.bag_writer import (
    FRAME_ID,
    IMAGE_TOPIC,
    JPEG_QUALITY,
    BagWriter,
    write_frames,
    write_images,
)
from sam2s_ros.evaluation.bags import LABEL_TOPIC, NAMES_TOPIC, BagSequence, decode_image, header_stamp_ns
from sam2s_ros.evaluation.ground_truth import FolderTruth
from sam2s_ros.evaluation.sequences import DEFAULT_RATE_HZ, ImageFolderSequence, find_folder_sequences
from sam2s_ros.evaluation.sources import truth_folder
from sam2s_ros.evaluation.videos import VideoSequence

HELP = "make an MCAP bag of a video or of images, or add ground truth to a bag"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s bag`."""
    commands = parser.add_subparsers(dest="bag_command", metavar="COMMAND", required=True)
    images = commands.add_parser("from-images", help="a bag of a folder of images")
    images.add_argument("source", type=Path, help="folder of images; the number in a name gives the order")
    images.add_argument(
        "--rate", type=float, default=DEFAULT_RATE_HZ, help="stamp = number in the name / rate (Hz)"
    )
    video = commands.add_parser("from-video", help="a bag of a video file")
    video.add_argument("source", type=Path, help="video file")
    video.add_argument("--rate", type=float, help="images a second (default: as the file says)")
    for one in (images, video):
        _add_out(one)
        one.add_argument(
            "--ground-truth",
            type=Path,
            metavar="DIR",
            help="folder of label images (found by itself beside images in known layouts)",
        )
        one.add_argument("--frame-id", default=FRAME_ID, help="frame_id of every message")
        one.add_argument("--image-topic", default=IMAGE_TOPIC, help="topic of the images")
        one.add_argument(
            "--jpeg-quality",
            type=int,
            help=f"quality of the JPEG images (default: a JPEG file's own bytes, else {JPEG_QUALITY})",
        )
    truth = commands.add_parser("add-ground-truth", help="a copy of a bag, with label images")
    truth.add_argument("source", type=Path, help="bag: .mcap or .db3 file, or folder")
    truth.add_argument(
        "labels", type=Path, help="folder of label images: as many as images, or named by stamp in ns"
    )
    _add_out(truth)
    truth.add_argument("--image-topic", help="topic of the images (default: the only one)")
    images.set_defaults(make=from_images)
    video.set_defaults(make=from_video)
    truth.set_defaults(make=add_ground_truth)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="the .mcap file to write; an existing one is replaced")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="VALUE=NAME",
        help="name of the object with this label value (repeatable)",
    )
    parser.add_argument(
        "--attribution", default="", help="source, authors and licence, kept in the bag's metadata"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the bag and print its size."""
    frames = arguments.make(arguments)
    print(f"{arguments.out}: {frames} images, {arguments.out.stat().st_size / 1e6:.2f} MB")
    return 0


def from_images(arguments: argparse.Namespace) -> int:
    """Write a bag of a folder; returns its images."""
    sequence = _folder_sequence(arguments)
    with BagWriter(arguments.out, arguments.frame_id, arguments.attribution) as writer:
        return write_images(writer, sequence, arguments.image_topic, arguments.jpeg_quality)


def from_video(arguments: argparse.Namespace) -> int:
    """Write a bag of a video; returns its images."""
    labels = arguments.ground_truth and truth_folder(arguments.ground_truth, arguments.source.stem)
    video = VideoSequence(arguments.source, labels, parse_names(arguments.name), rate_hz=arguments.rate)
    quality = JPEG_QUALITY if arguments.jpeg_quality is None else arguments.jpeg_quality
    with BagWriter(arguments.out, arguments.frame_id, arguments.attribution) as writer:
        return write_frames(writer, video.frames(), video.label_names, arguments.image_topic, quality)


def add_ground_truth(arguments: argparse.Namespace) -> int:
    """Copy a bag message by message, each label image right after its image; returns the images.

    Raises:
        ValueError: the bag has ground truth already, or the label images do not fit its images.
    """
    source, names = arguments.source, parse_names(arguments.name)
    if arguments.out.exists() and arguments.out.samefile(source):
        raise ValueError(f"{arguments.out} is the bag itself: give the copy another name")
    with open_bag(source) as bag, BagWriter(arguments.out, attribution=arguments.attribution) as writer:
        for topic in (LABEL_TOPIC, *([NAMES_TOPIC] if names else [])):
            if topic in bag.topics:
                raise ValueError(f"{source} has a topic {topic} already")
        images = BagSequence(source, arguments.image_topic).image_connections(bag)
        count = sum(connection.msgcount for connection in images)
        truth = FolderTruth(arguments.labels, count, source)
        chosen = {connection.id for connection in images}
        if names:
            writer.add_names(bag.start_time, names)
        seen = 0
        for connection, time_ns, data in raw_messages_of(bag, source, bag.connections):
            writer.copy(bag, connection, time_ns, data)
            if connection.id not in chosen:
                continue
            seen += 1
            message = message_of(bag, source, connection, data, seen)
            stamp_ns, image = header_stamp_ns(message), decode_image(message, source, connection.topic)
            labels = truth.labels(stamp_ns, image.shape[:2])
            if labels is not None:
                writer.add_labels(stamp_ns, labels, message.header.frame_id, time_ns)
        truth.require_all_matched()
    return count


def parse_names(entries: list[str]) -> dict[int, str]:
    """`VALUE=NAME` texts as names by label value; ValueError for another form."""
    names = {}
    for entry in entries:
        value, equals, name = entry.partition("=")
        if not (equals and name and value.isdecimal() and 0 < int(value) < 256):
            raise ValueError(f"--name {entry}: write VALUE=NAME, with a label value from 1 to 255")
        names[int(value)] = name
    return names


def _folder_sequence(arguments: argparse.Namespace) -> ImageFolderSequence:
    """The one sequence in a folder; without ground truth where there is none and none was asked for."""
    folder, names = arguments.source, parse_names(arguments.name)
    if not arguments.rate > 0:
        raise ValueError(f"--rate {arguments.rate:g}: give images a second, above 0")
    if arguments.ground_truth is not None:
        labels = truth_folder(arguments.ground_truth, folder.name)
        return ImageFolderSequence(folder.name, folder, labels, names, arguments.rate)
    try:
        sequences = find_folder_sequences(folder, None, arguments.rate)
    except FileNotFoundError:
        return ImageFolderSequence(folder.name, folder, None, names, arguments.rate)
    if len(sequences) != 1:
        found = ", ".join(sequence.name for sequence in sequences)
        raise ValueError(f"{folder} holds {len(sequences)} sequences, a bag takes one of: {found}")
    return replace(sequences[0], label_names=names or sequences[0].label_names)
