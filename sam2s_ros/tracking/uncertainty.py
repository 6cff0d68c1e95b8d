"""How sure the decoder is of each pixel, and how wide the band is in which an object's boundary may lie.

Source: SAM2S (arXiv 2511.16618), section 4.4: trained with softened labels, the decoder's probability says how
ambiguous a boundary is.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BAND_LOGIT = float(np.log(9.0))
"""Logit of probability 0.9: the boundary lies between 0.1 and 0.9."""


def pixel_uncertainty(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Twice the probability that a pixel is judged wrongly, 0 sure .. 1 undecided, of logits of any shape."""
    return np.asarray(2 / (1 + np.exp(np.minimum(np.abs(logits), 80))), dtype=np.float32)


def image_uncertainty(logits: NDArray[np.float32], image_size: tuple[int, int]) -> NDArray[np.float32]:
    """Uncertainty float32 [N, H, W] of every pixel of the image, from logits [N, mask_size, mask_size]."""
    height, width = image_size
    result = np.empty((len(logits), height, width), dtype=np.float32)
    for one, out in zip(logits, result, strict=True):
        cv2.resize(one, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return pixel_uncertainty(result)


def mask_uncertainty(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean uncertainty [N] of the pixels of each mask, logits [N, mask_size, mask_size]; NaN for an empty mask."""
    inside = logits > 0
    count = inside.sum(axis=(1, 2))
    total = np.where(inside, pixel_uncertainty(logits), 0).sum(axis=(1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def boundary_width(logits: NDArray[np.float32], image_size: tuple[int, int]) -> NDArray[np.float32]:
    """Width [N] in image pixels of the band across the boundary in which the probability is 0.1 to 0.9.

    The median over the places where the boundary crosses from one logit to the next, each from the slope of the
    logits there; NaN for a mask without boundary. logits: [N, mask_size, mask_size].
    """
    spacing = [length / cells for length, cells in zip(image_size, logits.shape[1:], strict=True)]
    widths = np.full(len(logits), np.nan, dtype=np.float32)
    for index, one in enumerate(logits):
        positive = one > 0
        if positive.any() and not positive.all():
            slopes = _slopes_at_crossings(one, positive, spacing)
            widths[index] = np.median(2 * BAND_LOGIT / np.maximum(slopes, 1e-6))
    return widths


def _slopes_at_crossings(
    logits: NDArray[np.float32], positive: NDArray[np.bool_], spacing: list[float]
) -> NDArray[np.float32]:
    """Length [K] of the gradient, per image pixel, at each pair of neighbours of different sign."""
    along_y: NDArray[np.float32] = np.asarray(np.gradient(logits, spacing[0], axis=0))
    along_x: NDArray[np.float32] = np.asarray(np.gradient(logits, spacing[1], axis=1))
    down, right = positive[1:] != positive[:-1], positive[:, 1:] != positive[:, :-1]
    steep_y = np.diff(logits, axis=0)[down] / spacing[0]
    steep_x = np.diff(logits, axis=1)[right] / spacing[1]
    beside_x = (0.5 * (along_x[1:] + along_x[:-1]))[down]
    beside_y = (0.5 * (along_y[:, 1:] + along_y[:, :-1]))[right]
    return np.concatenate([np.hypot(steep_y, beside_x), np.hypot(steep_x, beside_y)])
