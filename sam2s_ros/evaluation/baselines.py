"""What a tracker must beat: no mask at all, the first mask left in place, the first mask carried by optical
flow.

They take mask prompts only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.interface import MaskTracker


@dataclass(frozen=True)
class BaselineResult:
    """Masks bool [N, H, W] of the objects with these ids [N]."""

    ids: NDArray[np.uint32]
    masks: NDArray[np.bool_]


class FirstMaskInPlace:
    """Every object keeps the mask it was prompted with."""

    def __init__(self) -> None:
        self._masks: list[NDArray[np.bool_]] = []
        self._size = (0, 0)

    @property
    def last_result(self) -> BaselineResult:
        """The masks for the newest frame."""
        ids = np.arange(1, len(self._masks) + 1, dtype=np.uint32)
        return BaselineResult(ids, np.stack(self._masks) if self._masks else np.zeros((0, *self._size), bool))

    def step(self, frame_rgb: NDArray[np.uint8], stamp_ns: int | None = None) -> BaselineResult:
        """Advance by one frame, RGB uint8 [H, W, 3]."""
        self._size = frame_rgb.shape[:2]
        self._masks = self._carry(self._masks, frame_rgb)
        return self.last_result

    def add_object(
        self,
        frame_rgb: NDArray[np.uint8] | None,
        mask: NDArray | None = None,
        points: NDArray | None = None,
        labels: NDArray | None = None,
        box: NDArray | None = None,
        name: str = "",
    ) -> int:
        """Start an object on the frame just stepped from its mask [H, W]; ValueError for other prompts."""
        if mask is None:
            raise ValueError(f"{type(self).__name__} starts from a mask; it cannot use clicks or a box")
        self._masks.append(np.asarray(mask) > 0)
        return len(self._masks)

    def refine_object(
        self,
        object_id: int,
        frame_rgb: NDArray[np.uint8] | None = None,
        mask: NDArray | None = None,
        points: NDArray | None = None,
        labels: NDArray | None = None,
        box: NDArray | None = None,
    ) -> None:
        """Replace an object's mask on the frame just stepped; ValueError for other prompts."""
        if mask is None:
            raise ValueError(f"{type(self).__name__} is corrected by a mask; it cannot use clicks or a box")
        self._masks[object_id - 1] = np.asarray(mask) > 0

    def _carry(self, masks: list[NDArray[np.bool_]], frame_rgb: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
        """The masks on this frame, given those on the one before."""
        return masks


class EmptyMask(FirstMaskInPlace):
    """No object is anywhere but on the frame it was prompted on."""

    def _carry(self, masks: list[NDArray[np.bool_]], frame_rgb: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
        return [np.zeros_like(mask) for mask in masks]


class FlowCarriedMask(FirstMaskInPlace):
    """Every mask is warped from frame to frame by OpenCV's DIS optical flow, preset MEDIUM.

    The flow is taken from the new frame back to the one before, so each pixel looks up where it came from
    (bilinear, outside is background), and the mask is made binary again at 0.5 on every frame.
    """

    def __init__(self) -> None:
        super().__init__()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._previous: NDArray[np.uint8] | None = None

    def _carry(self, masks: list[NDArray[np.bool_]], frame_rgb: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
        grey = np.asarray(cv2.cvtColor(frame_rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        previous, self._previous = self._previous, grey
        if previous is None or not masks:
            return masks
        # None as the initial flow: an array there, even of zeros, is taken as a hint and changes the result
        flow = self._flow.calc(grey, previous, None)  # type: ignore[call-overload]
        rows, columns = np.mgrid[: grey.shape[0], : grey.shape[1]].astype(np.float32)
        source_x, source_y = columns + flow[..., 0], rows + flow[..., 1]
        return [
            cv2.remap(mask.astype(np.float32), source_x, source_y, cv2.INTER_LINEAR) > 0.5 for mask in masks
        ]  # fmt: skip


BASELINES: Mapping[str, Callable[[], MaskTracker]] = {
    "flow": FlowCarriedMask,
    "in place": FirstMaskInPlace,
    "empty": EmptyMask,
}
