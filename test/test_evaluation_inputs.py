"""Bags, videos and folders as a laboratory hands them over; what is wrong with one is said in one line."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from evaluation_cases import block_frames, block_labels, write_bag
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sam2s_ros.cli import main
from sam2s_ros.evaluation.bag_writer import BagWriter, write_frames
from sam2s_ros.evaluation.bags import BagSequence
from sam2s_ros.evaluation.mcap_checks import CHUNK, check_mcap, seal
from sam2s_ros.evaluation.sequences import LabelledFrame
from sam2s_ros.evaluation.sources import find_all_sequences
from sam2s_ros.evaluation.videos import VideoSequence

STORE = get_typestore(Stores.ROS2_HUMBLE)
IMAGES = "/endoscope/image/compressed"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images at 25 Hz in one MCAP file, sealed."""
    return write_bag(tmp_path_factory.mktemp("bag") / "good.mcap", 12)


@pytest.fixture
def bag(good: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    copy = tmp_path / "block.mcap"
    copy.write_bytes(good.read_bytes())
    return copy


def write_labels(
    folder: Path, count: int = 12, names: Callable[[int], str] = "{:05d}".format, scale: int = 1
) -> Path:
    """The label images of the bag."""
    folder.mkdir(parents=True)
    for number in range(count):
        labels = block_labels(number, 2, 96).repeat(scale, axis=0).repeat(scale, axis=1)
        cv2.imwrite(str(folder / f"{names(number)}.png"), labels)
    return folder


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path, model: str = "none") -> str:
    """What the command says when it refuses: one line."""
    assert main(["evaluate", *map(str, arguments), "--model", model]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def chunk_at(path: Path) -> int:
    """Where the first chunk's content lies."""
    data, position = path.read_bytes(), 8
    while data[position] != CHUNK:
        position += 9 + struct.unpack_from("<Q", data, position + 1)[0]
    return position + 9


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_a_cut_file(share: float, bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = bag.stat().st_size
    bag.write_bytes(bag.read_bytes()[: int(share * size)])
    line = complaint(capsys, bag)
    assert str(bag) in line and "was cut or damaged" in line and "mcap recover" in line


def test_flipped_bytes_anywhere_in_the_messages_are_noticed(
    bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, start = bag.read_bytes(), chunk_at(bag)
    rng = np.random.default_rng(0)
    length = struct.unpack_from("<Q", whole, start - 8)[0]
    for position in rng.integers(start + 45, start + length, 12):
        flip(bag, int(position))
        assert "is damaged" in complaint(capsys, bag)
        bag.write_bytes(whole)


def test_uncompressed_chunks_are_held_to_their_checksum_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a byte of an image is flipped nothing but the checksum can tell."""
    path = write_topic(tmp_path / "raw", "sensor_msgs/msg/Image", raw_image(5))
    seal(path)
    assert check_mcap(path).unchecked == 0
    flip(path, path.read_bytes().index(bytes([5]) * 60) + 30)
    labels = write_labels(tmp_path / "labels", 1)
    assert "is damaged at message 1 of /image" in complaint(capsys, path, "--ground-truth", labels)


def test_what_has_no_checksum_is_said_beforehand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_topic(tmp_path / "raw", "sensor_msgs/msg/Image", raw_image(5))
    write_labels(tmp_path / "labels", 1)
    main(["evaluate", str(path), "--model", "none", "--ground-truth", str(tmp_path / "labels")])
    assert "1 of 1 records have no checksum" in caplog.text


def test_a_damaged_index(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (summary,) = struct.unpack_from("<Q", bag.read_bytes(), bag.stat().st_size - 28)
    flip(bag, summary + 12)
    assert "is damaged: the checksum of its index is wrong" in complaint(capsys, bag)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image-topic", "/camera"], ["has no topic /camera", IMAGES]),
        (["--ground-truth", "/truth"], ["has no topic /truth", "/ground_truth/labels"]),
        (
            ["--ground-truth", "/ground_truth/label_names"],
            ["std_msgs/msg/String", "needed: sensor_msgs/msg/"],
        ),
        (["--ground-truth", "nowhere"], ["no label images (PNG) for block in nowhere"]),
    ],
)
def test_topics_and_folders_that_are_not_there(
    options: list[str], words: list[str], bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = complaint(capsys, bag, *options)
    assert all(word in line for word in words), line


def test_ground_truth_of_another_size(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_labels(tmp_path / "labels", scale=2)
    line = complaint(capsys, bag, "--ground-truth", labels)
    assert "another size" in line and "192x128" in line and "96x64" in line and "00000.png" in line


def test_images_of_two_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mixed.mcap"
    with BagWriter(path) as writer:
        sizes = [(64, 96)] * 3 + [(32, 48)]
        frames = (
            LabelledFrame(number, np.zeros((*size, 3), np.uint8), np.ones(size, np.uint8))
            for number, size in enumerate(sizes)
        )
        write_frames(writer, frames, {1: "block"})
    for mode, model in (("every-frame", "none"), ("real-time", "nano")):
        said = complaint(capsys, path, "--mode", mode, model=model)
        assert "mixed: image 4 has 48 x 32 pixels and those before it 96 x 64" in said


def test_a_bag_without_images_says_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_topic(tmp_path / "text.mcap", "std_msgs/msg/String", STORE.types["std_msgs/msg/String"]("hello"))
    said = complaint(capsys, tmp_path / "text.mcap")
    assert "has no topic of images" in said and "(std_msgs/msg/String)" in said


def test_folders_are_called_by_their_own_names(tmp_path: Path) -> None:
    for name in ("left", "right"):
        for tree, value in (("JPEGImages", 90), ("Annotations", 1)):
            (tmp_path / name / tree).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / name / tree / "00000.png"), np.full((8, 8), value, np.uint8))
    arguments = argparse.Namespace(
        source=[str(tmp_path / "left"), str(tmp_path / "right")],
        ground_truth=None,
        image_topic=None,
        data=None,
    )
    assert [one.name for one in find_all_sequences(arguments)] == ["left", "right"]


ENTRIES = {
    "- {name: block, box: [1, 1, 9, 9]}\n- {name: '1', box: [1, 1, 9, 9]}": "two entries .* label 1",
    "- {box: [1, 1, 9, 9]}": "entry 1 has no name",
    "- {name: '7', box: [1, 1, 9, 9]}": "no label image of good has the label 7",
    "- {name: block, points: [[999, 2]]}": "the prompt of 'block' .*outside the image",
}


@pytest.mark.parametrize("entries", ENTRIES)
def test_a_prompts_file_that_does_not_fit_the_ground_truth(
    good: Path, tmp_path: Path, entries: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.yaml").write_text(f"prompts:\n{entries}\n")
    said = complaint(capsys, good, "--prompts", tmp_path / "prompts.yaml", "--no-baselines", model="nano")
    assert re.search(ENTRIES[entries], said)


def test_too_few_label_images(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_labels(tmp_path / "labels", 11)
    assert "holds 11 label images" in complaint(capsys, bag, "--ground-truth", labels)


def test_ground_truth_with_other_stamps(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named by stamps, of which half are an image's."""
    stamps = "{}".format
    labels = write_labels(tmp_path / "labels", 8, lambda number: stamps(10**9 + number * 20_000_000))
    assert "(4 of the names are)" in complaint(capsys, bag, "--ground-truth", labels)


def write_topic(path: Path, kind: str, message: object, storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A bag with one message of the topic /image, or none."""
    with Writer(path, version=8, storage_plugin=storage) as writer:
        connection = writer.add_connection("/image", kind, typestore=STORE)
        if message is not None:
            writer.write(connection, 1, STORE.serialize_cdr(message, kind))
    (file,) = (one for one in path.iterdir() if one.suffix in (".mcap", ".db3"))
    return file


def raw_image(value: int) -> object:
    types = STORE.types
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=0)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
    pixels = np.full(64 * 96 * 3, value, np.uint8)
    return types["sensor_msgs/msg/Image"](
        header=header, height=64, width=96, encoding="rgb8", is_bigendian=0, step=288, data=pixels
    )


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_an_empty_bag(storage: StoragePlugin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_topic(tmp_path / "empty", "sensor_msgs/msg/Image", None, storage)
    assert f"{path} is empty: it holds no message" in complaint(capsys, path)


def test_an_empty_file_and_no_bag_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.mcap").touch()
    assert "the file is empty" in complaint(capsys, tmp_path / "empty.mcap")
    (tmp_path / "text.db3").write_text("hello" * 100)
    assert "text.db3 is no readable ROS 2 bag" in complaint(capsys, tmp_path / "text.db3")
    (tmp_path / "notes.txt").write_text("hello")
    assert "notes.txt is no bag (.mcap, .db3), video or folder" in complaint(capsys, tmp_path / "notes.txt")


def test_a_topic_of_another_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = STORE.types["std_msgs/msg/String"](data="hello")
    path = write_topic(tmp_path / "text", "std_msgs/msg/String", message)
    line = complaint(capsys, path, "--image-topic", "/image")
    assert "/image has messages of type std_msgs/msg/String; needed: sensor_msgs/msg/CompressedImage" in line


def test_a_message_type_that_nobody_knows(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the image topic it is refused by name; beside it, it is nobody's concern."""
    path = write_topic(tmp_path / "text", "std_msgs/msg/String", STORE.types["std_msgs/msg/String"](data="x"))
    path.write_bytes(path.read_bytes().replace(b"std_msgs/msg/String", b"lab_msgs/msg/Strong"))
    assert "lab_msgs/msg/Strong" in complaint(capsys, path, "--image-topic", "/image")


def test_a_cut_image_in_a_whole_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    types = STORE.types
    jpeg = cv2.imencode(".jpg", np.zeros((64, 96, 3), np.uint8))[1].ravel()
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=0)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
    kind = "sensor_msgs/msg/CompressedImage"
    path = write_topic(
        tmp_path / "cut", kind, types[kind](header=header, format="jpeg", data=jpeg[: len(jpeg) // 2])
    )
    write_labels(tmp_path / "labels", 1)
    line = complaint(capsys, path, "--ground-truth", tmp_path / "labels")
    assert "image stamped 1000000000 ns" in line and "is cut or cannot be decoded" in line


def test_two_sources_of_one_name_get_their_folder_s(good: Path, tmp_path: Path) -> None:
    for patient in ("a", "b"):
        (tmp_path / patient).mkdir()
        (tmp_path / patient / "block.mcap").write_bytes(good.read_bytes())
    sources = [str(tmp_path / patient / "block.mcap") for patient in ("a", "b")]
    options = ["--model", "none", "--no-overlay", "--out", str(tmp_path / "out")]
    assert main(["evaluate", *sources, *options]) == 0
    scores = json.loads((tmp_path / "out" / "summary.json").read_text())["scores"]["empty"]
    assert list(scores["by_sequence"]) == ["a/block", "b/block"]


@pytest.mark.parametrize("how", ["file", "message", "split"])
def test_compressed_and_split_bags_are_read(how: str, good: Path, tmp_path: Path) -> None:
    """SQLite3 by file and by message, and an MCAP folder in two files."""
    path = tmp_path / "bag"
    writer = Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3)
    if how != "split":
        mode = CompressionMode.FILE if how == "file" else CompressionMode.MESSAGE
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with AnyReader([good]) as reader, writer:
        connections = {
            one.id: writer.add_connection(one.topic, one.msgtype, typestore=reader.typestore)
            for one in reader.connections
        }
        for connection, time_ns, data in reader.messages():
            writer.write(connections[connection.id], time_ns, data)
    if how == "split":
        split(path, good)
    frames, wanted = list(BagSequence(path).frames()), list(BagSequence(good).frames())
    assert len(frames) == len(wanted) == 12
    for ours, theirs in zip(frames, wanted, strict=True):
        assert ours.stamp_ns == theirs.stamp_ns and (ours.image == theirs.image).all()
        assert ours.labels is not None and (ours.labels == theirs.labels).all()


def split(folder: Path, source: Path) -> None:
    """Make the folder one of two MCAP files, the first with five images."""
    metadata = yaml.safe_load((folder / "metadata.yaml").read_text())
    shutil.rmtree(folder)
    with AnyReader([source]) as reader:
        messages = list(reader.messages())
        border = [one[1] for one in messages if one[0].topic == IMAGES][5]
        for number, part in enumerate((lambda t: t < border, lambda t: t >= border)):
            with BagWriter(folder / f"bag_{number}.mcap") as writer:
                for connection, time_ns, data in messages:
                    if part(time_ns):
                        writer.copy(reader, connection, time_ns, data)
    metadata["rosbag2_bagfile_information"] |= {
        "storage_identifier": "mcap",
        "relative_file_paths": ["bag_0.mcap", "bag_1.mcap"],
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))


def write_video(path: Path, count: int = 12) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (96, 64))
    for frame in block_frames((block_labels(number, 2, 96) for number in range(count)), 25):
        writer.write(frame.image[..., ::-1])
    writer.release()
    return path


def test_a_video_and_the_bag_that_is_made_of_it_score_the_same(tmp_path: Path) -> None:
    video, labels = write_video(tmp_path / "block.avi"), write_labels(tmp_path / "Annotations" / "block")
    made = tmp_path / "made.mcap"
    truth = ["--ground-truth", str(labels.parent.parent)]
    options = ["--name", "1=grasper 1", "--jpeg-quality", "100"]
    assert main(["bag", "from-video", str(video), str(made), *truth, *options]) == 0
    assert check_mcap(made).unchecked == 0 and BagSequence(made).label_names == {1: "grasper 1"}
    scores = []
    for name, source in (("video", [str(video), *truth]), ("bag", [str(made)])):
        out = tmp_path / name
        assert main(["evaluate", *source, "--model", "none", "--no-overlay", "--out", str(out)]) == 0
        scores.append(json.loads((out / "summary.json").read_text())["scores"]["in place"]["mean"])
    assert scores[0]["jf_all"] == scores[1]["jf_all"] and scores[0]["frames"] == 10
    stamps = [
        [one.stamp_ns for one in sequence.frames()] for sequence in (VideoSequence(video), BagSequence(made))
    ]
    assert stamps[0] == stamps[1] == [number * 40_000_000 for number in range(12)]


def test_a_cut_video_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, labels = write_video(tmp_path / "block.avi"), write_labels(tmp_path / "labels")
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    line = complaint(capsys, video, "--ground-truth", labels)
    assert str(video) in line and ("damaged or cut" in line or "no video" in line)


def test_a_bag_of_images_without_labels_then_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three commands from a folder of PNG images to scores; the copy keeps every message as it was."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, frame in enumerate(block_frames((block_labels(one, 2, 96) for one in range(12)), 25)):
        cv2.imwrite(str(folder / f"{number}.png"), frame.image[..., ::-1])
    labels, plain, made = write_labels(tmp_path / "labels"), tmp_path / "plain.mcap", tmp_path / "made.mcap"
    assert main(["bag", "from-images", str(folder), str(plain), "--rate", "25", "--frame-id", "left"]) == 0
    assert "has no topic /ground_truth/labels" in complaint(capsys, plain)
    assert main(["bag", "add-ground-truth", str(plain), str(labels), str(made), "--name", "1=hook"]) == 0
    assert check_mcap(made).unchecked == 0
    with AnyReader([plain]) as before, AnyReader([made]) as after:
        images = [one for one in after.connections if one.topic == IMAGES]
        assert [one[1:] for one in before.messages()] == [one[1:] for one in after.messages(images)]
        truth = [one for one in after.connections if one.topic == "/ground_truth/labels"]
        frames = {after.deserialize(one[2], one[0].msgtype).header.frame_id for one in after.messages(truth)}
    assert frames == {"left"}
    assert main(["evaluate", str(made), "--model", "none"]) == 0
    assert "hook" in capsys.readouterr().out


def test_ground_truth_is_added_once_and_only_where_it_fits(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, out = write_labels(tmp_path / "labels"), tmp_path / "out.mcap"
    for arguments, words in (
        ((bag, labels, out), "has a topic /ground_truth/labels already"),
        ((bag, labels, bag), "is the bag itself"),
        ((bag, labels, tmp_path / "out.db3"), "must be named .mcap"),
    ):
        assert main(["bag", "add-ground-truth", *map(str, arguments)]) == 2
        assert words in capsys.readouterr().err
    assert not out.exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("entry", ["hook", "0=hook", "256=hook", "1="])
def test_a_wrong_name_is_refused(
    entry: str, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bag", "from-images", str(tmp_path), str(tmp_path / "o.mcap"), "--name", entry]) == 2
    assert "write VALUE=NAME" in capsys.readouterr().err
