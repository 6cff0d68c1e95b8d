"""Labels that would be lost, mixed up or taken for others without a word: each is named, and the rest is converted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_source_cases import CASES, LEFT, RIGHT, H, W, labels, photo, save
from PIL import Image
from test_data_broken_sources import change, convert

from sam2s_ros.data.labels import MaskLabels, instrument
from sam2s_ros.data.video_folder import VideoFolder, write_index


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def spoilt(
    name: str, root: Path, capsys: pytest.CaptureFixture[str], status: int = 1
) -> tuple[list[str], dict[str, VideoFolder]]:
    """What a conversion left out, line by line, and the videos."""
    found, said, videos = convert(name, root, capsys)
    assert found == status, said
    return [line for line in said.splitlines() if line.startswith("left out")], videos


# --- YouTube-VIS


IDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a number and a text": (
        lambda raw: [one.update(id=number) for one, number in zip(raw["annotations"], (1, "1"), strict=True)],
        "the annotations 1 and '1' have one id",
    ),
    "one without": (
        lambda raw: raw["annotations"][0].pop("id"),
        "annotation 1 of its list has no entry 'id'",
    ),
    "a list": (lambda raw: raw["annotations"][1].update(id=[5]), "annotation 2 of its list: 'id' is [5]"),
}


@pytest.mark.parametrize("case", list(IDS))
def test_objects_of_youtube_vis_without_an_id_of_their_own_are_not_made_one(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, said = IDS[case]
    CASES["ytvis"][0](root)
    path = root / "valid/valid.json"
    names = [f"v2/{number:05d}.jpg" for number in range(2)]
    for name in names:
        photo(root / "valid/JPEGImages" / name)
    change(path, lambda raw: edit(raw) and None)
    change(path, lambda raw: raw["videos"].append({"id": 2, "file_names": names}))
    (line,), videos = spoilt("ytvis", root, capsys)
    assert f"{path}: video 1: {said}" in line and list(videos) == ["val/v2"]


def test_ids_of_youtube_vis_may_be_texts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CASES["ytvis"][0](root)
    change(root / "valid/valid.json", lambda raw: raw["annotations"][0].update(id="a"))
    lines, videos = spoilt("ytvis", root, capsys, status=0)
    assert not lines and len(videos["val/v1"].facts.masklets) == 2


# --- folders


WITHOUT_IMAGES = {
    "vocalfolds": ("img/patient1", "annot/patient1/seq4"),
    "cis": ("VID14_t50_full/img_dir", "VID14_t50_full/ann_dir"),
    "art-net": ("Test/Test_Positive", "Test/Test_Positive_Tool_Mask"),
    "autolaparo": ("AutoLaparo_Task3/imgs", "AutoLaparo_Task3/masks"),
    "kvasir-seg": ("Kvasir-SEG/images", "Kvasir-SEG/masks"),
    "bkai-igh": ("train/train", "train_gt/train_gt"),
}
"""Source -> the folder of images that is missing, the folder of labels that is to be named."""


@pytest.mark.parametrize("name", list(WITHOUT_IMAGES))
def test_a_folder_of_labels_without_its_images_is_named(
    name: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = WITHOUT_IMAGES[name]
    CASES[name][0](root)
    shutil.rmtree(root / images)
    alone = name in ("autolaparo", "kvasir-seg", "bkai-igh")
    (line,), videos = spoilt(name, root, capsys, status=2 if alone else 1)
    assert f"{root / labels} labels images that are not there: unpack them to {root / images}" in line
    assert bool(videos) != alone


# --- masks that are none


MASKS = {
    "dsad": "liver/03/mask01.png",
    "clinicdb": "PNG/Ground Truth/2.png",
    "art-net": "Train/Train_Positive_Tool_Mask/Train_Pos_sample_0662_Tool_Mask.png",
    "robotool": "robo_tool/dv10_00001_seg.png",
    "kvasir-seg": "Kvasir-SEG/masks/cju0.jpg",
    "polypgen": "PolypGen2021_MultiCenterData_v3/sequenceData/positive/seq3/masks_seq3/C1_2_mask.jpg",
    "endovis17": "instrument_1_4_training/instrument_dataset_2/ground_truth/Other_labels/frame001.png",
}


def noise(channels: int, size: tuple[int, int]) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    return values if channels == 3 else values[..., 0]


@pytest.mark.parametrize("kind", ["noise", "grey noise", "photo", "grey photo"])
@pytest.mark.parametrize("name", list(MASKS))
def test_a_picture_in_the_place_of_a_mask_is_named_and_its_frame_left_out(
    name: str, kind: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES[name][0](root)
    path = root / MASKS[name]
    size = Image.open(path).size[::-1]
    if "noise" in kind:
        save(path, noise(1 if "grey" in kind else 3, size))
    else:
        photo(path, 1, size)
        if "grey" in kind:
            Image.open(path).convert("L").save(path)
    (line,), videos = spoilt(name, root, capsys)
    assert f"{path} is no mask: " in line and videos


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_mask_stays_one_through_jpeg_and_with_soft_edges(quality: int, tmp_path: Path) -> None:
    y, x = np.mgrid[:120, :160]
    soft = np.clip(255 * (40.5 - np.hypot(y - 60, x - 80)) / 3, 0, 255).astype(np.uint8)
    for file, pixels in (("a.jpg", np.repeat(soft[..., None], 3, axis=2)), ("b.jpg", soft), ("c.png", soft)):
        save(tmp_path / file, pixels, **({"quality": quality} if file.endswith("jpg") else {}))
        (region,) = MaskLabels(tmp_path / file, instrument("x"), threshold=127).regions((120, 160))
        assert abs(region.mask.sum() - (soft > 127).sum()) < 60


def test_a_mask_that_is_white_enough_is_one(tmp_path: Path) -> None:
    save(tmp_path / "m.png", labels({200: LEFT, 140: RIGHT}))
    (region,) = MaskLabels(tmp_path / "m.png", instrument("x"), threshold=127).regions((H, W))
    assert region.mask.sum() == 720


@pytest.mark.parametrize("meta", [True, False])
def test_a_label_image_of_davis_whose_colours_became_grey_is_named(
    meta: bool, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["davis"][0](root)
    path = root / "train/Annotations/ab12/00010.png"
    write_index(path, labels({2: LEFT, 7: RIGHT}))
    Image.open(path).convert("RGB").convert("L").save(path)
    if not meta:
        (root / "train/meta.json").unlink()
    (line,), videos = spoilt("davis", root, capsys)
    assert f"{path} has no palette, and its values [75, 128] are none of its video's objects [2, 7]" in line
    assert list(videos["train/ab12"].frames()) == [0, 5]


def test_grey_label_images_of_davis_with_the_ids_are_as_good(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["davis"][0](root)
    save(
        root / "train/Annotations/ab12/00010.png",
        labels({2: LEFT, 7: RIGHT, 255: (slice(0, 2), slice(0, 9))}),
    )
    _, videos = spoilt("davis", root, capsys, status=0)
    assert list(videos["train/ab12"].masks()) == [0, 5, 10]


@pytest.mark.parametrize(
    ("frame", "sequence", "said"), [(-1, 1, "is below 0"), (2, 1, "row 2"), (2, 2, "row 2")]
)
def test_a_frame_of_clinicdb_without_a_number_of_its_own_is_named(
    frame: int, sequence: int, said: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["clinicdb"][0](root)
    for folder in ("Original", "Ground Truth"):
        shutil.copy(root / f"PNG/{folder}/1.png", root / f"PNG/{folder}/4.png")
    with (root / "metadata.csv").open("a") as table:
        table.write(f"{frame},{sequence},PNG/Original/4.png,PNG/Ground Truth/4.png\n")
    lines, videos = spoilt("clinicdb", root, capsys)
    assert any(f"{root / 'metadata.csv'}: row 4 is left out" in line and said in line for line in lines)
    assert sorted(len(video.frames()) for video in videos.values()) == [1, 2]
    assert not list(root.parent.rglob("-*"))


# --- labels that are missing


def test_a_frame_of_endovis_17_without_its_types_is_kept_and_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["endovis17"][0](root)
    frames = root / "instrument_1_4_testing/instrument_dataset_2/left_frames"
    photo(frames / "frame226.png", 3, (1080, 1920))
    (line,), videos = spoilt("endovis17", root, capsys)
    assert (
        f"{frames / 'frame226.png'} is not labelled: unpack ground_truth, or of test frames gt/TypeSeg"
        in line
    )
    video = videos["test/seq_2"]
    assert list(video.frames()) == [0, 1, 225, 226] and list(video.masks()) == [0, 1, 225]


def test_test_frames_of_endovis_17_without_the_archive_of_labels_are_named_once(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["endovis17"][0](root)
    frames = root / "instrument_1_4_testing/instrument_dataset_2/left_frames"
    photo(frames / "frame226.png", 3, (1080, 1920))
    shutil.rmtree(root / "instrument_2017_test")
    (first, second), videos = spoilt("endovis17", root, capsys)
    assert f"{frames} has no frame that is labelled: unpack" in first and len(videos) == 2
    assert "instrument_dataset_9/left_frames has no frame" in second


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("folder", [True, False])
def test_a_part_of_grasp_without_its_annotations_is_named(
    part: str, folder: bool, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["grasp"][0](root)
    path = root / f"annotations/grasp_short-term_{part}.json"
    path.unlink()
    if folder:
        path.mkdir()
    (line,), videos = spoilt("grasp", root, capsys)
    assert f"{path} {'cannot be read' if folder else 'does not exist'}" in line and len(videos) == 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_polygon_of_cis_without_an_area_is_named_and_its_frame_left_out(
    count: int, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["cis"][0](root)
    path = root / "VID14_t50_full/ann_dir/t50_VID14_000002.json"
    change(path, lambda raw: raw["shapes"][2].update(points=raw["shapes"][2]["points"][:count]))
    (line,), videos = spoilt("cis", root, capsys)
    assert f"{path}: shape 3: a polygon has {count} points" in line
    assert list(videos["test/VID14_t50_full"].frames()) == [1]


# --- videos


LOST: dict[str, tuple[Callable[[Path], object], str]] = {
    "a frame": (lambda video: (video / "frames/000005.jpg").unlink(), "1 of 3 files in frames"),
    "an empty frame": (
        lambda video: (video / "frames/000005.jpg").write_bytes(b""),
        "1 of 3 files in frames",
    ),
    "a label image": (lambda video: (video / "masks/000000.png").unlink(), "1 of 2 files in masks"),
    "all of both": (
        lambda video: [shutil.rmtree(video / name) for name in ("frames", "masks")],
        "3 of 3 files in frames, 2 of 2 files in masks",
    ),
}


@pytest.mark.parametrize("case", list(LOST))
def test_a_video_that_has_lost_files_is_written_again_and_said(
    case: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, text = LOST[case]
    CASES["davis"][0](root)
    _, _, videos = convert("davis", root, capsys)
    spoil(videos["train/ab12"].path)
    status, said, videos = convert("davis", root, capsys)
    assert status == 0 and f"written again: davis/train/ab12: what was there had lost {text}" in said
    assert "1 of them from before" in said
    assert list(videos["train/ab12"].frames()) == [0, 5, 10] and list(videos["train/ab12"].masks()) == [0, 5]
    assert "2 of them from before" in convert("davis", root, capsys)[1]


def test_a_first_frame_of_another_size_costs_no_other_frame(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES["vocalfolds"][0](root)
    shutil.copy(root / "img/patient1/seq4/0009_l.jpg", root / "img/patient1/seq4/0010_l.jpg")
    shutil.copy(root / "annot/patient1/seq4/0009.png", root / "annot/patient1/seq4/0010.png")
    photo(root / "img/patient1/seq4/0003_l.jpg", 0, (H + 2, W))
    save(root / "annot/patient1/seq4/0003.png", labels({1: LEFT}, (H + 2, W)))
    (line,), videos = spoilt("vocalfolds", root, capsys)
    assert f"0003_l.jpg is {W}x{H + 2} pixels, most frames of its video {W}x{H}" in line
    video = videos["test/patient1_seq4"]
    assert list(video.frames()) == [9, 10] and video.facts.size == (W, H)


def test_a_name_that_is_no_utf_8_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "in"
    CASES["davis"][0](root)
    frames = root / "train/JPEGImages/ab12"
    for number in (15, 20):
        photo(frames / f"{number:05d}.jpg", number)
        os.rename(frames / f"{number:05d}.jpg", os.fsencode(frames) + b"/\xff%05d.jpg" % number)
    (Path(os.fsdecode(os.fsencode(frames) + b"/\xff00020.jpg"))).write_bytes(b"no image")
    for _ in range(2):
        status, said, videos = convert("davis", root, capsys)
        assert status == 1 and list(videos["train/ab12"].frames()) == [0, 5, 10, 15]
        assert r"\udcff00020.jpg is no image" in said and said.count("left out of") == 1
