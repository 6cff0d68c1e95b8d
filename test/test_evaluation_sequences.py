"""Frames and ground truth come out of folders and bags as they went in."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sam2s_ros.evaluation.bag_messages import is_bag
from sam2s_ros.evaluation.bag_writer import BagWriter, write_images
from sam2s_ros.evaluation.bags import LABEL_TOPIC, BagSequence, image_to_rgb
from sam2s_ros.evaluation.rendered import find_rendered_sequences
from sam2s_ros.evaluation.sequences import ImageFolderSequence, find_folder_sequences, read_labels

BUNDLED_BAG = Path(__file__).parent / "data" / "vocalfolds_seq4.mcap"
STORE = get_typestore(Stores.ROS2_HUMBLE)


def make_folder(root: Path, image_tree: str, label_tree: str, numbers: tuple[int, ...] = (2, 10, 1)) -> Path:
    """A sequence `a/b` of flat frames whose brightness and label square tell their number."""
    images, labels = root / image_tree / "a" / "b", root / label_tree / "a" / "b"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(images / f"{number}_l.jpg"), np.full((24, 32, 3), 10 * number, np.uint8))
        label = np.zeros((24, 32), np.uint8)
        label[:number, :5] = 5
        cv2.imwrite(str(labels / f"{number:04d}.png"), label)
    return images


def image_message(encoding: str, pixels: np.ndarray, step: int | None = None) -> object:
    types = STORE.types
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=5)
    height, width = pixels.shape[:2]
    row = pixels.reshape(height, -1)
    padded = np.zeros((height, step or row.shape[1]), np.uint8)
    padded[:, : row.shape[1]] = row
    return types["sensor_msgs/msg/Image"](
        header=types["std_msgs/msg/Header"](stamp=stamp, frame_id="endoscope"),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=padded.shape[1],
        data=padded.reshape(-1),
    )


@pytest.mark.parametrize(("image_tree", "label_tree"), [("img", "annot"), ("JPEGImages", "Annotations")])
def test_known_layouts_are_found_with_their_labels(tmp_path: Path, image_tree: str, label_tree: str) -> None:
    images = make_folder(tmp_path, image_tree, label_tree)
    for path in (tmp_path, tmp_path / image_tree / "a", images):
        (sequence,) = find_folder_sequences(path)
        assert sequence.name == "a/b" and sequence.labels == tmp_path / label_tree / "a" / "b"


def test_frames_come_in_the_order_of_their_numbers_with_their_labels(tmp_path: Path) -> None:
    make_folder(tmp_path, "img", "annot")
    frames = list(find_folder_sequences(tmp_path, rate_hz=10)[0].frames())
    assert [frame.stamp_ns for frame in frames] == [100_000_000, 200_000_000, 1_000_000_000]
    assert [int((frame.labels == 5).sum()) for frame in frames] == [5, 10, 50]
    assert [round(float(frame.image.mean()), -1) for frame in frames] == [10, 20, 100]


def test_images_are_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((4, 4, 3), (255, 0, 0), np.uint8))  # OpenCV writes BGR: blue
    (frame,) = ImageFolderSequence("blue", tmp_path, None).frames()
    assert frame.image[0, 0].tolist() == [0, 0, 255] and frame.labels is None


def test_paletted_labels_give_their_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "1.png")
    assert read_labels(tmp_path / "1.png").tolist() == [[0, 1], [2, 1]]


def test_coloured_labels_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.full((4, 4, 3), (0, 128, 0), np.uint8))
    with pytest.raises(ValueError, match="no label image"):
        read_labels(tmp_path / "1.png")


def test_two_files_with_one_number_are_refused(tmp_path: Path) -> None:
    for name in ("1.png", "01.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="same frame number"):
        ImageFolderSequence("twice", tmp_path, None).paths()


def test_a_folder_without_ground_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--ground-truth"):
        find_folder_sequences(tmp_path)


def test_a_bag_made_from_a_folder_gives_the_folder_s_frames(tmp_path: Path) -> None:
    make_folder(tmp_path, "img", "annot")
    (folder,) = find_folder_sequences(tmp_path)
    with BagWriter(tmp_path / "made.mcap") as writer:
        write_images(writer, folder)
    bag = BagSequence(tmp_path / "made.mcap")
    assert bag.label_names[5] == "surgical tool"
    for ours, theirs in zip(bag.frames(), folder.frames(), strict=True):
        assert ours.stamp_ns == theirs.stamp_ns
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_a_bag_is_made_the_same_twice(tmp_path: Path) -> None:
    make_folder(tmp_path, "img", "annot")
    (folder,) = find_folder_sequences(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with BagWriter(tmp_path / name / "made.mcap", attribution="someone") as writer:
            write_images(writer, folder, quality=80)
    assert (tmp_path / "one/made.mcap").read_bytes() == (tmp_path / "two/made.mcap").read_bytes()


def test_raw_images_in_a_sqlite_bag_are_read_and_unlabelled_ones_kept(tmp_path: Path) -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    image = image_message("bgr8", pixels)
    label = image_message("mono8", np.array([[0, 1, 1], [2, 0, 0]], np.uint8))
    label.header.stamp.nanosec = 6
    later = image_message("rgb8", pixels)
    later.header.stamp.nanosec = 6
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        images = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=STORE)
        labels = writer.add_connection(LABEL_TOPIC, "sensor_msgs/msg/Image", typestore=STORE)
        writer.write(images, 10, STORE.serialize_cdr(image, "sensor_msgs/msg/Image"))
        writer.write(labels, 11, STORE.serialize_cdr(label, "sensor_msgs/msg/Image"))
        writer.write(images, 12, STORE.serialize_cdr(later, "sensor_msgs/msg/Image"))
    assert is_bag(tmp_path / "bag")
    first, second = BagSequence(tmp_path / "bag").frames()
    np.testing.assert_array_equal(first.image, pixels[..., ::-1])
    np.testing.assert_array_equal(second.image, pixels)
    assert first.labels is None and second.labels.tolist() == [[0, 1, 1], [2, 0, 0]]


def test_row_step_is_honoured() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(image_to_rgb(image_message("rgb8", pixels, step=16)), pixels)


def test_an_image_with_too_few_bytes_is_refused() -> None:
    message = image_message("rgb8", np.zeros((2, 3, 3), np.uint8))
    message.data = message.data[:-1]
    with pytest.raises(ValueError, match="cannot have 17 bytes"):
        image_to_rgb(message)


def test_an_unknown_topic_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="/endoscope/image/compressed"):
        next(BagSequence(BUNDLED_BAG, image_topic="/camera").frames())


def test_a_file_that_is_no_bag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.mcap").write_bytes(b"not a bag")
    with pytest.raises(ValueError, match=r"broken\.mcap is no readable ROS 2 bag"):
        next(BagSequence(tmp_path / "broken.mcap").frames())


def test_bundled_bag_is_the_whole_sequence_within_five_megabytes() -> None:
    assert BUNDLED_BAG.stat().st_size <= 5_000_000
    frames = list(BagSequence(BUNDLED_BAG).frames())
    assert len(frames) == 66 and all(frame.image.shape == (512, 512, 3) for frame in frames)
    assert all(frame.labels is not None and frame.labels.shape == (512, 512) for frame in frames)
    assert (frames[0].stamp_ns, frames[-1].stamp_ns) == (100_000_000, 7_400_000_000)


def test_bundled_bag_names_its_authors_and_licence() -> None:
    content = BUNDLED_BAG.read_bytes()
    assert b"Laves" in content and b"CC BY 4.0" in content


def test_rendered_scenes_are_sequences_by_their_seeds() -> None:
    """The same frames at each reading; as many objects as there are names, all in view of the first frame."""
    one, three = find_rendered_sequences("rendered:3-5", None)[::2]
    assert (one.name, three.name) == ("rendered:3", "rendered:5")
    assert list(three.label_names.values()) == ["instrument 1", "instrument 2", "instrument 3"]
    first, again = (next(iter(three.frames())) for _ in range(2))
    assert first.image.shape == (432, 540, 3) and np.array_equal(first.image, again.image)
    assert set(np.unique(first.labels)) == {0, *three.label_names}
    assert not np.array_equal(first.image, next(iter(one.frames())).image)


@pytest.mark.parametrize("source", ["rendered:", "rendered:x", "rendered:5-3", "rendered:1,2"])
def test_a_wrong_range_of_seeds_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="write rendered:SEED or rendered:FIRST-LAST"):
        find_rendered_sequences(source, None)
