"""Masks as runs of columns, and as COCO's uncompressed run lengths: column by column, the first being background."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def encode(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """bool [H, W] -> uint32 counts of alternating background and object runs that sum to H * W.

    A mask that starts with the object has a first count of 0; an empty mask is the single count H * W.
    """
    height, width = mask.shape
    columns = np.flatnonzero(mask.any(axis=0))
    if len(columns) == 0:
        return np.array([height * width], dtype=np.uint32)
    x, top, bottom = column_runs(mask[:, columns[0] : columns[-1] + 1])
    ends = np.empty(2 * len(x), dtype=np.int64)
    ends[::2], ends[1::2] = (x + columns[0]) * height + top, (x + columns[0]) * height + bottom
    # a run that goes on at the top of the next column is one
    apart = np.flatnonzero(ends[2::2] != ends[1:-1:2])
    ends = np.concatenate(
        (ends[:1], ends[np.stack((2 * apart + 1, 2 * apart + 2), axis=1)].ravel(), ends[-1:])
    )
    stop = [height * width] if ends[-1] < height * width else []
    return np.diff(np.concatenate(([0], ends, stop))).astype(np.uint32)


def column_runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The runs of a mask's columns, from left to right and from top to bottom: x, first y, and the y after the last."""
    y, x = np.divmod(np.flatnonzero(mask[1:] != mask[:-1]), mask.shape[1])
    edge = (np.flatnonzero(mask[0]), np.flatnonzero(mask[-1]))
    height = len(mask)
    x = np.concatenate((edge[0], x, edge[1]))
    y = np.concatenate((np.zeros_like(edge[0]), y + 1, np.full_like(edge[1], height)))
    order = np.argsort(x * (height + 1) + y, kind="stable")
    x, y = x[order], y[order]
    return x[::2], y[::2], y[1::2]


def decode(counts: ArrayLike, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Counts -> bool [H, W] of `size` (height, width). ValueError when the counts do not sum to H * W."""
    runs = np.asarray(counts, dtype=np.int64)
    height, width = size
    if runs.ndim != 1 or (runs < 0).any() or int(runs.sum()) != height * width:
        raise ValueError(
            f"run lengths sum to {int(runs.sum())}, the mask has {height} x {width} = {height * width} pixels"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)
