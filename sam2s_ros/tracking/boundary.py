"""Where the boundaries of masks run between the logits, and how sure each place of them is. Batched over objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.uncertainty import BAND_LOGIT

LOGISTIC_STD = float(np.pi / np.sqrt(3.0))
"""Standard deviation of the logistic distribution of scale 1."""
LEAST_SLOPE = 1e-6


@dataclass(frozen=True)
class Boundary:
    """The K places at which the logits of N masks change sign from one cell to the next, by ascending object.

    `rows` [K] the mask of each; `points` [K, 2] x, y in image pixels, interpolated between the two cells; `lengths`
    [K] px of boundary that the place stands for; `slopes` [K] of the logits there, per pixel across the boundary. A
    mask has no boundary where it meets the image's border.
    """

    count: int
    rows: NDArray[np.intp]
    points: NDArray[np.float64]
    lengths: NDArray[np.float64]
    slopes: NDArray[np.float64]

    @property
    def widths(self) -> NDArray[np.float64]:
        """Width [K] in px of the band of probability 0.1 to 0.9 across the boundary."""
        return 2 * BAND_LOGIT / self.slopes

    @property
    def deviations(self) -> NDArray[np.float64]:
        """Standard deviation [K] in px of the boundary's place: the probability across it is the distribution function
        of where it lies, a logistic one where the logits are linear."""
        return LOGISTIC_STD / self.slopes

    def median_width(self) -> NDArray[np.float32]:
        """Median [N] of the widths of each mask; NaN for one without boundary."""
        order = np.lexsort((self.widths, self.rows))
        widths = self.widths[order]
        counts = np.bincount(self.rows, minlength=self.count)
        starts = np.cumsum(counts) - counts
        result = np.full(self.count, np.nan, dtype=np.float32)
        known = counts > 0
        lower, upper = starts + (counts - 1) // 2, starts + counts // 2
        result[known] = 0.5 * (widths[lower[known]] + widths[upper[known]])
        return result

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum [N] of values [K] over the places of each mask."""
        return np.bincount(self.rows, weights=values, minlength=self.count).astype(np.float64)

    def moments(self, weights: NDArray[np.float64], offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum [N, 2, 2] over each mask's places of weight [K] times the outer product of an offset [K, 2]."""
        x, y = offsets.T
        xx, xy, yy = (self.total(weights * product) for product in (x * x, x * y, y * y))
        return np.stack([xx, xy, xy, yy], axis=1).reshape(-1, 2, 2)


def find_boundary(logits: NDArray[np.float32], image_size: tuple[int, int]) -> Boundary:
    """The boundaries of logits [N, mask_size, mask_size] in an image of height, width `image_size`."""
    spacing = np.array([length / cells for length, cells in zip(image_size, logits.shape[1:], strict=True)])
    positive = logits > 0
    parts = [_crossings(logits, positive, spacing, axis) for axis in (0, 1)]
    rows, points, lengths, slopes = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    return Boundary(len(logits), rows[order], points[order], lengths[order], slopes[order])


def _crossings(
    logits: NDArray[np.float32], positive: NDArray[np.bool_], spacing: NDArray[np.float64], axis: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows, points, lengths and slopes of the changes of sign along y (axis 0) or x (axis 1)."""
    step = np.array([axis == 0, axis == 1], dtype=np.intp)
    cells = [slice(None), slice(None)]
    before = tuple(slice(None, -1) if step[i] else one for i, one in enumerate(cells))
    after = tuple(slice(1, None) if step[i] else one for i, one in enumerate(cells))
    rows, y, x = np.nonzero(positive[(slice(None), *before)] != positive[(slice(None), *after)])
    first = logits[rows, y, x].astype(np.float64)
    second = logits[rows, y + step[0], x + step[1]].astype(np.float64)
    part = first / (first - second)
    cell = np.stack([x + part * step[1], y + part * step[0]], axis=1)
    points = (cell + 0.5) * spacing[::-1] - 0.5
    across = (second - first) / spacing[axis]
    beside = 0.5 * sum(
        _slope_beside(logits, rows, y + s * step[0], x + s * step[1], 1 - axis) for s in (0, 1)
    )
    beside = beside / spacing[1 - axis]
    slopes = np.maximum(np.hypot(across, beside), LEAST_SLOPE)
    lengths = spacing[1 - axis] * np.abs(across) / slopes
    return rows, points, lengths, slopes


def _slope_beside(
    logits: NDArray[np.float32], rows: NDArray[np.intp], y: NDArray[np.intp], x: NDArray[np.intp], axis: int
) -> NDArray[np.float64]:
    """Difference per cell along y (axis 0) or x (axis 1) at cells [K], one-sided at the border."""
    index = (y, x)[axis]
    low, high = np.maximum(index - 1, 0), np.minimum(index + 1, logits.shape[1 + axis] - 1)
    upper, lower = ((high, x), (low, x)) if axis == 0 else ((y, high), (y, low))
    difference = logits[(rows, *upper)].astype(np.float64) - logits[(rows, *lower)]
    return np.asarray(difference / np.maximum(high - low, 1))
