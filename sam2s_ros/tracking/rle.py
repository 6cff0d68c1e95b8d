"""Masks as COCO's uncompressed run lengths: column by column, the first run being background."""

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
    first, end = int(columns[0]), int(columns[-1]) + 1
    pixels = np.ascontiguousarray(mask[:, first:end].T).ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1 + first * height
    start = [0, first * height] if pixels[0] else [0]
    stop = [end * height, height * width] if pixels[-1] and end < width else [height * width]
    return np.diff(np.concatenate((start, changes, stop))).astype(np.uint32)


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
