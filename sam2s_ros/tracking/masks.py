"""Mask logits -> masks at image resolution, computed only where a mask can be.

A pixel of the image lies between four logits. Where none of them is positive, neither is anything between
them, so the bilinear interpolation runs on the bounding region of the positive logits alone and gives what
it would give on the whole image, bit for bit.
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
                np.greater(self.interpolate(one, window), 0, out=mask[y0:y1, x0:x1])
        return masks, windows

    def window(self, logits: NDArray[np.float32]) -> Window:
        """The part of the image in which the interpolated logits can be positive."""
        positive = logits > 0
        rows, columns = np.asarray(positive.any(axis=1)), np.asarray(positive.any(axis=0))
        return (*self._rows.window(rows), *self._columns.window(columns))

    def interpolate(self, logits: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
        """Bilinear logits float32 in the window: first along x on the few logit rows, then along y."""
        y0, y1, x0, x1 = window
        before, after = self._columns.before[x0:x1], self._columns.after[x0:x1]
        weight = self._columns.weight[x0:x1]
        first, last = int(self._rows.before[y0]), int(self._rows.after[y1 - 1])
        part = logits[first : last + 1]
        along_x = part[:, before] * (1 - weight) + part[:, after] * weight
        weight = self._rows.weight[y0:y1, None]
        upper = along_x.take(self._rows.before[y0:y1] - first, axis=0)
        lower = along_x.take(self._rows.after[y0:y1] - first, axis=0)
        upper *= 1 - weight
        lower *= weight
        upper += lower
        return np.asarray(upper)


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
