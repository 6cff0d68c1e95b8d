"""Mask logits -> masks at image resolution, computed only where a mask can end.

A pixel of the image lies between four logits. Along x they are interpolated on the few logit rows. Between two of
these rows a column of pixels is all object where both are positive, and all background where neither is; only where
their signs differ does it take the interpolation along y to tell where the mask begins or ends. It does so once, for
every operation rounds monotonically. So the runs of the mask's columns are found without the mask, and are, bit for
bit, those of interpolating the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.runs import MaskRuns, Runs

AT_A_TIME = 8
"""Masks that are upsampled together: arrays of all their columns are made."""
NEAR_PX = 1e-3
"""Distance from a pixel's centre within which rounding could tell on which side of it a mask ends; in
float32 it does up to a tenth of that in an image of 16,000 rows."""


@dataclass(frozen=True)
class _Axis:
    """For each of `length` pixels along one side: the logits before and after it and the weight of the
    latter."""

    before: NDArray[np.intp]
    after: NDArray[np.intp]
    weight: NDArray[np.float32]

    @classmethod
    def between(cls, logits: int, length: int) -> _Axis:
        """Pixel centres aligned as in `interpolate(mode="bilinear", align_corners=False)`."""
        position = np.clip((np.arange(length) + 0.5) * (logits / length) - 0.5, 0, logits - 1)
        before = np.floor(position).astype(np.intp)
        return cls(before, np.minimum(before + 1, logits - 1), (position - before).astype(np.float32))


@dataclass(frozen=True)
class _Gaps:
    """The gaps between neighbouring logit rows, with one before the first row and one after the last, [rows + 1] each.

    `begin` first pixel of a gap and `end` the one after its last. The two outer gaps have no pixels.
    """

    begin: NDArray[np.intp]
    end: NDArray[np.intp]

    @classmethod
    def of(cls, axis: _Axis, rows: int) -> _Gaps:
        height = len(axis.before)
        starts = np.searchsorted(axis.before, np.arange(rows))
        return cls(np.concatenate(([0], starts[:-1], [height])), np.concatenate(([0], starts[1:], [height])))


class MaskUpsampler:
    """Turns square logits into masks of one image size."""

    def __init__(self, mask_size: int, image_size: tuple[int, int]) -> None:
        self.image_size = image_size
        self._rows = _Axis.between(mask_size, image_size[0])
        self._columns = _Axis.between(mask_size, image_size[1])
        self._gaps = _Gaps.of(self._rows, mask_size)

    def __call__(self, logits: NDArray[np.float32]) -> MaskRuns:
        """Masks of logits float32 [N, mask_size, mask_size]."""
        groups = [logits[first : first + AT_A_TIME] for first in range(0, len(logits), AT_A_TIME)]
        parts = [part for group in groups for part in self._runs(group)]
        return MaskRuns.of_parts(self.image_size, parts)

    def _runs(self, logits: NDArray[np.float32]) -> list[Runs]:
        """The runs of each mask."""
        rows = np.flatnonzero((logits > 0).any(axis=(0, 2)))
        if len(rows) == 0:
            return [(rows, rows, rows)] * len(logits)
        first, last = max(int(rows[0]) - 1, 0), min(int(rows[-1]) + 2, logits.shape[1])
        mask, x, values = self._along_x(logits[:, first:last])
        inside = np.zeros((len(x), values.shape[1] + 2), dtype=np.bool_)
        np.greater(values, 0, out=inside[:, 1:-1])
        column, gap = np.divmod(np.flatnonzero(inside[:, 1:] != inside[:, :-1]), inside.shape[1] - 1)
        places = column * values.shape[1] + gap
        upper, lower = values.take(places - 1, mode="clip"), values.take(places, mode="clip")
        edges = self._change(gap + first, upper, lower)
        column, edges = _without_pairs(column, edges, self.image_size[0])
        column, top, bottom = column[::2], edges[::2], edges[1::2]
        bounds = np.searchsorted(mask[column], np.arange(len(logits) + 1))
        parts = [slice(*pair) for pair in zip(bounds, bounds[1:], strict=False)]
        return [(x[column[part]], top[part], bottom[part]) for part in parts]

    def _change(
        self, gap: NDArray[np.intp], upper: NDArray[np.float32], lower: NDArray[np.float32]
    ) -> NDArray[np.intp]:
        """The first pixel [K] of a column that has the sign of `lower`, in the gap under `upper`, or the one after it.

        Solved for, which is exact but where a pixel lies about on the change: there the pixel is interpolated.
        """
        begin, end = self._gaps.begin[gap], self._gaps.end[gap]
        with np.errstate(divide="ignore"):  # outside of the outermost rows, where a gap has no pixels
            share = upper / (upper.astype(np.float64) - lower)
        spacing = self.image_size[0] / (len(self._gaps.end) - 1)
        place = np.clip((gap - 0.5 + share) * spacing - 0.5, begin, end)
        nearest = np.rint(place).astype(np.intp)
        edges = np.ceil(place).astype(np.intp)
        near = np.flatnonzero((np.abs(place - nearest) < NEAR_PX) & (nearest < end))
        if len(near):
            pixel, above, below = nearest[near], upper[near], lower[near]
            weight = self._rows.weight[pixel]
            value = above * (1 - weight) + below * weight
            edges[near] = pixel + ((value > 0) != (below > 0))
        return edges

    def _along_x(
        self, logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
        """The K image columns that masks can be in: mask [K], x [K], and the logits [K, rows] interpolated along x."""
        occupied = np.any(logits > 0, axis=1)
        axis = self._columns
        mask, x = np.nonzero(occupied[:, axis.before] | occupied[:, axis.after])
        side = logits.shape[2]
        by_column = np.ascontiguousarray(logits.transpose(0, 2, 1)).reshape(-1, logits.shape[1])
        weight = axis.weight[x][:, None]
        values = by_column.take(mask * side + axis.before[x], axis=0)
        values *= 1 - weight
        after = by_column.take(mask * side + axis.after[x], axis=0)
        after *= weight
        values += after
        return mask, x, values


def _without_pairs(
    column: NDArray[np.intp], edges: NDArray[np.intp], height: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The edges [K] of columns [K] less those that cancel: where a run ends and another begins at the same pixel, there
    is one, and where one ends where it begins, there is none."""
    places = column * (height + 1) + edges
    changes = np.flatnonzero(places[1:] != places[:-1])
    if len(changes) == len(places) - 1:
        return column, edges
    begins = np.concatenate(([0], changes + 1))
    kept = begins[np.diff(np.concatenate((begins, [len(places)]))) % 2 == 1]
    return column[kept], edges[kept]
