"""What counts as coming back, as found again and as a false mask; long surgeries as something to evaluate."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import evaluated

from sam2s_ros.data.long_videos import LongVideos
from sam2s_ros.data.write_videos import write_video
from sam2s_ros.evaluation import command
from sam2s_ros.evaluation.baselines import EmptyMask, FirstMaskInPlace
from sam2s_ros.evaluation.long import LongSequence, find_long_sequences
from sam2s_ros.evaluation.reidentification import (
    ReturnRule,
    absence_score,
    reappearances,
    reidentified,
)
from sam2s_ros.evaluation.scoring import ObjectScore
from sam2s_ros.evaluation.sequences import find_folder_sequences

RULE = ReturnRule(absent_frames=3, return_frames=2)
TINY = LongVideos(seeds=(0,), frames=40, fps=1.0, size=(96, 80))


def presence(text: str) -> np.ndarray:
    """`#` for a frame with the object, `.` for one without."""
    return np.array([character == "#" for character in text])


def object_score(shown: str, iou: list[float], area: list[float]) -> ObjectScore:
    return ObjectScore("tool", 1, 0, np.array(iou), np.array(iou), presence(shown), np.array(area))


@pytest.mark.parametrize(
    ("shown", "frames"),
    [
        ("##...##", [5]),
        ("##..##", []),  # away for too short a time
        ("##.....", []),  # never back
        ("#...#...#", [4, 8]),
        ("...##", []),  # not yet there is not away
        ("", []),
        (".....", []),
        ("#####", []),
    ],
)
def test_a_reappearance_is_the_first_frame_after_an_absence_of_n_frames(
    shown: str, frames: list[int]
) -> None:
    assert reappearances(presence(shown), 3) == frames


@pytest.mark.parametrize(
    ("shown", "iou", "found"),
    [
        ("#...###", [1, 0, 0, 0, 0.5, 0.0, 0.0], True),  # at once, and exactly 0.5
        ("#...###", [1, 0, 0, 0, 0.2, 0.9, 0.0], True),  # on the last frame allowed
        ("#...###", [1, 0, 0, 0, 0.2, 0.4, 0.9], False),  # too late
        ("#...#.#", [1, 0, 0, 0, 0.2, 1.0, 0.9], False),  # both empty after it left is no find
        ("#...#", [1, 0, 0, 0, 0.7], True),  # the video ends
    ],
)
def test_an_object_is_found_again_when_its_mask_is_right_within_k_frames(
    shown: str, iou: list[float], found: bool
) -> None:
    assert reidentified(np.array(iou), presence(shown), 4, RULE) is found


def test_counts_of_an_object_that_leaves_twice() -> None:
    score = object_score(
        "#...##...#", [1, 1, 0, 0, 0.8, 0.9, 0, 1, 1, 0.1], [0.1, 0, 0.2, 0.1, 0.1, 0.1, 0.3, 0, 0, 0.4]
    )
    counts = absence_score(score, RULE)
    assert (counts.reappearances, counts.reidentified) == (2, 1)
    assert (counts.absent_frames, counts.false_positive_frames) == (6, 3)
    assert counts.reidentified_share == 50 and counts.false_positive_share == 50
    assert counts.mean_area == pytest.approx(100 * 0.6 / 6)


def test_frames_without_ground_truth_are_left_out() -> None:
    unknown = float("nan")
    score = object_score("#.....#", [1, 1, unknown, unknown, 1, 1, 0.9], [0.1, 0, 0.5, 0.5, 0, 0, 0.1])
    counts = absence_score(score, RULE)
    assert counts.absent_frames == 3 and counts.false_positive_frames == 0 and counts.reappearances == 1


def test_an_object_that_never_leaves_has_no_share() -> None:
    stays = absence_score(object_score("###", [1, 1, 1], [0.1] * 3), RULE)
    assert stays.reidentified_share is stays.false_positive_share is stays.mean_area is None


@pytest.mark.parametrize("name", ["absent_frames", "return_frames", "min_iou"])
def test_a_rule_that_counts_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        replace(RULE, **{name: 0})


def test_long_sequences_are_named_by_their_seeds() -> None:
    assert [item.name for item in find_long_sequences("long:")] == [f"long:{seed}" for seed in range(8)]
    assert [item.seed for item in find_long_sequences("long:11-12")] == [11, 12]


def test_a_definition_of_long_sequences_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seeds: [3, 9]\nframes: 20\n")
    found = find_long_sequences(f"long:{tmp_path / 'mine.yaml'}")
    assert [item.seed for item in found] == [3, 9] and found[0].videos.frames == 20


@pytest.mark.parametrize("source", ["long:x", "long:5-3", "long:1,2"])
def test_a_wrong_range_of_seeds_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="write long: for the long test, long:FIRST-LAST"):
        find_long_sequences(source)


def test_an_object_is_prompted_once_it_covers_the_area_asked_for() -> None:
    sequence = LongSequence(TINY, 0)
    labels = [frame.labels for frame in sequence.frames()]
    scores = evaluated(FirstMaskInPlace, sequence, prompt_area=0.02)
    assert scores
    for item in scores:
        shares = [float((image == item.label).mean()) for image in labels]
        assert item.first_frame == next(i for i, share in enumerate(shares) if share >= 0.02)
        assert item.name == sequence.label_names[item.label]


def test_a_mask_left_in_place_is_a_false_positive_while_the_object_is_away() -> None:
    rule = ReturnRule(absent_frames=4)
    kept = evaluated(FirstMaskInPlace, LongSequence(TINY, 0), prompt_area=0.01)
    empty = evaluated(EmptyMask, LongSequence(TINY, 0), prompt_area=0.01)
    kept_counts, empty_counts = ([absence_score(item, rule) for item in items] for items in (kept, empty))
    assert {one.false_positive_share for one in kept_counts} == {100}
    assert sum(one.false_positive_frames for one in empty_counts) == 0
    assert sum(one.absent_frames for one in empty_counts) > 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("long")
    write_video(root, TINY, 0)
    return root


def test_a_written_video_is_read_with_its_names_rate_and_prompt_size(folder: Path) -> None:
    (sequence,) = find_folder_sequences(folder)
    rendered = LongSequence(TINY, 0)
    assert sequence.label_names == rendered.label_names
    assert (sequence.rate_hz, sequence.prompt_area) == (1.0, 0.01)
    for read, made in zip(sequence.frames(), rendered.frames(), strict=True):
        assert read.stamp_ns == made.stamp_ns and np.array_equal(read.labels, made.labels)


def test_a_damaged_description_is_named(folder: Path, tmp_path: Path) -> None:
    for tree in ("JPEGImages", "Annotations"):
        (tmp_path / tree).mkdir()
        (tmp_path / tree / "long_0000").symlink_to(folder / tree / "long_0000")
    labels = tmp_path / "Annotations" / "long_0000"
    labels.unlink()
    labels.mkdir()
    (labels / "objects.json").write_text('{"objects": []}')
    with pytest.raises(ValueError, match=r"objects\.json does not describe objects"):
        find_folder_sequences(tmp_path)


def test_command_reports_absences_per_object_and_as_a_mean(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    options = ["--model", "none", "--absent-frames", "4", "--return-frames", "3", "--out", str(tmp_path)]
    assert command.run(parser.parse_args([str(folder), *options])) == 0
    document = json.loads((tmp_path / "summary.json").read_text())
    assert document["return_rule"] == {"absent_frames": 4, "return_frames": 3, "min_iou": 0.5}
    scores = document["scores"]["in place"]
    assert scores["mean"]["false_share"] == 100
    counts = [item["returns"] for item in scores["objects"]]
    assert sum(counts) == scores["mean"]["returns"] > 0
    assert "Returns after 4 frames or more" in capsys.readouterr().out
