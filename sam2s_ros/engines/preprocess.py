"""From a camera image to the network's square input."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_BETWEEN = 4
"""Times the size wanted up to which a side may be drawn at twice the size: beyond, pixels would be left out."""


def resize_to_square(frame_rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] -> uint8 [size, size, 3], both sides stretched as SAM 2 does.

    Area averaging where a side shrinks, bilinear where it grows; both keep pixel centres where they belong. Sides are
    halved as long as they are at least twice the size, and what then lies between is drawn at twice the size and
    halved: OpenCV averages two by two pixels some ten times as quickly as any other number of them.
    """
    if frame_rgb.shape[:2] == (size, size):
        return frame_rgb
    frame_rgb = np.ascontiguousarray(frame_rgb)
    while min(frame_rgb.shape[:2]) >= 2 * size:
        frame_rgb = _halved(frame_rgb)
    height, width = frame_rgb.shape[:2]
    if (height, width) == (size, size):
        return frame_rgb
    if min(height, width) >= size and max(height, width) <= MOST_BETWEEN * size:
        double = cv2.resize(frame_rgb, (2 * size, 2 * size), interpolation=cv2.INTER_LINEAR)
        return _halved(np.asarray(double, dtype=np.uint8))
    if (height >= size) != (width >= size):  # OpenCV averages areas only when both sides shrink
        middle = (size, height) if width >= size else (width, size)
        frame_rgb = np.asarray(cv2.resize(frame_rgb, middle, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return np.asarray(cv2.resize(frame_rgb, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    interpolation = cv2.INTER_AREA if height >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame_rgb, (size, size), interpolation=interpolation), dtype=np.uint8)


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of two by two pixels."""
    half = (image.shape[1] // 2, image.shape[0] // 2)
    return np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)


class Normaliser:
    """uint8 [S, S, 3] RGB -> [1, 3, S, S] of the given dtype, channels last in memory, (x / 255 - mean) / std."""

    def __init__(
        self, mean: tuple[float, float, float], std: tuple[float, float, float], dtype: torch.dtype
    ) -> None:
        self._scale = 1 / (255 * torch.tensor(std))
        self._offset = -torch.tensor(mean) / torch.tensor(std)
        self._dtype = dtype

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        pixels = torch.from_numpy(image).float()
        normalised = torch.addcmul(self._offset, pixels, self._scale).to(self._dtype)
        return normalised.permute(2, 0, 1)[None]
