"""Videos that show predicted masks (tinted) and the ground truth's outline over the frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.sequences import LabelledFrame

COLOURS_BGR = np.array(
    [
        (75, 25, 230),
        (75, 180, 60),
        (25, 225, 255),
        (200, 130, 0),
        (48, 130, 245),
        (180, 30, 145),
        (240, 240, 70),
    ],
    np.uint8,
)


class OverlayVideo:
    """An MP4 file written frame by frame; `write` is an `evaluate.FrameObserver`."""

    def __init__(self, path: Path, rate_hz: float = 10.0) -> None:
        self._path = path
        self._rate_hz = rate_hz
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, frame: LabelledFrame, predictions: Mapping[int, NDArray[np.bool_]]) -> None:
        """Add a frame with its predicted masks by label value; raises OSError if no video can be written."""
        image = draw_overlay(frame, predictions)
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            height, width = image.shape[:2]
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), codec, self._rate_hz, (width, height))
            if not self._writer.isOpened():
                raise OSError(
                    f"cannot write a video to {self._path}; it must be an .mp4 in a writable folder"
                )
        self._writer.write(image)


def draw_overlay(frame: LabelledFrame, predictions: Mapping[int, NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """BGR uint8 [H, W, 3]: each predicted mask tinted half, each ground-truth outline in the same colour."""
    image = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), np.uint8)
    for label, mask in predictions.items():
        image[mask] = image[mask] // 2 + COLOURS_BGR[label % len(COLOURS_BGR)] // 2
    if frame.labels is None:
        return image
    for label in predictions:
        truth = np.asarray(frame.labels == label, np.uint8)
        outlines, _ = cv2.findContours(truth, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        colour = tuple(int(channel) for channel in COLOURS_BGR[label % len(COLOURS_BGR)])
        cv2.drawContours(image, outlines, -1, colour, 1)
    return image
