"""What is wrong with a data set is said by name, in a line; what is right with it is converted all the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_source_cases import (
    CASES,
    LEFT,
    H,
    W,
    box,
    coco_file,
    davis,
    endovis17,
    grasp,
    labels,
    photo,
    rle,
    save,
)
from PIL import Image
from pycocotools import mask as coco

from sam2s_ros import cli
from sam2s_ros.data.labels import MaskLabels, instrument
from sam2s_ros.data.outlines import coco_mask
from sam2s_ros.data.source_table import SOURCES
from sam2s_ros.data.video_folder import VideoFolder, find_videos, read_index, read_video

FAR_AWAY = [[1e9, -1e9, 2e9, 3e9, -1e9, 1e9]]


def convert(
    name: str, root: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, str, dict[str, VideoFolder]]:
    """Exit status, all that was said, and the videos by split and name."""
    capsys.readouterr()
    out = root.parent / "out"
    status = cli.main(["data", "convert", name, str(root), str(out), "--jobs", "1", *options])
    said = "".join(capsys.readouterr())
    assert "Traceback" not in said
    videos = [read_video(path) for path in find_videos(out)] if out.is_dir() else []
    return status, said, {"/".join(video.path.parts[-2:]): video for video in videos}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 12] ^= 0x04
    path.write_bytes(data)


# --- GraSP and EndoVis 2017


def grasp_release(root: Path, digits: int, case: str, step: int) -> None:
    names = [f"{case}/{number:0{digits}d}.jpg" for number in (step, 2 * step)]
    for name in names:
        photo(root / "frames" / name)
    annotations: list[dict[str, object]] = [
        {"image_id": image, "category_id": 0, "segmentation": rle(LEFT)} for image in (0, 1)
    ]
    coco_file(root / "annotations/grasp_short-term_train.json", names, ["Bipolar Forceps"], annotations)
    coco_file(root / "annotations/grasp_short-term_test.json", [], ["Bipolar Forceps"], [])


@pytest.mark.parametrize(
    ("digits", "case", "step", "rate"),
    [
        (9, "CASE001", 1575, 45.0),
        (9, "CASE053", 1050, 30.0),
        (5, "CASE001", 35, 1.0),
        (5, "CASE053", 35, 1.0),
    ],
)
def test_each_release_of_grasp_has_its_own_frame_rate(
    digits: int, case: str, step: int, rate: float, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labelled frames are 35 s apart in all of them."""
    grasp_release(root, digits, case, step)
    status, _, videos = convert("grasp", root, capsys)
    video = videos[f"train/{case}"]
    first, second = video.frames()
    assert status == 0 and video.facts.frame_rate == rate and (second - first) / rate == 35


def test_both_releases_of_grasp_at_once_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grasp_release(root / "GraSP_30fps", 9, "CASE001", 1575)
    grasp_release(root / "GraSP_1fps", 5, "CASE001", 35)
    status, said, videos = convert("grasp", root, capsys)
    assert status == 2 and not videos and said.count("\n") == 1
    assert "both releases of GraSP" in said and str(root / "GraSP_1fps/frames/CASE001/00035.jpg") in said


def test_test_labels_of_endovis_17_are_found_without_gt(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endovis17(root)
    gt = next(root.rglob("gt"))
    (gt / "TypeSegmentation").rename(gt.parent / "TypeSegmentation")
    status, _, videos = convert("endovis17", root, capsys)
    assert status == 0 and 225 in videos["test/seq_2"].masks()


@pytest.mark.parametrize(
    "place",
    [
        "instrument_2017_test/instrument_2017_test/instrument_dataset_2/gt/Types",
        "instrument_2017_test/instrument_2017_test/instrument_dataset_2/ground_truth/Tweezers_labels",
        "instrument_2017_test/TypeSegmentation",
        "instrument_9_10_testing/instrument_dataset_9/gt/BinarySegmentation",
    ],
)
def test_label_folders_of_endovis_17_that_nobody_reads_are_named(
    place: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endovis17(root)
    save(root / place / "frame225.png", labels({2: LEFT}))
    status, said, videos = convert("endovis17", root, capsys)
    assert status == 1 and str(root / place) in said and len(videos) == 2


def test_an_instrument_of_endovis_17_that_lacks_a_frame_leaves_it_out(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the instrument would pass for one that is not in view."""
    endovis17(root)
    path = next(root.rglob("Right_Prograsp_Forceps_labels")) / "frame001.png"
    path.unlink()
    status, said, videos = convert("endovis17", root, capsys)
    assert status == 1 and f"{path} does not exist" in said
    assert list(videos["test/seq_2"].frames()) == [0, 225]


# --- annotation files


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    raw = json.loads(path.read_text())
    edit(raw)
    path.write_text(json.dumps(raw))


COCO: dict[str, Callable[[dict[str, Any]], None]] = {
    "annotations that are text": lambda raw: raw.update(annotations="x"),
    "an annotation that is a number": lambda raw: raw["annotations"].append(5),
    "no categories": lambda raw: raw.pop("categories"),
    "a category without a name": lambda raw: raw["categories"][0].pop("name"),
    "a class that nobody knows": lambda raw: raw["categories"][0].update(name="spoon"),
    "an image without a name": lambda raw: raw["images"][0].pop("file_name"),
    "an image of another size": lambda raw: raw["images"][0].update(width=3),
    "an image whose size is text": lambda raw: raw["images"][0].update(width="wide"),
    "two images of one name": lambda raw: raw["images"][0].update(file_name=raw["images"][1]["file_name"]),
    "an annotation without a class": lambda raw: raw["annotations"][0].pop("category_id"),
    "an annotation of no class": lambda raw: raw["annotations"][0].update(category_id=99),
    "an annotation of no image": lambda raw: raw["annotations"][0].update(image_id=99),
    "a polygon far away": lambda raw: raw["annotations"][0].update(segmentation=FAR_AWAY),
    "a polygon of NaN": lambda raw: raw["annotations"][0].update(segmentation=[[float("nan")] * 6]),
    "a polygon without end": lambda raw: raw["annotations"][0].update(segmentation=[[1e999] * 6]),
    "a polygon of words": lambda raw: raw["annotations"][0].update(segmentation=[["a"] * 6]),
    "a polygon with half a point": lambda raw: raw["annotations"][0].update(segmentation=[[1] * 7]),
    "a segmentation that is a number": lambda raw: raw["annotations"][0].update(segmentation=7),
    "runs of another size": lambda raw: raw["annotations"][0].update(
        segmentation={"size": [9, 9], "counts": [81]}
    ),
    "runs that are too long": lambda raw: raw["annotations"][0].update(
        segmentation={"size": [H, W], "counts": [0, H * W + 1]}
    ),
    "runs below zero": lambda raw: raw["annotations"][0].update(
        segmentation={"size": [H, W], "counts": [H * W + 1, -1]}
    ),
    "runs whose text is cut off": lambda raw: raw["annotations"][0].update(
        segmentation={"size": [H, W], "counts": rle(LEFT)["counts"][:-2]}  # type: ignore[index]
    ),
    "runs without a size": lambda raw: raw["annotations"][0].update(segmentation={"counts": [H * W]}),
}


@pytest.mark.parametrize("case", list(COCO))
def test_what_is_wrong_in_a_file_of_coco_is_named_and_the_rest_is_converted(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grasp(root)
    path = root / "annotations/grasp_short-term_train.json"
    change(path, COCO[case])
    status, said, videos = convert("grasp", root, capsys)
    assert status == 1 and "train/CASE041" in videos
    (line,) = [line for line in said.splitlines() if line.startswith("left out")]
    assert str(path) in line


VIDEOS: dict[str, Callable[[dict[str, Any]], None]] = {
    "segmentations of fewer frames": lambda raw: raw["annotations"][0]["segmentations"].pop(),
    "segmentations that are none": lambda raw: raw["annotations"][0].update(segmentations=3),
    "an annotation of no video": lambda raw: raw["annotations"][0].update(video_id=99),
    "an annotation of no class": lambda raw: raw["annotations"][0].update(category_id=99),
    "names that are numbers": lambda raw: raw["videos"][0].update(file_names=[1, 2]),
    "a video without frames": lambda raw: raw["videos"][0].update(file_names=[]),
    "a polygon far away": lambda raw: raw["annotations"][0].update(segmentations=[FAR_AWAY, None]),
}


@pytest.mark.parametrize("case", list(VIDEOS))
def test_what_is_wrong_in_a_file_of_youtube_vis_is_named_and_the_rest_is_converted(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["ytvis"][0](root)
    path = root / "valid/valid.json"
    names = [f"v2/{number:05d}.jpg" for number in range(2)]
    for name in names:
        photo(root / "valid/JPEGImages" / name)
    change(path, VIDEOS[case])
    change(path, lambda raw: raw["videos"].append({"id": 2, "file_names": names}))
    status, said, videos = convert("ytvis", root, capsys)
    assert status == 1 and len(videos["val/v2"].frames()) == 2
    (line,) = [line for line in said.splitlines() if line.startswith("left out")]
    assert str(path) in line


LABELME: dict[str, Callable[[dict[str, Any]], None]] = {
    "no shapes": lambda raw: raw.pop("shapes"),
    "shapes that are a number": lambda raw: raw.update(shapes=1),
    "a shape that is text": lambda raw: raw.update(shapes=["polygon"]),
    "a shape without a class": lambda raw: raw["shapes"][0].pop("label"),
    "a class that nobody knows": lambda raw: raw["shapes"][0].update(label="spoon"),
    "a circle": lambda raw: raw["shapes"][0].update(shape_type="circle"),
    "a point far away": lambda raw: raw["shapes"][0]["points"].append([1e9, 1e9]),
    "a point of NaN": lambda raw: raw["shapes"][0]["points"].append([float("nan"), 1]),
    "a point without y": lambda raw: raw["shapes"][0]["points"].append([1]),
    "points that are words": lambda raw: raw["shapes"][0].update(points=[["a", "b"]] * 3),
    "another size": lambda raw: raw.update(imageHeight=H + 1, imageWidth=W),
}


@pytest.mark.parametrize("case", list(LABELME))
def test_what_is_wrong_in_a_file_of_labelme_is_named_and_its_frame_left_out(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["cis"][0](root)
    path = root / "VID14_t50_full/ann_dir/t50_VID14_000002.json"
    change(path, LABELME[case])
    status, said, videos = convert("cis", root, capsys)
    assert status == 1 and list(videos["test/VID14_t50_full"].frames()) == [1]
    (line,) = [line for line in said.splitlines() if line.startswith("left out")]
    assert str(path) in line


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"videos": []}',
        '{"videos": {"ab12": 5}}',
        '{"videos": {"ab12": {"objects": {"one": {}}}}}',
        '{"videos": {"ab12": {"objects": {"2": {"category": 5}}}}}',
        "[" * 100_000,
    ],
)
def test_a_meta_json_that_is_wrong_costs_classes_and_no_video(
    text: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    davis(root)
    (root / "train/meta.json").write_text(text)
    status, said, videos = convert("davis", root, capsys)
    assert status == 1 and f"left out: {root / 'train/meta.json'}" in said
    assert {one.class_name for one in videos["train/ab12"].facts.masklets} == {""}


def test_run_lengths_are_read_as_coco_packs_them() -> None:
    rng = np.random.default_rng(0)
    for density in (0.0, 0.02, 0.5, 1.0):
        mask = rng.random((37, 53)) < density
        packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        text = {"size": [37, 53], "counts": packed["counts"].decode()}
        assert np.array_equal(coco_mask(text, (37, 53)), mask)
        flat = np.concatenate([[0], mask.T.ravel().astype(int), [2]])
        runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)), [37 * 53]])).tolist()
        assert np.array_equal(coco_mask({"size": [37, 53], "counts": runs}, (37, 53)), mask) or density == 1.0
    assert np.array_equal(coco_mask(box(LEFT), (H, W)), labels({1: LEFT}).astype(bool))


# --- images


@pytest.mark.parametrize("name", ["dsad", "sar-rarp50", "cholecseg8k", "art-net", "vocalfolds", "davis"])
def test_a_png_with_a_wrong_bit_is_named_and_its_frame_left_out(
    name: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES[name][0](root)
    plan = next(iter(SOURCES[name].plan(root, SOURCES[name])))
    frame = plan.frames[0]  # type: ignore[union-attr]
    path = frame.labels[0].path  # type: ignore[index]
    flip_bit(path)
    status, said, _ = convert(name, root, capsys)
    assert status == 1 and f"{path} is damaged: the checksum" in said


def test_a_mask_whose_inside_is_1_is_no_empty_mask(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    save(path, labels({1: LEFT}))
    with pytest.raises(ValueError, match=f"{path} is no mask of black and white: its brightest value is 1"):
        MaskLabels(path, instrument("x"), threshold=127).regions((H, W))


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 255), (255, 255, 0)])
def test_a_colour_of_neopolyp_that_means_nothing_is_named(
    colour: tuple[int, int, int], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        photo(root / f"train/train/{name}.jpeg")
        image = np.zeros((H, W, 3), np.uint8)
        image[LEFT] = (255, 0, 0) if name == "a" else colour
        save(root / f"train_gt/train_gt/{name}.jpeg", image)
    status, said, videos = convert("bkai-igh", root, capsys)
    assert status == 1 and f"{root / 'train_gt/train_gt/b.jpeg'}: " in said
    assert len(videos["train/stills_000"].frames()) == 1


def test_an_object_that_is_not_in_the_first_frame_is_not_void(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DAVIS 2016 has 255 for the object, DAVIS 2017 for pixels that are not to be scored."""
    for number in range(8):
        photo(root / f"JPEGImages/480p/bear/{number:05d}.jpg", number)
        save(root / f"Annotations/480p/bear/{number:05d}.png", labels({255: LEFT} if number == 7 else {}))
    status, _, videos = convert("davis", root, capsys, "--split", "val")
    video = videos["val/bear"]
    assert status == 0 and len(video.facts.masklets) == 1 and read_index(video.masks()[7]).max() == 1


# --- folders and names


def unlabelled(root: Path) -> Path:
    path = root / "miccai_challenge_2018_release_1/seq_2/labels/frame001.png"
    path.unlink()
    return path.parent


def renamed(pattern: str, name: str) -> Callable[[Path], Path]:
    def spoil(root: Path) -> Path:
        path = sorted(root.glob(pattern))[0]
        path.rename(path.with_name(name))
        return path.with_name(name)

    return spoil


def copied(pattern: str, name: str) -> Callable[[Path], Path]:
    def spoil(root: Path) -> Path:
        path = sorted(root.glob(pattern))[0]
        target = (path.parent / name).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        return target

    return spoil


def removed(pattern: str) -> Callable[[Path], Path]:
    def spoil(root: Path) -> Path:
        path = sorted(root.glob(pattern))[0]
        shutil.rmtree(path)
        return path

    return spoil


def added_row(text: str) -> Callable[[Path], Path]:
    def spoil(root: Path) -> Path:
        path = root / "metadata.csv"
        path.write_text(path.read_text() + text)
        return path

    return spoil


FOLDERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "a sequence without labels": ("endovis18", removed("*/seq_3/labels")),
    "a sequence without frames": ("endovis18", removed("*/seq_3/left_frames")),
    "a video without labels": ("sar-rarp50", lambda root: removed("test/video_1/segmentation")(root).parent),
    "a frame that lost its label": ("endovis18", unlabelled),
    "a frame without a number": ("endovis18", renamed("*/seq_2/left_frames/*", "last.png")),
    "a label without a number": ("sar-rarp50", renamed("test/video_1/segmentation/*", "last.png")),
    "one frame in two folders": (
        "cholecseg8k",
        copied("video01/video01_00200/frame_200_endo.png", "../video01_00082/frame_200_endo.png"),
    ),
    "a sequence without annotations": ("cis", removed("VID14_t50_full/ann_dir")),
    "a part without annotations": ("endoscapes", removed("test_seg")),
    "an image of no release": ("grasp", lambda root: rename_image(root)),
    "a frame that is not clip and frame": ("autolaparo", renamed("*/imgs/001001.jpg", "first.jpg")),
    "two images of one name": ("kvasir-seg", copied("*/images/cju0.jpg", "cju0.png")),
    "two masks of one name": ("pairs", copied("masks/x.png", "x.tiff")),
    "a row without a number": ("clinicdb", added_row("x,1,PNG/Original/1.png,PNG/Ground Truth/1.png\n")),
    "an image without a row": ("clinicdb", copied("PNG/Original/1.png", "77.png")),
    "a mask without a row": ("clinicdb", copied("PNG/Ground Truth/1.png", "77.png")),
    "images without a folder of masks": ("art-net", removed("Test/Test_Positive_Tool_Mask")),
    "a name of neither image nor mask": ("robotool", copied("robo_tool/dv2_00197.png", "dv2_00197_old.png")),
    "a video without a number": ("davis", renamed("train/JPEGImages/ab12/00000.jpg", "first.jpg")),
    "one number twice": ("davis", copied("train/JPEGImages/ab12/00000.jpg", "0.jpg")),
    "a sequence without a folder of labels": ("vocalfolds", removed("annot/patient2/seq6")),
    "a frame that begins with a word": ("vocalfolds", renamed("img/patient1/seq4/0003_l.jpg", "frame_3.jpg")),
    "two labels of one number": ("vocalfolds", copied("annot/patient1/seq4/0003.png", "3.png")),
    "no label at all": ("davis", removed("train/Annotations/ab12")),
}


def rename_image(root: Path) -> Path:
    path = root / "annotations/grasp_short-term_train.json"
    change(path, lambda raw: raw["images"][0].update(file_name="CASE001/068.jpg"))
    return path


@pytest.mark.parametrize("case", list(FOLDERS))
def test_one_wrong_file_is_named_and_the_rest_is_converted(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, spoil = FOLDERS[case]
    CASES[name][0](root)
    path = spoil(root)
    if case == "a part without annotations":
        path.mkdir()
    status, said, videos = convert(name, root, capsys)
    assert status == 1 and videos, said
    assert any(str(path) in line for line in said.splitlines() if line.startswith("left out")), said


def test_a_stray_file_among_folders_stops_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CASES["dsad"][0](root)
    (root / "liver/.DS_Store").touch()
    status, _, videos = convert("dsad", root, capsys)
    assert status == 0 and len(videos) == 2


# --- the command


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_frame_rate_that_is_none_is_refused(
    rate: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["pairs"][0](root)
    status, said, videos = convert("pairs", root, capsys, f"--frame-rate={rate}")
    assert (
        status == 2 and f"--frame-rate {float(rate)}: give frames per second above 0" in said and not videos
    )


@pytest.mark.parametrize("place", ["", "out", "JPEGImages/out"])
def test_nothing_is_written_into_the_folder_that_is_read(
    place: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    davis(root)
    command = ["data", "convert", "davis", str(root), str(root / place), "--jobs", "1"]
    assert cli.main(command) == 2
    assert f"{root / place} lies in {root}" in capsys.readouterr().err
    assert cli.main(["data", "convert", "davis", str(root), str(root.parent), "--jobs", "1"]) == 0


def test_a_source_in_the_place_of_the_results_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    davis(tmp_path / "davis")
    command = ["data", "convert", "davis", str(tmp_path / "davis"), str(tmp_path), "--jobs", "1"]
    assert cli.main(command) == 2 and f"{tmp_path / 'davis'} lies in" in capsys.readouterr().err


def test_the_command_names_videos_of_other_settings_and_redoes_them(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    davis(root)
    assert convert("davis", root, capsys)[0] == 0
    status, said, videos = convert("davis", root, capsys, "--frame-rate", "6")
    assert status == 1 and "not written: davis/train/ab12: " in said
    assert "the frame rate was 24.0 and is 6.0" in said and videos["train/ab12"].facts.frame_rate == 24
    status, said, videos = convert("davis", root, capsys, "--frame-rate", "6", "--redo")
    assert status == 0 and videos["train/ab12"].facts.frame_rate == 6
    Image.new("RGB", (W, H)).save(root / "train/JPEGImages/ab12/00005.jpg")
    status, said, _ = convert("davis", root, capsys, "--frame-rate", "6")
    assert status == 1 and "its files in the source have changed" in said
