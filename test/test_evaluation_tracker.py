"""`sam2s evaluate` with the real tracker: untrained weights, a few drawn frames, every kind of prompt."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam2s_ros.evaluation import command
from sam2s_ros.evaluation.prompts import PROMPTS
from sam2s_ros.evaluation.records import RecordReader
from sam2s_ros.network import build_network
from sam2s_ros.network.checkpoint import save_checkpoint
from sam2s_ros.tracking.states import TrackState


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_checkpoint(path, build_network("nano").state_dict(), "nano", "Apache-2.0")
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of a disk that moves, joined by a second object on the third, in the DAVIS layout."""
    root = tmp_path_factory.mktemp("source")
    images, labels = root / "JPEGImages" / "disk", root / "Annotations" / "disk"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in range(5):
        label = np.zeros((120, 160), np.uint8)
        cv2.circle(label, (40 + 5 * number, 60), 20, 1, -1)
        if number >= 2:
            cv2.rectangle(label, (110, 20), (140, 90), 2, -1)
        image = cv2.merge([60 * label, 90 + label, 200 - 50 * label])
        cv2.imwrite(str(images / f"{number:05d}.jpg"), image)
        cv2.imwrite(str(labels / f"{number:05d}.png"), label)
    return root


def evaluate(source: Path, *options: str) -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert command.run(parser.parse_args([str(source), *options])) == 0


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_gives_scores_for_every_object(
    prompt: str, source: Path, weights: Path, tmp_path: Path
) -> None:
    evaluate(source, "--model", str(weights), "--prompts", prompt, "--no-baselines", "--out", str(tmp_path))
    document = json.loads((tmp_path / "summary.json").read_text())
    objects = document["scores"][str(weights)]["objects"]
    assert [(item["label"], item["first_frame"], item["frames"]) for item in objects] == [
        (1, 0, 3),
        (2, 2, 1),
    ]
    assert all(0 <= item["jf_present"] <= 100 for item in objects)


def test_the_document_says_what_ran(source: Path, weights: Path, tmp_path: Path) -> None:
    options = ("--no-baselines", "--no-overlay", "--set", "previous_mask_prompt=box")
    evaluate(source, "--model", str(weights), *options, "--out", str(tmp_path))
    document = json.loads((tmp_path / "summary.json").read_text())
    assert document["tracker"]["previous_mask_prompt"] == "box"
    assert len(document["engine"]["weights_sha256"]) == 64


def test_as_many_objects_are_tracked_as_the_ground_truth_names(weights: Path, tmp_path: Path) -> None:
    """More than the tracker's default; ten squares, named in objects.json."""
    images, labels = tmp_path / "JPEGImages" / "squares", tmp_path / "Annotations" / "squares"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    label = np.zeros((120, 160), np.uint8)
    for number in range(10):
        label[10 + 60 * (number // 5) :, 10 + 30 * (number % 5) :][:30, :20] = number + 1
    for frame in range(3):
        cv2.imwrite(str(images / f"{frame}.jpg"), cv2.merge([20 * label] * 3))
        cv2.imwrite(str(labels / f"{frame}.png"), label)
    objects = [{"id": number, "name": f"square {number}"} for number in range(1, 11)]
    (labels / "objects.json").write_text(json.dumps({"objects": objects, "fps": 5, "prompt_area": 0.01}))
    evaluate(tmp_path, "--model", str(weights), "--no-baselines", "--out", str(tmp_path / "out"))
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert document["tracker"]["max_objects"] == 10
    assert len(document["scores"][str(weights)]["objects"]) == 10


def test_the_same_run_gives_the_same_summary_but_for_timings(
    source: Path, weights: Path, tmp_path: Path
) -> None:
    summaries = []
    for name in ("one", "two"):
        evaluate(source, "--model", str(weights), "--no-baselines", "--out", str(tmp_path / name))
        summaries.append(json.loads((tmp_path / name / "summary.json").read_text()))
        assert summaries[-1].pop("timings")[str(weights)]["p50_ms"] > 0
    assert summaries[0] == summaries[1]


def test_the_records_have_what_the_tracker_says(source: Path, weights: Path, tmp_path: Path) -> None:
    evaluate(source, "--model", str(weights), "--no-baselines", "--no-overlay", "--out", str(tmp_path))
    reader = RecordReader(tmp_path)
    columns = reader.columns(
        reader.objects[0], "state", "presence", "predicted_iou", "prompted", "latency_ms"
    )
    assert set(columns["state"]) <= {state.name for state in TrackState}
    assert ((columns["presence"] >= 0) & (columns["presence"] <= 1)).all()
    assert columns["prompted"].tolist() == [True, False, False, False, False]
    assert (columns["latency_ms"] > 0).all() and np.isfinite(columns["predicted_iou"]).all()


def test_overlay_is_a_video_of_every_frame(source: Path, weights: Path, tmp_path: Path) -> None:
    evaluate(source, "--model", str(weights), "--no-baselines", "--out", str(tmp_path))
    video = cv2.VideoCapture(str(tmp_path / "overlay.mp4"))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    assert len(frames) == 5 and frames[0].shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("kept_frames=many", "takes a value like"),
        ("drop_stray_components=maybe", "true or false"),
        ("kept_frames", "NAME=VALUE"),
        ("keep=3", "unknown tracker setting"),
    ],
)
def test_a_wrong_setting_is_refused(setting: str, message: str, source: Path, weights: Path) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(source, "--model", str(weights), "--set", setting)
