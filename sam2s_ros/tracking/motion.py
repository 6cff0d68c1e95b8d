"""How the image moved since the previous frame, at mask resolution."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.preprocess import resize_to_square

FLOW_SIZE = 256
"""Side of the square images between which the flow is estimated, in pixels."""


class MotionEstimator:
    """Dense optical flow between consecutive frames (OpenCV's DIS, medium preset; one thread and image kept)."""

    def __init__(self, mask_size: int) -> None:
        self._mask_size = mask_size
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._previous: NDArray[np.uint8] | None = None

    def reset(self) -> None:
        """The next frame has no predecessor."""
        self._previous = None

    def advance(self, frame_rgb: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Where each pixel of this frame was in the one before.

        Args:
            frame_rgb: uint8 [H, W, 3].

        Returns:
            float32 [mask_size, mask_size, 2], displacement x, y in pixels of the mask; None for a first frame.
        """
        grey = np.asarray(
            cv2.cvtColor(resize_to_square(frame_rgb, FLOW_SIZE), cv2.COLOR_RGB2GRAY), dtype=np.uint8
        )
        previous, self._previous = self._previous, grey
        if previous is None:
            return None
        flow = np.asarray(self._flow.calc(grey, previous, None))  # type: ignore[call-overload]
        size = (self._mask_size, self._mask_size)
        small = np.asarray(cv2.resize(flow, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
        return small * np.float32(self._mask_size / FLOW_SIZE)
