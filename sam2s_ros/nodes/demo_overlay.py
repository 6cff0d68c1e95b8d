"""Pictures of a recorded run: the received masks over the images they belong to, as video and PNG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sam2s_ros.nodes.demo_report import PromptedTrack, ReceivedObjects, Recording, Truth
from sam2s_ros.nodes.overlay import PALETTE_RGB, draw_overlay, put_text, text_scale, text_width

UInt8Array = npt.NDArray[np.uint8]
ImageOf = Callable[[int], UInt8Array]
"""Stamp in ns -> the image rgb uint8 [H, W, 3] that was published with it."""

ALPHA = 0.4
STATES = ("", "uncertain", "occluded", "lost")  # by TrackedObject.state


class OverlayPainter:
    """Draws one image of a run: each object tinted, outlined and named, the true outlines thin and paler."""

    def __init__(
        self, recording: Recording, tracks: Sequence[PromptedTrack], image_of: ImageOf, truth: Truth
    ) -> None:
        """`image_of` and `truth` are asked for the stamps that are drawn only."""
        self._recording = recording
        self._tracks = tracks
        self._image_of = image_of
        self._truth = truth
        self._first_seen_ns: dict[int, int] = {}
        self._labels: dict[int, int] = {}
        for stamp_ns in recording.tracked_stamps_ns:
            for item in recording.received[stamp_ns].message.objects:
                self._first_seen_ns.setdefault(item.id, stamp_ns)
                self._labels[item.id] = int(item.label)

    def shows_masks(self, stamp_ns: int) -> bool:
        """Whether the image with this stamp was tracked, and an object has a mask on it."""
        received = self._recording.received.get(stamp_ns)
        items = [] if received is None else received.message.objects
        return any(item.label and len(item.mask.counts) > 1 for item in items)  # one run is all background

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
                self._outline_truth(picture, stamp_ns, track)
        _put_footer(picture, self._footer(stamp_ns, received))
        return picture

    def _paint(self, received: ReceivedObjects, labels: UInt8Array) -> list[tuple[int, str]]:
        captions = []
        for item in received.message.objects:
            mask = received.mask(item.id)
            if mask is None or not item.label:
                continue
            labels[mask] = item.label
            new = "just prompted" if self._first_seen_ns[item.id] == received.stamp_ns else ""
            captions.append((int(item.label), " ".join(f"{item.name} {STATES[item.state]} {new}".split())))
        return captions

    def _outline_truth(self, picture: UInt8Array, stamp_ns: int, track: PromptedTrack) -> None:
        mask = self._truth(stamp_ns, track.key)
        if mask is not None:
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            colour = pale(self._labels.get(track.object_id, 0))
            cv2.drawContours(picture, contours, -1, colour, 1, cv2.LINE_8)

    def _footer(self, stamp_ns: int, received: ReceivedObjects | None) -> str:
        frame = self._recording.image_stamps_ns.index(stamp_ns)
        prompted = [track.name for track in self._tracks if track.stamp_ns == stamp_ns]
        meant = f", prompted for {', '.join(prompted)}" if prompted else ""
        if received is None:
            return f"frame {frame}: skipped{meant}"
        return f"frame {frame}: {(received.receipt_ns - stamp_ns) * 1e-6:.0f} ms, pale: ground truth{meant}"


def pale(label: int) -> tuple[int, ...]:
    """The colour of a label value, half way to white; white for 0, none."""
    return tuple(255 - (255 - int(value)) // 2 for value in PALETTE_RGB[label]) if label else (255, 255, 255)


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
    """Write `count` pictures, evenly spaced over those of `stamps_ns` that show masks (over all, if none does), as PNG
    files with their number among all in the name; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    shown = [number for number, stamp_ns in enumerate(stamps_ns) if painter.shows_masks(stamp_ns)]
    shown = shown or list(range(len(stamps_ns)))
    for place in sorted({round(place) for place in np.linspace(0, len(shown) - 1, count)}):
        position = shown[place]
        path = folder / f"{prefix}_{position:04d}.png"
        picture = cv2.cvtColor(painter.draw(stamps_ns[position]), cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(path), picture):
            raise OSError(f"cannot write {path}")
        paths.append(path)
    return paths


def _put_footer(picture: UInt8Array, text: str) -> None:
    """In the last line, smaller where it would not fit."""
    scale = text_scale(picture)
    scale *= min(1.0, (picture.shape[1] - 16) / text_width(text, scale))
    put_text(picture, text, (8, picture.shape[0] - 8), scale, (255, 255, 255))
