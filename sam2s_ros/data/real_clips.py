"""Clips cut from real labelled videos, with random gaps and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.data.arrays import BoolArray, ByteArray, FloatArray
from sam2s_ros.data.backgrounds import Plate, colour_shift, look, plate_maps
from sam2s_ros.data.clips import MIN_FIRST_AREA, Clip, ClipSource, choose_objects
from sam2s_ros.data.effects import random_effects
from sam2s_ros.data.motion import CoarseGrid, random_camera, random_deformation
from sam2s_ros.data.readers import (
    LabelledSequence,
    davis_names,
    read_davis_sequence,
    read_vocalfolds_sequence,
)

VOCALFOLDS_TRAINING = (6, 7, 8)  # sequence 5 is validation
CLASS_WEIGHTS = {1: 1.0, 2: 0.8, 3: 1.2, 4: 1.0, 5: 2.5, 6: 1.3}


@dataclass(frozen=True)
class CachedSequence:
    """A video in memory at reduced size."""

    frames: ByteArray  # [n, h, w, 3] RGB
    labels: ByteArray  # [n, h, w]
    classes: dict[int, str]
    weights: dict[int, float]


def cache_sequence(
    sequence: LabelledSequence, size: tuple[int, int], weights: dict[int, float]
) -> CachedSequence:
    """Read a sequence into memory in frames of `size` = (height, width)."""
    shape = (size[1], size[0])
    frames = [
        cv2.resize(sequence.frame(i), shape, interpolation=cv2.INTER_AREA) for i in range(len(sequence))
    ]
    labels = [
        cv2.resize(sequence.labels(i), shape, interpolation=cv2.INTER_NEAREST) for i in range(len(sequence))
    ]
    return CachedSequence(np.stack(frames), np.stack(labels), sequence.classes, weights)


class SequenceSource(ClipSource):
    """Clips from labelled videos: frames in either direction with random gaps, one augmentation per clip."""

    def __init__(self, sequences: list[CachedSequence], max_step: int) -> None:
        self._sequences = sequences
        self._max_step = max_step
        sizes = np.array([len(s.frames) for s in sequences], np.float64)
        self._shares = np.sqrt(sizes) / np.sqrt(sizes).sum()

    def sample(self, rng: np.random.Generator, length: int, objects: int, size: int) -> Clip:
        while True:
            sequence = self._sequences[int(rng.choice(len(self._sequences), p=self._shares))]
            indices = self._indices(rng, len(sequence.frames), length)
            clip = augmented_clip(rng, sequence, indices, objects, size)
            if clip is not None:
                return clip

    def _indices(self, rng: np.random.Generator, count: int, length: int) -> list[int]:
        """Frame indices [length] of a walk with random steps in one direction, turning at the ends."""
        largest = int(rng.integers(1, self._max_step + 1))
        steps = rng.integers(1, largest + 1, max(length - 1, 0))
        offsets = np.concatenate([[0], np.cumsum(steps)])
        direction = 1 if rng.random() < 0.5 else -1
        position = (int(rng.integers(count)) + direction * offsets) % max(2 * count - 2, 1)
        return [int(p) if p < count else 2 * count - 2 - int(p) for p in position]


def augmented_clip(
    rng: np.random.Generator, sequence: CachedSequence, indices: list[int], objects: int, size: int
) -> Clip | None:
    """Clip of the given frames; None when no object is in view of the first frame."""
    height, width = sequence.frames.shape[1:3]
    flip = (
        slice(None, None, -1) if rng.random() < 0.12 else slice(None),
        slice(None, None, -1) if rng.random() < 0.5 else slice(None),
    )
    aspect = 1.0 if width == height else float(rng.uniform(1.0, width / height))
    fit = min(height, width / aspect)
    scale = fit / float(np.exp(max(0.0, rng.uniform(-0.3, 0.6))))
    slack = np.maximum(0.0, [width - scale * aspect, height - scale]) / 2
    offset = rng.uniform(-1, 1, 2) * slack
    centre = (float(width / 2 + offset[0]), float(height / 2 + offset[1]))
    plate = Plate(sequence.frames[0], scale, centre, aspect)
    camera = random_camera(rng, float(len(indices)), float(rng.choice([0.0, 0.25, 0.8], p=[0.3, 0.4, 0.3])))
    deformation = random_deformation(rng, float(rng.uniform(0.0, 1.0)))
    grid = CoarseGrid((size, size), aspect)
    effects = random_effects(rng, float(len(indices)), (size, size), 0.45)
    colours = colour_shift(rng, 0.6) if rng.random() < 0.7 else None
    maps = plate_maps(plate, camera, deformation, grid, 0.0)
    chosen = _choose(rng, sequence, indices[0], flip, maps, objects, effects.circle)
    if chosen is None:
        return None
    frames, masks = [], []
    for step, index in enumerate(indices):
        maps = plate_maps(plate, camera, deformation, grid, float(step))
        picture = look(np.ascontiguousarray(sequence.frames[index][flip]), maps)
        frames.append(
            effects.apply(picture if colours is None else cv2.transform(picture, colours), float(step))
        )
        labels = np.ascontiguousarray(sequence.labels[index][flip])
        masks.append(np.stack([_seen(labels, int(value), maps, effects.circle) for value in chosen]))
    return Clip(np.stack(frames), np.stack(masks), tuple(sequence.classes.get(int(v), "") for v in chosen))


def _seen(
    labels: ByteArray, value: int, maps: tuple[FloatArray, FloatArray], circle: BoolArray | None
) -> BoolArray:
    mask = look(np.where(labels == value, np.uint8(255), np.uint8(0)), maps) > 127
    return mask if circle is None else mask & circle


def _choose(
    rng: np.random.Generator,
    sequence: CachedSequence,
    index: int,
    flip: tuple[slice, slice],
    maps: tuple[FloatArray, FloatArray],
    objects: int,
    circle: BoolArray | None,
) -> NDArray[np.int64] | None:
    """Label values [objects] that are in view of the first frame."""
    labels = np.ascontiguousarray(sequence.labels[index][flip])
    weights = np.zeros(256, np.float32)
    for value, weight in sequence.weights.items():
        area = float(_seen(labels, value, maps, circle).mean())
        weights[value] = weight if 1.5 * MIN_FIRST_AREA <= area <= 0.95 else 0.0
    return choose_objects(rng, weights, objects)


def vocalfolds_sequences(data_root: Path, size: int) -> list[CachedSequence]:
    """The training sequences of the vocalfolds data set, cached at 1.25 x `size`."""
    root = data_root / "train/vocalfolds"
    side = int(1.25 * size)
    sequences = [read_vocalfolds_sequence(root, 2, number) for number in VOCALFOLDS_TRAINING]
    return [cache_sequence(sequence, (side, side), CLASS_WEIGHTS) for sequence in sequences]


def davis_sequences(data_root: Path, size: int) -> list[CachedSequence]:
    """The training videos of DAVIS, cached with 1.15 x `size` rows."""
    root = data_root / "train/davis2016_val"
    height = int(1.15 * size)
    shape = (height, round(height * 854 / 480))
    return [cache_sequence(read_davis_sequence(root, name), shape, {1: 1.0}) for name in davis_names(root)]


def vocalfolds_source(data_root: Path, size: int) -> ClipSource:
    """Clips of laryngeal surgery with semantic classes as objects."""
    return SequenceSource(vocalfolds_sequences(data_root, size), max_step=4)


def davis_source(data_root: Path, size: int) -> ClipSource:
    """Clips of everyday videos with one object."""
    return SequenceSource(davis_sequences(data_root, size), max_step=12)
