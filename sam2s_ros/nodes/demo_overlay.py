"""Pictures of a recorded run: the received masks over the images they belong to, as video and PNG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sam2s_ros.nodes.demo_report import PromptedTrack, ReceivedObjects, Recording, Truth
from sam2s_ros.nodes.overlay import draw_overlay, put_text

UInt8Array = npt.NDArray[np.uint8]
ImageOf = Callable[[int], UInt8Array]
"""Stamp in ns -> the image rgb uint8 [H, W, 3] that was published with it."""

ALPHA = 0.4
TRUTH_COLOUR = (255, 255, 255)
STATES = ("", "uncertain", "occluded", "lost")  # by TrackedObject.state


class OverlayPainter:
    """Draws one image of a run: each object tinted, outlined and named, the true outlines thin and white."""

    def __init__(
        self, recording: Recording, tracks: Sequence[PromptedTrack], image_of: ImageOf, truth: Truth
    ) -> None:
        """`image_of` and `truth` are asked for the stamps that are drawn only."""
        self._recording = recording
        self._tracks = tracks
        self._image_of = image_of
        self._truth = truth

    def draw(self, stamp_ns: int) -> UInt8Array:
        """The picture rgb uint8 [H, W, 3] of the image with this stamp."""
        image = self._image_of(stamp_ns)
        labels = np.zeros(image.shape[:2], np.uint8)
        picture = np.empty_like(image)
        received = self._recording.received.get(stamp_ns)
        captions = [] if received is None else self._paint(received, labels)
        draw_overlay(image, labels, captions, picture, ALPHA)
        for track in self._tracks:
            if stamp_ns >= track.stamp_ns:
                self._outline_truth(picture, stamp_ns, track.key)
        _put_footer(picture, self._footer(stamp_ns, received))
        return picture

    def _paint(self, received: ReceivedObjects, labels: UInt8Array) -> list[tuple[int, str]]:
        captions = []
        for item in received.message.objects:
            mask = received.mask(item.id)
            if mask is None or not item.label:
                continue
            labels[mask] = item.label
            captions.append((int(item.label), f"{item.name} {STATES[item.state]}".rstrip()))
        return captions

    def _outline_truth(self, picture: UInt8Array, stamp_ns: int, key: int) -> None:
        mask = self._truth(stamp_ns, key)
        if mask is not None:
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, TRUTH_COLOUR, 1, cv2.LINE_8)

    def _footer(self, stamp_ns: int, received: ReceivedObjects | None) -> str:
        frame = self._recording.image_stamps_ns.index(stamp_ns)
        if received is None:
            return f"frame {frame}: skipped"
        return f"frame {frame}: {(received.receipt_ns - stamp_ns) * 1e-6:.0f} ms, white: ground truth"


def write_video(path: Path, pictures: Iterable[UInt8Array], fps: float) -> int:
    """Write rgb pictures uint8 [H, W, 3] of one size as MPEG-4 and return how many they were.

    Raises:
        ValueError: there are no pictures.
        OSError: OpenCV cannot write this file.
    """
    writer: cv2.VideoWriter | None = None
    count = 0
    try:
        for picture in pictures:
            if writer is None:
                size = (picture.shape[1], picture.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise OSError(
                        f"OpenCV cannot write the video {path}: check the folder, and OpenCV's FFmpeg support"
                    )
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    if not count:
        raise ValueError(f"there is nothing to write to {path}")
    return count


def write_pictures(
    folder: Path, prefix: str, painter: OverlayPainter, stamps_ns: Sequence[int], count: int
) -> list[Path]:
    """Write `count` pictures, evenly spaced over `stamps_ns`, as PNG files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for position in sorted({round(place) for place in np.linspace(0, len(stamps_ns) - 1, count)}):
        path = folder / f"{prefix}_{position:04d}.png"
        picture = cv2.cvtColor(painter.draw(stamps_ns[position]), cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(path), picture):
            raise OSError(f"cannot write {path}")
        paths.append(path)
    return paths


def _put_footer(picture: UInt8Array, text: str) -> None:
    scale = max(0.4, picture.shape[0] / 1000)
    origin = (8, picture.shape[0] - 8)
    put_text(picture, text, origin, scale, (255, 255, 255))
