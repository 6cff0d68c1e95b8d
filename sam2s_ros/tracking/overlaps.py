"""Which objects lie on one another. Two that share their pixels cannot both be right, whatever each says of itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
"""How many bits of each byte are set."""


def pairwise_iou(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU [N, N] of masks bool [N, h, w]; 0 of two empty ones, and of a mask with itself."""
    count = len(masks)
    packed = np.packbits(masks.reshape(count, masks[0].size if count else 0), axis=1)
    areas = _BITS[packed].sum(axis=1, dtype=np.int64)
    first, second = np.triu_indices(count, 1)
    shared = _BITS[packed[first] & packed[second]].sum(axis=1, dtype=np.int64)
    iou = np.zeros((count, count))
    iou[first, second] = shared / np.maximum(areas[first] + areas[second] - shared, 1)
    return iou + iou.T


def nearest_twins(logits: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Of each of N objects with logits [N, h, w] the largest IoU [N] with another one's mask, and whose it is [N]."""
    count = len(logits)
    if count < 2:
        return np.zeros(count), np.zeros(count, dtype=np.intp)
    iou = pairwise_iou(logits > 0)
    return iou.max(axis=1), iou.argmax(axis=1)
