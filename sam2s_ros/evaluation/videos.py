"""A video file in place of a bag: decoded frame by frame, ground truth from a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sam2s_ros.evaluation.ground_truth import FolderTruth
from sam2s_ros.evaluation.sequences import LabelledFrame

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v"})


def is_video(path: Path) -> bool:
    """Whether a path is named like a video file."""
    return path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class VideoSequence:
    """The frames of a video, stamped frame number / rate, with label images as `FolderTruth` says.

    rate_hz: None for that of the file.
    """

    path: Path
    label_folder: Path | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    title: str = ""
    rate_hz: float | None = None

    @property
    def name(self) -> str:
        """The file's name without its suffix, unless it was given another."""
        return self.title or self.path.stem

    def frames(self) -> Iterator[LabelledFrame]:
        """Each frame in order.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no video, ends before its index does, or ground truth does not fit.
        """
        with _opened(self.path) as video:
            rate_hz, count = self.rate_hz, int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            if rate_hz is None:
                rate_hz = video.get(cv2.CAP_PROP_FPS)
            if not rate_hz > 0:
                raise ValueError(
                    f"{self.path}: no frame rate above 0 is known; make a bag of it: sam2s bag from-video --rate HZ"
                )
            truth = FolderTruth(self.label_folder, count, self.path) if self.label_folder else None
            index = 0
            while True:
                read, image_bgr = video.read()
                if not read:
                    break
                image = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
                stamp_ns = round(index * 1_000_000_000 / rate_hz)
                yield LabelledFrame(
                    stamp_ns, image, truth.labels(stamp_ns, image.shape[:2]) if truth else None
                )
                index += 1
            if index < count:
                raise ValueError(f"{self.path} is damaged or cut: {index} of {count} frames could be decoded")
            if truth is not None:
                truth.require_all_matched()


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no video {path}")
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise ValueError(f"{path} is no video that OpenCV can read")
        yield video
    finally:
        video.release()
