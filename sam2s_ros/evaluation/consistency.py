"""Temporal consistency: how well a mask agrees with the mask of the frame before, carried along by optical flow.

The measure knows no ground truth: a mask that flickers scores low however it is placed, and a wrong one that moves with
the image scores high. Read it beside J&F.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_SIDE_PX = 512
"""Images are brought to at most so many pixels on their longer side before the flow is computed."""


class FlowConsistency:
    """IoU of each mask with the object's mask on the frame before, warped by OpenCV's DIS flow (preset FAST).

    The flow is taken from the new frame back to the one before, so that each pixel looks up where it came from
    (bilinear, outside is background; binary again at 0.5). Holds one frame and its masks.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._grey: NDArray[np.uint8] | None = None
        self._masks: dict[int, NDArray[np.uint8]] = {}

    def step(self, image: NDArray[np.uint8], masks: Mapping[int, NDArray[np.bool_]]) -> dict[int, float]:
        """Consistency 0..1 by label, given RGB uint8 [H, W, 3] and masks bool [H, W] by label.

        NaN where both masks are empty, on an object's first frame and after a change of the image's size. An image
        without pixels is one that is not known: nothing can be carried to it, or from it.
        """
        if not image.size:
            self._grey, self._masks = None, {}
            return dict.fromkeys(masks, np.nan)
        scale = min(1.0, MAX_SIDE_PX / max(image.shape[:2]))
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        grey = np.asarray(
            cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA), np.uint8
        )
        small = {label: _resized(mask, size) for label, mask in masks.items()}
        previous, before = self._grey, self._masks
        self._grey, self._masks = grey, small
        values = dict.fromkeys(masks, np.nan)
        known = [label for label in masks if label in before and (before[label].any() or small[label].any())]
        if previous is None or previous.shape != grey.shape or not known:
            return values
        # None as the initial flow: an array there, even of zeros, is taken as a hint and changes the result
        flow = self._flow.calc(grey, previous, None)  # type: ignore[call-overload]
        flow[..., 0] += np.arange(grey.shape[1], dtype=np.float32)
        flow[..., 1] += np.arange(grey.shape[0], dtype=np.float32)[:, None]
        origin, weights = cv2.convertMaps(flow[..., 0], flow[..., 1], cv2.CV_16SC2)
        for label in known:
            carried = np.asarray(cv2.remap(255 * before[label], origin, weights, cv2.INTER_LINEAR)) > 127
            now = small[label].view(bool)
            union = np.count_nonzero(carried | now)
            values[label] = np.count_nonzero(carried & now) / union if union else np.nan
        return values


def _resized(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Mask uint8 0 or 1 of size (width, height)."""
    values = np.ascontiguousarray(mask).view(np.uint8)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST), np.uint8)
