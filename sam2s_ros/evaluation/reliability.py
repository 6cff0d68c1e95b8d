"""Reliability of the probabilities along an object's boundary: of the pixels said to be in it with 0.7, are 70 %?

What ambiguity-resilient learning (SAM2S, arXiv 2511.16618, section 4.4) is to bring: a boundary that cannot be told is
not told with certainty.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 10
BAND_CELLS = 2
"""A cell of the mask's resolution belongs to the boundary within so many cells of the true one."""


class BoundaryReliability:
    """Sums over the cells along true boundaries, by bins of predicted probability; a few numbers, however many."""

    def __init__(self) -> None:
        self.count = np.zeros(BINS, np.int64)
        self._predicted = np.zeros(BINS, np.float64)
        self._true = np.zeros(BINS, np.float64)

    def add(self, logits: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        """Take one mask: logits [m, m] and the true mask bool [H, W] of the image, which shows the object."""
        covered = coverage(truth, logits.shape)
        band = boundary_band(covered > 0.5)
        probability = 1 / (1 + np.exp(-np.clip(logits[band].astype(np.float64), -80, 80)))
        bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
        self.count += np.bincount(bins, minlength=BINS)
        self._predicted += np.bincount(bins, probability, BINS)
        self._true += np.bincount(bins, covered[band], BINS)

    @property
    def predicted(self) -> NDArray[np.float64]:
        """Mean predicted probability [BINS], NaN in an empty bin."""
        return self._mean(self._predicted)

    @property
    def true(self) -> NDArray[np.float64]:
        """Share of the cells' area [BINS] that is in the object, NaN in an empty bin."""
        return self._mean(self._true)

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean over all cells of how far their bin's probability is from the truth."""
        total = int(self.count.sum())
        return float(np.abs(self._predicted - self._true).sum() / total) if total else float("nan")

    def _mean(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self.count > 0, sums / np.maximum(self.count, 1), np.nan)


def coverage(truth: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Share 0..1 of each cell [m, m] that a mask bool [H, W] covers."""
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(truth.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float64)


def boundary_band(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells bool [m, m] within `BAND_CELLS` of the boundary of a mask bool [m, m]; the image's border is none."""
    kernel = np.ones((2 * BAND_CELLS + 1, 2 * BAND_CELLS + 1), np.uint8)
    cells = mask.astype(np.uint8)
    return np.asarray(cv2.dilate(cells, kernel) > cv2.erode(cells, kernel))
