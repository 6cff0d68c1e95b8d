"""How sure the decoder is of each pixel.

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
