"""Each public data set, generated small in its own format, gives the right objects, classes and splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_source_cases import CASES, LEFT, RIGHT, H, W, davis, labels, photo, save
from PIL import Image

from sam2s_ros import cli
from sam2s_ros.data.dataset_check import check_video
from sam2s_ros.data.instrument_bank import bank_kinds
from sam2s_ros.data.source_table import PAPER_TABLE, SOURCES
from sam2s_ros.data.video_folder import find_videos, read_video


def test_every_source_of_the_table_has_a_case_and_every_row_is_one_of_the_paper() -> None:
    assert set(CASES) == set(SOURCES)
    assert {row for source in SOURCES.values() for _, row in source.rows} <= set(PAPER_TABLE)
    for source in SOURCES.values():
        assert "ollows" in (source.plan.__doc__ or "")


@pytest.mark.parametrize("name", list(CASES))
def test_a_source_in_its_own_format_converts_and_passes_the_check(name: str, tmp_path: Path) -> None:
    make, check = CASES[name]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    out = tmp_path / "out"
    command = ["data", "convert", name, str(tmp_path / "in"), str(out), "--jobs", "1"]
    assert cli.main(command) == 0
    videos = [read_video(path) for path in find_videos(out / name)]
    check({"/".join(video.path.parts[-2:]): video for video in videos})
    assert [problem for video in videos for problem in check_video(video.path, bank_kinds())] == []
    assert not (out / ".partial").exists()


@pytest.mark.parametrize("name", list(CASES))
def test_an_empty_folder_is_an_error_that_says_what_is_expected(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    assert cli.main(["data", "convert", name, str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sam2s: error:") and str(tmp_path / "in") in error


def convert(name: str, root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status, and all that was said."""
    capsys.readouterr()
    status = cli.main(["data", "convert", name, str(root), str(out), "--jobs", "1"])
    return status, "".join(capsys.readouterr())


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", list(CASES))
def test_a_file_that_is_cut_off_is_named_and_what_is_not_complete_does_not_look_so(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    CASES[name][0](root)
    plans = list(SOURCES[name].plan(root, SOURCES[name]))
    image = plans[0].frames[0].image
    whole = image.read_bytes()
    halve(image)
    status, said = convert(name, root, tmp_path / "out", capsys)
    assert status == 1 and f"{image} is no image, or cut off" in said
    image.write_bytes(whole)
    labels = [frame.labels[0].path for frame in plans[0].frames if frame.labels][-1]
    halve(labels)
    status, said = convert(name, root, tmp_path / "again", capsys)
    assert status == (2 if name == "ytvis" else 1), said
    assert str(labels) in said


@pytest.mark.parametrize("name", list(CASES))
def test_a_label_without_its_image_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    CASES[name][0](root)
    frame = next(SOURCES[name].plan(root, SOURCES[name])).frames[0]
    frame.image.unlink()
    for _ in range(2):  # the second time, what is complete is not written again
        status, said = convert(name, root, tmp_path / "out", capsys)
        assert status == 1
        assert f"{frame.image} does not exist" in said or f"{frame.labels[0].path} labels an image" in said  # type: ignore[index]


def test_a_video_of_which_nothing_is_left_is_said_and_is_not_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in/JPEGImages").mkdir(parents=True)
    save(tmp_path / "in/Annotations/a/00000.png", labels({1: LEFT}))
    command = ["data", "convert", "davis", str(tmp_path / "in"), str(tmp_path / "out"), "--split", "test"]
    assert cli.main(command) == 1
    assert "not written: davis/test/a" in capsys.readouterr().out
    assert not list(tmp_path.glob("out/**/video.json"))


def test_a_label_image_with_a_palette_of_its_own_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    davis(root)
    path = root / "train/Annotations/ab12/00010.png"
    ids = Image.fromarray(labels({2: LEFT, 7: RIGHT}))
    ids.putpalette([0, 0, 0] + [9, 9, 9] * 8)
    ids.save(path)
    status, said = convert("davis", root, tmp_path / "out", capsys)
    assert status == 1 and f"{path} has another palette" in said
    assert "2 has the colour (9, 9, 9), there (0, 128, 0)" in said
    save(path, np.random.default_rng(0).integers(0, 9, (H, W, 3), np.uint8))
    status, said = convert("davis", root, tmp_path / "again", capsys)
    assert status == 1 and f"{path} is no label image" in said


@pytest.mark.parametrize(
    ("name", "file", "entries"),
    [
        ("grasp", "annotations/grasp_short-term_train.json", "annotations"),
        ("endoscapes", "train_seg/annotation_coco.json", "categories"),
        ("ytvis", "valid/valid.json", "annotations"),
        ("ytvis", "valid/valid.json", "videos"),
        ("synth", "Annotations/long_0003/objects.json", "objects"),
    ],
)
def test_an_id_that_two_have_is_named(
    name: str, file: str, entries: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    CASES[name][0](root)
    raw = json.loads((root / file).read_text())
    raw[entries].append(raw[entries][0])
    (root / file).write_text(json.dumps(raw))
    status, said = convert(name, root, tmp_path / "out", capsys)
    assert status == (1 if name in ("grasp", "endoscapes") else 2), "the other files are converted"
    assert f"{root / file}: {entries}: two have the id {raw[entries][0]['id']}" in said


def test_davis_takes_its_splits_from_lists_and_asks_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for video in ("bear", "cows"):
        photo(tmp_path / f"in/JPEGImages/480p/{video}/00000.jpg")
        save(tmp_path / f"in/Annotations/480p/{video}/00000.png", labels({255: LEFT}))
    status, said = convert("davis", tmp_path / "in", tmp_path / "out", capsys)
    assert status == 2 and "does not say which split bear belongs to: give --split" in said
    lists = tmp_path / "in/ImageSets/2016"
    lists.mkdir(parents=True)
    line = "/JPEGImages/480p/{0}/00000.jpg /Annotations/480p/{0}/00000.png\n"
    (lists / "train.txt").write_text(line.format("bear"))
    (lists / "val.txt").write_text("cows\n")
    assert convert("davis", tmp_path / "in", tmp_path / "out", capsys)[0] == 0
    found = {path.relative_to(tmp_path / "out").as_posix() for path in find_videos(tmp_path / "out")}
    assert found == {"davis/train/bear", "davis/val/cows"}
