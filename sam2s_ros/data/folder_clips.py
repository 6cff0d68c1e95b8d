"""Training clips from videos of the project's layout (`docs/data.md`), read from disk as they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray
from sam2s_ros.data.clips import ClipSource
from sam2s_ros.data.readers import read_rgb
from sam2s_ros.data.real_clips import DRAWN_INSTRUMENT, CachedSequence, SequenceSource
from sam2s_ros.data.video_folder import VideoFolder, find_videos, read_index, read_video

KEPT_FRAMES = 512
"""Frames that are kept in memory, of all videos together."""
SCALE = 1.15
"""Rows of a kept frame per row of a clip, to have something to crop from."""
MAX_STEP = 4


class _FramesOnDisk:
    """Labelled frames of a video, or their label images, as an array [n, h, w, ...]; an item is read when asked for."""

    def __init__(self, read: Callable[[int], ByteArray], shape: tuple[int, ...]) -> None:
        self._read = read
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> ByteArray:
        return self._read(int(index))


class _Reader:
    """Reads and scales frames of all videos of a source, and keeps the latest."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.frame = lru_cache(KEPT_FRAMES)(self._frame)
        self.labels = lru_cache(KEPT_FRAMES)(self._labels)

    def _frame(self, path: Path) -> ByteArray:
        picture = read_rgb(path)
        return cv2.resize(picture, self.size(picture.shape), interpolation=cv2.INTER_AREA)

    def _labels(self, path: Path, known: tuple[int, ...]) -> ByteArray:
        """Places in `known`, from 1 on, uint8; other ids are 0."""
        ids = read_index(path)
        table = np.zeros(max(65536, int(ids.max()) + 1), np.uint8)
        table[list(known)] = np.arange(1, len(known) + 1)
        return cv2.resize(table[ids], self.size(ids.shape), interpolation=cv2.INTER_NEAREST)

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(width, height) at which a frame of `shape` is kept."""
        return (max(1, round(self._rows * shape[1] / shape[0])), self._rows)


def folder_source(root: Path, size: int, split: str = "train") -> ClipSource:
    """Clips of the videos of one split at or below a folder; stills stand still, as augmentation moves them.

    Labelled frames alone are drawn from. Of a video with more masklets than 199 only the first 199 are.

    Raises:
        FileNotFoundError: there is no such video.
        ValueError: a `video.json` is not what the layout has.
    """
    reader = _Reader(int(SCALE * size))
    sequences: list[CachedSequence] = []
    for path in find_videos(root):
        video = read_video(path)
        if video.facts.split == split:
            sequences += _sequences(video, reader)
    if not sequences:
        raise FileNotFoundError(f"{root} holds no labelled video of the split {split!r} (docs/data.md)")
    return SequenceSource(sequences, MAX_STEP)


def _sequences(video: VideoFolder, reader: _Reader) -> list[CachedSequence]:
    """The video as one sequence, or each still as one."""
    frames, masks = video.frames(), video.masks()
    numbers = [number for number in masks if number in frames]
    masklets = video.facts.masklets[: DRAWN_INSTRUMENT - 1]
    known = tuple(masklet.id for masklet in masklets)
    classes = {place: masklet.class_name for place, masklet in enumerate(masklets, start=1)}
    weights = dict.fromkeys(classes, 1.0)
    groups = [[number] for number in numbers] if video.facts.stills else [numbers]
    found = []
    for group in groups:
        if not group or not known:
            continue
        size = video.facts.size
        if video.facts.stills:
            height, width = read_index(masks[group[0]]).shape
            size = (width, height)
        columns, rows = reader.size((size[1], size[0]))

        def picture(index: int, group: list[int] = group) -> ByteArray:
            return reader.frame(frames[group[index]])

        def labels(index: int, group: list[int] = group) -> ByteArray:
            return reader.labels(masks[group[index]], known)

        pictures: Any = _FramesOnDisk(picture, (len(group), rows, columns, 3))
        labelled: Any = _FramesOnDisk(labels, (len(group), rows, columns))
        found.append(CachedSequence(pictures, labelled, classes, weights))
    return found
