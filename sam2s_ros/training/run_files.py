"""What a run leaves in its output folder beside the checkpoint: logs as JSON lines, weights, curves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sam2s_ros.network.checkpoint import read_metadata, save_checkpoint
from sam2s_ros.network.class_bank import METADATA_KEY
from sam2s_ros.training.config import TrainConfig
from sam2s_ros.training.loop import Trainer

LOG = "log.jsonl"
VALIDATION = "validation.jsonl"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
CURVES = "curves.png"


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file, without a last line that was cut off; none where there is no file."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def forget_after(out: Path, step: int) -> None:
    """Drop what the logs say of steps after `step`: a resumed run takes these steps again."""
    for path in (out / LOG, out / VALIDATION):
        if path.exists():
            kept = [json.dumps(record) + "\n" for record in read_lines(path) if record["step"] <= step]
            partial = path.with_suffix(".partial")
            partial.write_text("".join(kept), encoding="utf-8")
            os.replace(partial, path)


def write_weights(trainer: Trainer, path: Path, licence: str, scores: dict[str, float]) -> None:
    """The averaged weights as safetensors, with what made them."""
    extra = training_facts(trainer.config, trainer.step, scores)
    if trainer.bank is not None:
        extra[METADATA_KEY] = trainer.bank.facts()
    save_checkpoint(path, trainer.average, preset=trainer.config.preset, licence=licence, extra=extra)


def training_facts(config: TrainConfig, step: int, scores: dict[str, float]) -> dict[str, Any]:
    """What is written into the weights: settings, steps taken, validation, and the same of the weights begun with."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("init", "class_bank")}
    facts: dict[str, Any] = {"step": step, "validation": scores, "settings": settings}
    if config.init:
        begun_with = read_metadata(config.init)
        facts["begun_with"] = None if begun_with is None else asdict(begun_with)
    return facts


def draw_curves(out: Path) -> None:
    """Loss, IoU and validation over steps as a picture."""
    from matplotlib.figure import Figure

    rows, checks = read_lines(out / LOG), read_lines(out / VALIDATION)
    width = max(1, len(rows) // 300)
    figure = Figure(figsize=(11, 4))
    axes = figure.subplots(1, 2)
    for axis, key in ((axes[0], "loss"), (axes[1], "iou")):
        values = [row[key] for row in rows]
        means = [
            sum(values[i : i + width]) / len(values[i : i + width]) for i in range(0, len(values), width)
        ]
        axis.plot([rows[i]["step"] for i in range(0, len(rows), width)], means, label=f"training {key}")
        axis.set_xlabel("step")
    for key in ("jf_memory", "jf_previous"):
        axes[1].plot(
            [c["step"] for c in checks], [c[key] for c in checks], marker=".", label=f"validation {key}"
        )
    for axis in axes:
        axis.legend()
        axis.grid(True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(out / CURVES, dpi=100)
