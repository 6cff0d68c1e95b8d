"""The IoUs of the EndoVis instrument challenges, by class and frame, as ISINet's paper defines them.

All objects of a class are one mask. Of a frame, the IoU of a class counts where the class is in the ground truth or the
prediction. IoU ("ISI") is the mean over frames of the mean over these classes; the challenge's IoU counts only classes
in the frame's ground truth, and leaves frames without any out; mcIoU is the mean over classes of each class's mean over
frames (González, Bravo-Sánchez, Arbeláez, MICCAI 2020, arXiv:2007.05533).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.intervals import Bootstrap, Interval


@dataclass(frozen=True)
class ClassFrames:
    """The classes of the frames of one sequence, [K] each; a class once a frame; no frame without ground truth."""

    frame: NDArray[np.int64]
    name: NDArray[np.object_]
    predicted_px: NDArray[np.float64]
    true_px: NDArray[np.float64]
    intersection_px: NDArray[np.float64]


@dataclass(frozen=True)
class EndoVisIous:
    """In percent, each with its interval over sequences; None where no frame has what it is made of."""

    challenge_iou: float | None
    iou: float | None
    mc_iou: float | None
    classes: dict[str, float]
    """Mean IoU of each class."""
    challenge_interval: Interval | None
    iou_interval: Interval | None
    mc_interval: Interval | None


def endovis_ious(sequences: Sequence[ClassFrames], bootstrap: Bootstrap) -> EndoVisIous:
    """The three IoUs over all frames of all sequences."""
    names = sorted({name for one in sequences for name in one.name})
    place = {name: index for index, name in enumerate(names)}
    challenge, isi = np.zeros((2, len(sequences))), np.zeros((2, len(sequences)))
    by_class = np.zeros((2, len(sequences), len(names)))
    for row, one in enumerate(sequences):
        union = one.predicted_px + one.true_px - one.intersection_px
        seen = union > 0
        iou = one.intersection_px[seen] / union[seen]
        codes = np.array([place[name] for name in one.name[seen]], np.int64)
        by_class[:, row] = [np.bincount(codes, weights, len(names)) for weights in (iou, np.ones_like(iou))]
        frames, true = one.frame[seen], one.true_px[seen] > 0
        isi[:, row] = _frame_means(frames, iou)
        challenge[:, row] = _frame_means(frames[true], iou[true])
    return EndoVisIous(
        challenge_iou=_percent(*challenge.sum(axis=1)),
        iou=_percent(*isi.sum(axis=1)),
        mc_iou=_class_mean(*by_class.sum(axis=1)),
        classes={
            name: 100 * float(total / count)
            for name, total, count in zip(names, *by_class.sum(axis=1), strict=True)
            if count
        },
        challenge_interval=_in_percent(bootstrap.interval(*challenge)),
        iou_interval=_in_percent(bootstrap.interval(*isi)),
        mc_interval=_in_percent(bootstrap.interval(*by_class)),
    )


def _frame_means(frames: NDArray[np.int64], iou: NDArray[np.float64]) -> tuple[float, int]:
    """Sum over frames of the mean of each, and the number of frames."""
    if not len(frames):
        return 0.0, 0
    inverse = np.unique(frames, return_inverse=True)[1]
    means = np.bincount(inverse, iou) / np.bincount(inverse)
    return float(means.sum()), len(means)


def _percent(total: float, count: float) -> float | None:
    return 100 * float(total / count) if count else None


def _class_mean(totals: NDArray[np.float64], counts: NDArray[np.float64]) -> float | None:
    known = counts > 0
    return 100 * float((totals[known] / counts[known]).mean()) if known.any() else None


def _in_percent(interval: Interval | None) -> Interval | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
