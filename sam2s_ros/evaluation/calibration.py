"""`sam2s calibrate`: predicted against true IoU, from which the thresholds on the predicted one are chosen, and the
probabilities along boundaries against what is there."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.metrics import region_accuracy
from sam2s_ros.evaluation.model_arguments import model_maker
from sam2s_ros.evaluation.prompts import PROMPTS, FirstSight, prompt_object
from sam2s_ros.evaluation.reliability import BoundaryReliability
from sam2s_ros.evaluation.sequences import Sequence
from sam2s_ros.evaluation.sources import add_source_arguments, find_sequences, prompt_area_of

if TYPE_CHECKING:
    from sam2s_ros.tracking import StreamingTracker

HELP = (
    "compare the IoU that a model predicts with the true one, to choose long_term_min_iou and uncertain_iou, and its "
    "probabilities along boundaries with the truth"
)
BINS = 20
GOOD_IOU = 0.7
"""True IoU of a mask that may be remembered for long."""
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class Threshold:
    """What a threshold on the predicted IoU lets through, of all frames of all objects."""

    predicted_iou: float
    passed: float
    """Share of frames above it."""
    good: float
    """Share of those whose true IoU is at least `GOOD_IOU`; NaN when none passes."""
    mean_iou: float
    """Mean true IoU of those; NaN when none passes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s calibrate`."""
    add_source_arguments(parser)
    parser.add_argument("--model", default="nano", help="preset or weights file")
    parser.add_argument("--engine", default="auto", help="engine that runs the model")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a tracker setting (repeatable)"
    )
    parser.add_argument("--prompts", choices=PROMPTS, default="mask", help="how each object is shown")
    parser.add_argument("--out", type=Path, help="folder for calibration.json and calibration.png")
    parser.set_defaults(checkpoint=None, precision="auto")


def run(arguments: argparse.Namespace) -> int:
    """Track all sequences, print the table, write the files asked for."""
    sequences = [found for source in arguments.source for found in find_sequences(source, arguments)]
    make_tracker = model_maker(arguments, {}, max(len(one.label_names) for one in sequences))
    boundary = BoundaryReliability()
    pairs = [predicted_and_true(one, make_tracker(), arguments.prompts, boundary) for one in sequences]
    predicted, true = np.concatenate([p for p, _ in pairs]), np.concatenate([t for _, t in pairs])
    if len(predicted) == 0:
        raise ValueError("no object was in view of any frame after its prompt: nothing to calibrate with")
    table = [judge_threshold(predicted, true, one) for one in THRESHOLDS]
    print(f"{len(predicted)} masks; correlation of predicted and true IoU {correlation(predicted, true):.3f}")
    print(f"{'predicted IoU >':>16}{'passes %':>10}{'good %':>9}{'mean true IoU':>15}")
    for row in table:
        print(f"{row.predicted_iou:16.2f}{100 * row.passed:10.1f}{100 * row.good:9.1f}{row.mean_iou:15.3f}")
    print(f"{int(boundary.count.sum())} cells along boundaries; expected error {boundary.expected_error:.3f}")
    print(f"{'probability':>16}{'cells':>10}{'in the object %':>17}")
    for count, probability, share in zip(boundary.count, boundary.predicted, boundary.true, strict=True):
        print(f"{probability:16.2f}{count:10d}{100 * share:17.1f}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        document = {
            "iou": [{key: _known(value) for key, value in asdict(row).items()} for row in table],
            "boundary": {
                "expected_error": _known(boundary.expected_error),
                "cells": boundary.count.tolist(),
                "predicted": [_known(value) for value in boundary.predicted],
                "true": [_known(value) for value in boundary.true],
            },
        }
        (arguments.out / "calibration.json").write_text(
            json.dumps(document, indent=2, allow_nan=False) + "\n"
        )
        draw(predicted, true, boundary, arguments.out / "calibration.png")
    return 0


def _known(value: float) -> float | None:
    """The value as JSON has it: null for what is not known."""
    return None if np.isnan(value) else float(value)


def predicted_and_true(
    sequence: Sequence, tracker: StreamingTracker, prompt: str, boundary: BoundaryReliability
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both IoUs [K] of every mask after the prompted frame of an object that is in view; `boundary` takes them too."""
    prompter = FirstSight(prompt, area=prompt_area_of(sequence))
    ids: dict[int, int] = {}
    predicted: list[float] = []
    true: list[float] = []
    for frame in sequence.frames():
        result = tracker.step(frame.image, frame.stamp_ns)
        for label, object_id in ids.items():
            truth = np.asarray(frame.labels == label)
            if truth.any():
                row = result.index_of(object_id)
                predicted.append(float(result.iou[row]))
                true.append(region_accuracy(result.masks[row], truth))
                boundary.add(result.logits[row], truth)
        for due in prompter.due(frame, ids, sequence.label_names):
            ids[due.label] = prompt_object(tracker, frame, due)
    return np.array(predicted, np.float32), np.array(true, np.float32)


def judge_threshold(predicted: NDArray[np.float32], true: NDArray[np.float32], threshold: float) -> Threshold:
    """What passes a threshold, of predicted and true IoU [K]."""
    above = predicted > threshold
    if not above.any():
        return Threshold(threshold, 0.0, float("nan"), float("nan"))
    good = float((true[above] >= GOOD_IOU).mean())
    return Threshold(threshold, float(above.mean()), good, float(true[above].mean()))


def correlation(predicted: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """Pearson's, NaN where one of them does not vary."""
    if len(predicted) < 2 or predicted.std() == 0 or true.std() == 0:
        return float("nan")
    return float(np.corrcoef(predicted, true)[0, 1])


def draw(
    predicted: NDArray[np.float32], true: NDArray[np.float32], boundary: BoundaryReliability, path: Path
) -> None:
    """Every mask as a dot with the mean true IoU of each bin of predicted IoU, and the boundary's reliability."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bins = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    filled = np.unique(bins)
    figure, (axis, edge) = pyplot.subplots(1, 2, figsize=(10, 5))
    axis.plot(predicted, true, ",", alpha=0.5)
    axis.plot((filled + 0.5) / BINS, [true[bins == one].mean() for one in filled], "o-", label="mean")
    edge.plot(boundary.predicted, boundary.true, "o-", label=f"expected error {boundary.expected_error:.3f}")
    axis.set(xlabel="predicted IoU", ylabel="true IoU")
    edge.set(xlabel="probability of a cell along the boundary", ylabel="share of it in the object")
    for one in (axis, edge):
        one.plot([0, 1], [0, 1], "--", linewidth=0.8)
        one.set(xlim=(0, 1), ylim=(0, 1))
        one.legend()
        one.grid(True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
