"""A training small enough for tests, as a user would run it: nano at 64 px on videos of a square, seconds in all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from sam2s_ros.data.video_folder import Masklet, VideoFacts, write_index, write_video_facts
from sam2s_ros.training.config import StageConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[1]


def write_video(folder: Path, split: str) -> None:
    """Eight frames of a bright square that moves over noise, in the layout of docs/data.md."""
    rng = np.random.default_rng(len(split))
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True)
    for t in range(8):
        frame = rng.integers(20, 70, (64, 64, 3), dtype=np.uint8)
        ids = np.zeros((64, 64), np.uint8)
        ids[20:44, 8 + 3 * t : 32 + 3 * t] = 1
        frame[ids == 1] = (240, 200, 90)
        Image.fromarray(frame).save(folder / "frames" / f"{t:06}.png")
        write_index(folder / "masks" / f"{t:06}.png", ids)
    masklets = (Masklet(1, "", "square", "other"),)
    write_video_facts(
        folder, VideoFacts("squares", split, "", 25.0, (64, 64), 8, "CC0-1.0", "source", masklets)
    )


def write_config(path: Path, **changes: Any) -> Path:
    """A configuration of two batches a step, images and clips in turn, beside the videos that it trains on."""
    for split in ("train", "val"):
        if not (path.parent / "videos" / split).exists():
            write_video(path.parent / "videos" / split, split)
    settings = {
        "preset": "nano",
        "image_size": 64,
        "batches": 2,
        "workers": 0,
        "warmup_steps": 2,
        "save_every_steps": 5,
        "validate_every_steps": 1000,
        "validation": "videos:videos",
        "sources": {"videos:videos": 1.0},
        "prompts": {"mask": 0.7, "max_clicks": 1},
        "loss": {"size": 16},
        "stages": [{"steps": 10, "length": 2, "clips": 1, "objects": 1, "images": 0.4}],
    }
    path.write_text(yaml.safe_dump({**settings, **changes}))
    return path


def arguments(config: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--config", str(config), "--data", str(config.parent), "--out", str(out), *more]


def start(*command: str) -> subprocess.Popen[str]:
    """`sam2s` in a process of its own, on the CPU, with one thread."""
    return _start("-m", *command)


def start_script(script: Path, *command: str) -> subprocess.Popen[str]:
    """A file of Python in such a process."""
    return _start(str(script), *command)


def _start(*command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, cwd=ROOT, text=True, stderr=subprocess.PIPE
    )


def losses(out: Path) -> list[float]:
    """The logged losses in the order of the steps, which must be complete."""
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return [record["loss"] for record in records]


def steps_logged(out: Path) -> int:
    log = out / "log.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def largest_difference(one: Path, other: Path) -> float:
    """Between the checkpoints of two runs: weights and their average."""
    a, b = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (one, other))
    assert a["step"] == b["step"] and a["network"].keys() == b["network"].keys()
    pairs = [(a[part][k], b[part][k]) for part in ("network", "average") for k in a["network"]]
    return max(float((x - y).abs().max()) for x, y in pairs)


@dataclass
class SquareClip:
    frames: np.ndarray
    masks: np.ndarray
    class_names: tuple[str, ...] = ("", "")


class Squares:
    """Bright squares that move over a dark ground; the second object leaves after the first frame."""

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> SquareClip:
        frames = np.full((length, size, size, 3), 40, np.uint8)
        masks = np.zeros((length, objects, size, size), bool)
        for k in range(objects):
            x, y = rng.integers(0, size // 2, 2)
            for t in range(1 if k else length):
                masks[t, k, y : y + size // 5, x + size // 64 * t : x + size // 64 * t + size // 5] = True
                frames[t][masks[t, k]] = (250, 60 + 120 * k, 90)
        return SquareClip(frames, masks)


def small_config(**changes: object) -> TrainConfig:
    settings: dict[str, object] = {
        "stages": (StageConfig(20, 2, 1, 2),),
        "batches": 1,
        "workers": 0,
        "warmup_steps": 2,
    }
    return TrainConfig(**{**settings, **changes})  # type: ignore[arg-type]
