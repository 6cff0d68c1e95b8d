"""Clips to validate on during training, from the videos of the split `val` of the project's layout (`docs/data.md`)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sam2s_ros.data.arrays import BoolArray, ByteArray
from sam2s_ros.data.clips import MIN_FIRST_AREA, Clip
from sam2s_ros.data.readers import read_rgb
from sam2s_ros.data.video_folder import VideoFolder, find_videos, read_index, read_video

SPLIT = "val"


def validation_videos(root: Path, count: int) -> list[VideoFolder]:
    """At most `count` videos of the split at or below a folder, spread evenly over them all; stills are left out.

    Raises:
        FileNotFoundError: there is no such video.
        ValueError: a `video.json` is not what the layout has.
    """
    videos = [read_video(path) for path in find_videos(root)]
    videos = [video for video in videos if video.facts.split == SPLIT and not video.facts.stills]
    if not videos:
        raise FileNotFoundError(f"{root} holds no video of the split {SPLIT!r} (docs/data.md)")
    return [videos[i * len(videos) // count] for i in range(count)] if count < len(videos) else videos


def validation_clip(video: VideoFolder, size: int, length: int, objects: int) -> Clip | None:
    """The first `length` labelled frames from one on that shows an object, brought to `size` x `size` pixels.

    Its objects are the `objects` largest of that frame. None: no labelled frame before the last shows one.
    """
    frames, masks = video.frames(), video.masks()
    numbers = [number for number in masks if number in frames]
    for position, number in enumerate(numbers[:-1]):
        shares = np.bincount(_labels(masks[number], size).ravel()) / size**2
        shares[0] = 0.0
        chosen = [int(i) for i in np.argsort(-shares, kind="stable")[:objects] if shares[i] >= MIN_FIRST_AREA]
        if chosen:
            shown = numbers[position : position + length]
            pictures = np.stack([_picture(frames[n], size) for n in shown])
            labels = np.stack([_labels(masks[n], size) for n in shown])
            found: BoolArray = labels[:, None] == np.array(chosen)[:, None, None]
            names = {masklet.id: masklet.class_name for masklet in video.facts.masklets}
            return Clip(pictures, found, tuple(names.get(one, "") for one in chosen))
    return None


def _picture(path: Path, size: int) -> ByteArray:
    return cv2.resize(read_rgb(path), (size, size), interpolation=cv2.INTER_AREA)


def _labels(path: Path, size: int) -> np.ndarray:
    return cv2.resize(read_index(path), (size, size), interpolation=cv2.INTER_NEAREST)
