"""Mask logits -> masks at image resolution, computed only where a mask can end.

A pixel of the image lies between four logits. Along x they are interpolated on the few logit rows. Between two of
these rows a column of pixels is all object where both are positive, and all background where neither is; only where
their signs differ does it take the interpolation along y to tell which pixels are which. So the bilinear
interpolation, of which the sign is wanted alone, is done near the mask's boundary, and gives what it would give on the
whole image, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sam2s_ros.tracking.geometry import MaskGeometry

Window = tuple[int, int, int, int]
"""y0, y1, x0, x1 of a part of the image, ends excluded."""


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

    def window(self, occupied: NDArray[np.bool_]) -> tuple[int, int]:
        """First and one past the last pixel that touches an occupied logit; (0, 0) when none is."""
        touched = np.flatnonzero(occupied[self.before] | occupied[self.after])
        return (int(touched[0]), int(touched[-1]) + 1) if len(touched) else (0, 0)


class MaskUpsampler:
    """Turns square logits into masks of one image size."""

    def __init__(self, mask_size: int, image_size: tuple[int, int]) -> None:
        self.image_size = image_size
        self._rows = _Axis.between(mask_size, image_size[0])
        self._columns = _Axis.between(mask_size, image_size[1])

    def __call__(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.bool_], list[Window]]:
        """float32 [N, mask_size, mask_size] -> masks bool [N, H, W] and, for each, the window outside of
        which it is empty."""
        masks = np.zeros((len(logits), *self.image_size), dtype=np.bool_)
        windows = [self.window(one) for one in logits]
        for mask, one, window in zip(masks, logits, windows, strict=True):
            y0, y1, x0, x1 = window
            if y1 > y0:
                self._paint(mask[y0:y1, x0:x1], one, window)
        return masks, windows

    def window(self, logits: NDArray[np.float32]) -> Window:
        """The part of the image in which the interpolated logits can be positive."""
        positive = logits > 0
        rows, columns = np.asarray(positive.any(axis=1)), np.asarray(positive.any(axis=0))
        return (*self._rows.window(rows), *self._columns.window(columns))

    def _paint(self, out: NDArray[np.bool_], logits: NDArray[np.float32], window: Window) -> None:
        """Write where the interpolated logits are positive into `out`, the window's part of a mask."""
        y0, y1, x0, x1 = window
        first, last = int(self._rows.before[y0]), int(self._rows.after[y1 - 1])
        before, after = self._columns.before[x0:x1], self._columns.after[x0:x1]
        weight = self._columns.weight[x0:x1]
        part = logits[first : last + 1]
        upper = part.take(before, axis=1) * (1 - weight) + part.take(after, axis=1) * weight
        lower = np.concatenate((upper[1:], upper[-1:]))  # of the last row, which may end the image
        positive, beneath = upper > 0, lower > 0
        place = self._rows.before[y0:y1] - first
        out[:] = (positive & beneath).take(place, axis=0)
        gaps, columns = np.nonzero(positive != beneath)
        starts = np.searchsorted(place, np.arange(len(upper) + 1))
        counts = np.diff(starts)  # of pixels between a logit row and the next
        steps = starts[:-1, None] + np.arange(counts.max())
        share = self._rows.weight[np.minimum(y0 + steps, y1 - 1)][gaps]
        value = upper[gaps, columns, None] * (1 - share) + lower[gaps, columns, None] * share
        which, step = np.nonzero((value > 0) & (np.arange(counts.max()) < counts[gaps, None]))
        out[starts[gaps[which]] + step, columns[which]] = True


def mask_windows(geometry: MaskGeometry, image_size: tuple[int, int]) -> list[Window]:
    """The window of each mask that was measured, from its box; an empty one where there is none."""
    height, width = image_size
    return [
        (0, 0, 0, 0)
        if np.isnan(box).any()
        else (
            max(int(np.floor(box[1])), 0),
            min(int(np.ceil(box[3])) + 1, height),
            max(int(np.floor(box[0])), 0),
            min(int(np.ceil(box[2])) + 1, width),
        )
        for box in geometry.box
    ]
