"""Masks as the runs of their columns, N masks at once: of these few numbers all that is said of a mask is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Window = tuple[int, int, int, int]
"""y0, y1, x0, x1 of a part of the image, ends excluded."""
Runs = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
"""Of one mask: column x, first row and the row after the last, [K] each, from left to right and from top to bottom."""
NO_WINDOW: Window = (0, 0, 0, 0)


@dataclass(frozen=True)
class MaskRuns:
    """N masks of one image, which may overlap: K runs [K] by ascending mask, column and row, none touching the next.

    `x` column, `top` first row and `bottom` row after the last; `starts` [N + 1] where among them each mask begins.
    """

    image_size: tuple[int, int]
    starts: NDArray[np.intp]
    x: NDArray[np.intp]
    top: NDArray[np.intp]
    bottom: NDArray[np.intp]

    @classmethod
    def of_parts(cls, image_size: tuple[int, int], parts: Sequence[Runs]) -> MaskRuns:
        """Of N masks, each of its own runs."""
        counts = [len(x) for x, _, _ in parts]
        starts = np.concatenate(([0], np.cumsum(counts, dtype=np.intp)))
        nothing = np.zeros(0, dtype=np.intp)
        x, top, bottom = (
            np.concatenate([nothing, *one]) for one in (zip(*parts, strict=True) if parts else ((), (), ()))
        )
        return cls(image_size, starts, x, top, bottom)

    @classmethod
    def of_masks(cls, masks: NDArray[np.bool_]) -> MaskRuns:
        """Of masks bool [N, H, W]."""
        return cls.of_parts((masks.shape[1], masks.shape[2]), [column_runs(mask) for mask in masks])

    @classmethod
    def none(cls, count: int, image_size: tuple[int, int]) -> MaskRuns:
        """Of `count` empty masks."""
        nothing = np.zeros(0, dtype=np.intp)
        return cls(image_size, np.zeros(count + 1, dtype=np.intp), nothing, nothing, nothing)

    @property
    def count(self) -> int:
        """N."""
        return len(self.starts) - 1

    def of(self, row: int) -> Runs:
        """The runs of one mask."""
        part = slice(self.starts[row], self.starts[row + 1])
        return self.x[part], self.top[part], self.bottom[part]

    def chosen(self, rows: NDArray[np.intp]) -> MaskRuns:
        """These masks alone, in this order."""
        return self.of_parts(self.image_size, [self.of(int(row)) for row in rows])

    def with_masks(self, masks: Mapping[int, NDArray[np.bool_]]) -> MaskRuns:
        """The same with some masks bool [H, W] in the place of those that they have."""
        if not masks:
            return self
        parts = [column_runs(masks[row]) if row in masks else self.of(row) for row in range(self.count)]
        return self.of_parts(self.image_size, parts)

    def window(self, row: int) -> Window:
        """The smallest part of the image that holds a mask; `NO_WINDOW` of an empty one."""
        x, top, bottom = self.of(row)
        if len(x) == 0:
            return NO_WINDOW
        return int(top.min()), int(bottom.max()), int(x[0]), int(x[-1]) + 1

    def crop(self, row: int) -> tuple[Window, NDArray[np.bool_]]:
        """A mask's window and what is in it, bool [y1 - y0, x1 - x0]."""
        window = y0, y1, x0, x1 = self.window(row)
        x, top, bottom = self.of(row)
        if len(x) == 0:
            return window, np.zeros((0, 0), dtype=np.bool_)
        height = y1 - y0
        begin = (x - x0) * height - y0
        edges = np.concatenate(
            ([0], np.stack((begin + top, begin + bottom), axis=1).ravel(), [height * (x1 - x0)])
        )
        columns = np.repeat(np.arange(len(edges) - 1) % 2 == 1, np.diff(edges)).reshape(x1 - x0, height)
        return window, np.asarray(cv2.transpose(columns.view(np.uint8))).view(np.bool_)

    def masks(self) -> NDArray[np.bool_]:
        """All masks, bool [N, H, W]."""
        masks = np.zeros((self.count, *self.image_size), dtype=np.bool_)
        for row, mask in enumerate(masks):
            (y0, y1, x0, x1), crop = self.crop(row)
            mask[y0:y1, x0:x1] = crop
        return masks


def column_runs(mask: NDArray[np.bool_]) -> Runs:
    """The runs of one mask bool [H, W]."""
    columns = np.flatnonzero(mask.any(axis=0))
    first = int(columns[0]) if len(columns) else 0
    part = mask[:, first : int(columns[-1]) + 1 if len(columns) else 0]
    y, x = np.divmod(np.flatnonzero(part[1:] != part[:-1]), max(part.shape[1], 1))
    edge = (np.flatnonzero(part[0]), np.flatnonzero(part[-1]))
    height = len(part)
    x = np.concatenate((edge[0], x, edge[1]))
    y = np.concatenate((np.zeros_like(edge[0]), y + 1, np.full_like(edge[1], height)))
    order = np.argsort(x * (height + 1) + y, kind="stable")
    x, y = x[order] + first, y[order]
    return x[::2], y[::2], y[1::2]
