"""Connected components of a mask: which belong to the object, which are strays."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def keep_own_components(
    mask: NDArray[np.bool_], previous: NDArray[np.bool_], distance: int
) -> NDArray[np.bool_] | None:
    """Where a mask may stay: everywhere except on its stray components.

    A component belongs to the object when it comes within `distance` pixels (in x and in y) of the previous
    mask. When none does, or there is no previous mask, the largest belongs.

    Args:
        mask: bool [h, w] of this frame.
        previous: bool [h, w] of the frame before; may be empty.
        distance: pixels.

    Returns:
        bool [h, w], or None when nothing is to be dropped.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S
    )
    if count <= 2:  # the background and at most one component
        return None
    near = previous.view(np.uint8)
    if distance:
        near = np.asarray(cv2.dilate(near, np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)))
    belongs = np.zeros(count, dtype=np.bool_)
    belongs[labels[near.astype(np.bool_)]] = True
    belongs[0] = True
    if not belongs[1:].any():
        belongs[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))] = True
    return None if belongs.all() else belongs[labels]


def keep_own_components_batch(
    masks: NDArray[np.bool_], previous: NDArray[np.bool_], distance: int
) -> NDArray[np.bool_] | None:
    """`keep_own_components` of N masks [N, h, w]; None when nothing is to be dropped from any."""
    kept = [keep_own_components(mask, before, distance) for mask, before in zip(masks, previous, strict=True)]
    if all(keep is None for keep in kept):
        return None
    everywhere = np.ones(masks.shape[1:], dtype=np.bool_)
    return np.stack([everywhere if keep is None else keep for keep in kept])
