"""Which objects lie on one another. Two that share their pixels cannot both be right, whatever each says of itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRESH_FRAMES = 10
"""Frames after a prompt within which it is recent."""
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
    iou: NDArray[np.float64], sure: NDArray[np.float64], fresh: NDArray[np.bool_], most: float
) -> NDArray[np.bool_]:
    """Which of N objects [N] are taken to be out of view, since their mask is that of a surer one.

    Of two with an IoU [N, N] above `most`, a `fresh` one [N], whose prompt is recent, is surer than one that is not,
    and two fresh ones are left alone: somebody has just looked. Else it is that of the larger `sure` [N], or the first.
    """
    twins = (iou > most) & ~(fresh[:, None] & fresh)
    value = sure + 2.0 * fresh  # predicted IoUs lie within 0 and 1
    place = np.arange(len(sure))
    beaten = (value[:, None] < value) | ((value[:, None] == value) & (place[:, None] > place))
    return np.asarray((twins & beaten).any(axis=1))


def nearest_twins(logits: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Of each of N objects with logits [N, h, w] the largest IoU [N] with another one's mask, and whose it is [N]."""
    count = len(logits)
    if count < 2:
        return np.zeros(count), np.zeros(count, dtype=np.intp)
    iou = pairwise_iou(logits > 0)
    return iou.max(axis=1), iou.argmax(axis=1)
