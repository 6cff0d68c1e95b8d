"""From a camera image to the network's square input."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_to_square(frame_rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] -> uint8 [size, size, 3], both sides stretched as SAM 2 does.

    Area averaging where a side shrinks, bilinear where it grows; both keep pixel centres where they belong.
    """
    height, width = frame_rgb.shape[:2]
    if (height, width) == (size, size):
        return frame_rgb
    frame_rgb = np.ascontiguousarray(frame_rgb)
    if (height >= size) != (width >= size):  # OpenCV averages areas only when both sides shrink
        middle = (size, height) if width >= size else (width, size)
        frame_rgb = np.asarray(cv2.resize(frame_rgb, middle, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return np.asarray(cv2.resize(frame_rgb, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    interpolation = cv2.INTER_AREA if height >= size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame_rgb, (size, size), interpolation=interpolation), dtype=np.uint8)


class Normaliser:
    """uint8 [S, S, 3] RGB -> float32 [3, S, S], (x / 255 - mean) / std, written into a buffer that is
    kept."""

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        deviation = np.asarray(std, dtype=np.float64)[:, None, None]
        self._scale = (1.0 / (255.0 * deviation)).astype(np.float32)
        self._offset = (-np.asarray(mean, dtype=np.float64)[:, None, None] / deviation).astype(np.float32)

    def __call__(self, image: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
        np.multiply(image.transpose(2, 0, 1), self._scale, out=out)
        out += self._offset
