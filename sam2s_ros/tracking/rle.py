"""Masks as COCO's uncompressed run lengths: column by column, the first being background."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sam2s_ros.tracking.runs import Runs, column_runs


def encode(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """bool [H, W] -> uint32 counts of alternating background and object runs that sum to H * W.

    A mask that starts with the object has a first count of 0; an empty mask is the single count H * W.
    """
    height, width = mask.shape
    return encode_runs(column_runs(mask), (height, width))


def encode_runs(runs: Runs, image_size: tuple[int, int]) -> NDArray[np.uint32]:
    """Counts as `encode` gives, of the runs of a mask's columns."""
    x, top, bottom = runs
    height, width = image_size
    if len(x) == 0:
        return np.array([height * width], dtype=np.uint32)
    ends = np.empty(2 * len(x), dtype=np.int64)
    ends[::2], ends[1::2] = x * height + top, x * height + bottom
    # a run that goes on at the top of the next column is one
    apart = np.flatnonzero(ends[2::2] != ends[1:-1:2])
    if len(apart) < len(x) - 1:
        ends = np.concatenate(
            (ends[:1], ends[np.stack((2 * apart + 1, 2 * apart + 2), axis=1)].ravel(), ends[-1:])
        )
    stop = [height * width] if ends[-1] < height * width else []
    return np.diff(np.concatenate(([0], ends, stop))).astype(np.uint32)


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
