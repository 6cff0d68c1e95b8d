"""What the check says of facts that cannot be, of label images that are gone, and of a process that dies."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_source_cases import CASES
from test_data_broken_sources import change, convert

from sam2s_ros import cli
from sam2s_ros.data import dataset_check
from sam2s_ros.data.dataset_check import Problem, check_video
from sam2s_ros.data.instrument_bank import bank_kinds
from sam2s_ros.data.video_folder import read_index, write_index


@pytest.fixture
def video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A video with a label image on both of its frames."""
    (tmp_path / "in").mkdir()
    CASES["vocalfolds"][0](tmp_path / "in")
    return convert("vocalfolds", tmp_path / "in", capsys)[2]["test/patient1_seq4"].path


def facts(**entries: object) -> Callable[[Path], None]:
    return lambda video: change(video / "video.json", lambda raw: raw.update(entries))


SPOILED: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "a lost label image": (
        "missing-masks",
        "conversion.json says 2, one for each frame; without one: [9]",
        lambda video: (video / "masks/000009.png").unlink(),
    ),
    "a slow camera": ("frame-rate", "0.009 per second", facts(frame_rate=0.009)),
    "a fast camera": ("frame-rate", "1001 per second", facts(frame_rate=1001)),
    "a prompt above the image": ("prompt-area", "1.5", facts(prompt_area=1.5)),
    "a prompt below nothing": ("prompt-area", "-0.1", facts(prompt_area=-0.1)),
    "no data set": ("empty-entry", "dataset is empty", facts(dataset="")),
    "no licence": ("empty-entry", "licence is empty", facts(licence=" ")),
}


@pytest.mark.parametrize("case", list(SPOILED))
def test_the_check_finds_facts_that_cannot_be(case: str, video: Path) -> None:
    kind, text, spoil = SPOILED[case]
    assert check_video(video, bank_kinds()) == []
    spoil(video)
    (problem,) = check_video(video, bank_kinds())
    assert problem.kind == kind and text in problem.text
    assert f"`{kind}`" in (Path(__file__).parents[1] / "docs/data.md").read_text()


def test_facts_at_the_edge_are_none(video: Path) -> None:
    for rate, area in ((0.01, 0.0), (1000.0, 1.0)):
        facts(frame_rate=rate, prompt_area=area)(video)
        kinds = {problem.kind for problem in check_video(video, bank_kinds())}
        assert not kinds & {"frame-rate", "prompt-area"}


def test_masks_that_were_added_are_no_loss(video: Path) -> None:
    shutil.copy(video / "frames/000009.jpg", video / "frames/000010.jpg")
    write_index(video / "masks/000010.png", np.asarray(read_index(video / "masks/000009.png")))
    facts(frames=3)(video)
    assert check_video(video, bank_kinds()) == []


def die(path: Path, **_: object) -> list[Problem]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def test_a_check_whose_process_dies_says_so_in_a_line(
    video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dataset_check, "check_video", die)
    assert cli.main(["data", "check", str(video.parents[2]), "--jobs", "2"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sam2s: error")]
    assert len(error) == 1 and "a process that checked videos has died" in error[0] and "--jobs" in error[0]


def test_a_name_that_is_no_utf_8_is_shown(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts(skipped=["\udcff.jpg is no image"])(video)
    assert cli.main(["data", "check", str(video)]) == 1
    assert r"\udcff.jpg is no image" in capsys.readouterr().out
