"""Which objects lie on one another. Two that share their pixels cannot both be right, whatever each says of itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRESH_FRAMES = 10
"""Frames after a prompt within which it is recent."""
LEAST_ODDS = 0.3
"""Logarithm of the odds from which on one of two objects is taken to be the likelier owner of a mask. Ours: on
validation surgeries 95 % of such judgements are right (docs/results.md)."""
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
"""How many bits of each byte are set."""


def pairwise_iou(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU [N, N] of masks bool [N, h, w]; 0 of two empty ones, and of a mask with itself."""
    count = len(masks)
    if count < 2:
        return np.zeros((count, count))
    packed = np.packbits(masks.reshape(count, -1), axis=1)
    areas = _BITS[packed].sum(axis=1, dtype=np.int64)
    first, second = np.triu_indices(count, 1)
    shared = _BITS[packed[first] & packed[second]].sum(axis=1, dtype=np.int64)
    iou = np.zeros((count, count))
    iou[first, second] = shared / np.maximum(areas[first] + areas[second] - shared, 1)
    return iou + iou.T


def losing_twins(
    iou: NDArray[np.float64], odds: NDArray[np.float64], fresh: NDArray[np.bool_], most: float
) -> NDArray[np.bool_]:
    """Which of N objects [N] are taken to be out of view, since their mask is another one's.

    Of two with an IoU [N, N] above `most` it is the one that is the less likely owner by `LEAST_ODDS` or more of `odds`
    [N, N], the logarithm of how much likelier the first of a pair is than the second; with less, neither. A `fresh` one
    [N], whose prompt is recent, stays, and the other goes; of two such neither: somebody has just looked. Of
    several on one place, of which each may be less likely than some other, the likeliest stays, by the sum of its odds.
    """
    twins = iou > most
    lost = np.asarray((twins & ((odds <= -LEAST_ODDS) | fresh)).any(axis=1) & ~fresh)
    if lost.sum() > 2:
        together = twins | np.eye(len(iou), dtype=np.bool_)
        for _ in range(len(iou).bit_length()):
            together = together @ together
        unowned = ~(together & ~lost).any(axis=1)
        standing = np.where(twins, odds, 0.0).sum(axis=1)
        lost[np.where(together, standing, -np.inf).argmax(axis=1)[unowned]] = False
    return lost


def nearest_twins(logits: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Of each of N objects with logits [N, h, w] the largest IoU [N] with another one's mask, and whose it is [N]."""
    count = len(logits)
    if count < 2:
        return np.zeros(count), np.zeros(count, dtype=np.intp)
    iou = pairwise_iou(logits > 0)
    return iou.max(axis=1), iou.argmax(axis=1)
