"""Labels that would be lost, mixed up or taken for others without a word: each is named, and the rest is converted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_source_cases import CASES, photo
from test_data_broken_sources import change, convert

from sam2s_ros.data.video_folder import VideoFolder


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
