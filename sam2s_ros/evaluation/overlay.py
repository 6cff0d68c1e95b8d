"""Videos that show predicted masks (tinted) and the ground truth's outline over the frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.sequences import DEFAULT_RATE_HZ, LabelledFrame

if TYPE_CHECKING:  # the demo draws too, and writes no records
    from sam2s_ros.evaluation.records import FrameRecord

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
    """An MP4 file written frame by frame, at the pace of the first two stamps; `write` is an `evaluate.FrameObserver`.

    A frame of another size is brought to that of the first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: tuple[int, NDArray[np.uint8]] | None = None
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the file; nothing may follow."""
        if self._writer is None and self._first is not None:
            self._writer = self._open(DEFAULT_RATE_HZ, self._first[1])
        if self._writer is not None:
            self._writer.release()

    def write(
        self,
        frame: LabelledFrame,
        predictions: Mapping[int, NDArray[np.bool_]],
        records: tuple[FrameRecord, ...],
    ) -> None:
        """Add a frame with its predicted masks by label value; raises OSError if no video can be written."""
        image = draw_overlay(frame, predictions)
        if self._first is None:
            self._first = (frame.stamp_ns, image)
            return
        stamp_ns, first = self._first
        if self._writer is None:
            between_ns = frame.stamp_ns - stamp_ns
            rate_hz = 1e9 / between_ns if between_ns > 0 else DEFAULT_RATE_HZ
            self._writer = self._open(min(max(rate_hz, 1.0), 120.0), first)
        if image.shape != first.shape:
            image = np.asarray(cv2.resize(image, first.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(image)

    def _open(self, rate_hz: float, first: NDArray[np.uint8]) -> cv2.VideoWriter:
        """The file, with the first image in it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._path), codec, rate_hz, first.shape[1::-1])
        if not writer.isOpened():
            raise OSError(f"cannot write a video to {self._path}; it must be an .mp4 in a writable folder")
        writer.write(first)
        return writer


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
