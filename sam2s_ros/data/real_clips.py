"""Clips cut from real labelled videos, with random gaps and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from sam2s_ros.data.arrays import BoolArray, ByteArray, FloatArray
from sam2s_ros.data.backgrounds import Plate, colour_shift, look, plate_maps
from sam2s_ros.data.clips import MIN_FIRST_AREA, Clip, ClipSource, choose_objects
from sam2s_ros.data.effects import CameraEffects, random_effects
from sam2s_ros.data.instruments import Instrument, View, pooled_design, random_instrument
from sam2s_ros.data.motion import (
    Camera,
    CoarseGrid,
    Deformation,
    frame_times,
    random_camera,
    random_deformation,
)
from sam2s_ros.data.readers import (
    LabelledSequence,
    davis_names,
    read_davis_sequence,
    read_vocalfolds_sequence,
)
from sam2s_ros.data.scene import cast_shadow, close_canvas, composite, open_canvas
from sam2s_ros.data.splits import DESIGN_POOL

VOCALFOLDS_TRAINING = (6, 7, 8)  # sequence 5 is validation
DRAWN_INSTRUMENT = 200  # label value of an instrument drawn over a real video
LONG_STEP = 40  # frames
ATTEMPTS = 1000
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

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> Clip:
        for _ in range(ATTEMPTS):
            sequence = self._sequences[int(rng.choice(len(self._sequences), p=self._shares))]
            count = len(sequence.frames)
            anywhere = [int(i) for i in rng.integers(count, size=1 + long_term)] if long_term else []
            indices = anywhere + self._indices(rng, count, length - len(anywhere), pauses=not long_term)
            times = frame_times(rng, length, 0.6, long_term=long_term)
            clip = augmented_clip(rng, sequence, indices, times, objects, size)
            if clip is not None:
                return clip
        raise ValueError(
            f"{ATTEMPTS} clips in a row began without an object of {1.5 * MIN_FIRST_AREA:.2%} of the image; "
            "these videos show too little to train on"
        )

    def _indices(self, rng: np.random.Generator, count: int, length: int, pauses: bool) -> list[int]:
        """Frame indices [length] of a walk with random steps in one direction, turning at the ends.

        With `pauses`, the first step is at times a long one, as a prompt lies long back in a stream.
        """
        largest = int(rng.integers(1, self._max_step + 1))
        steps = rng.integers(1, largest + 1, max(length - 1, 0))
        if pauses and length > 2 and rng.random() < 0.3:
            steps[0] += int(rng.integers(1, LONG_STEP + 1))
        offsets = np.concatenate([[0], np.cumsum(steps)])
        direction = 1 if rng.random() < 0.5 else -1
        position = (int(rng.integers(count)) + direction * offsets) % max(2 * count - 2, 1)
        return [int(p) if p < count else 2 * count - 2 - int(p) for p in position]


@dataclass(frozen=True)
class Augmentation:
    """One random view of a video: crop, flip, camera motion, colours, and at times a drawn instrument in front."""

    plate: Plate
    flip: tuple[slice, slice]
    camera: Camera
    deformation: Deformation
    grid: CoarseGrid
    effects: CameraEffects
    colours: FloatArray | None
    instrument: Instrument | None
    view: View

    def observe(self, picture: ByteArray, labels: ByteArray, time: float) -> Observation:
        """What is seen of a frame [h, w, 3] and its labels [h, w] at a time (seconds into the clip)."""
        maps = plate_maps(self.plate, self.camera, self.deformation, self.grid, time)
        seen = look(np.ascontiguousarray(picture[self.flip]), maps)
        if self.colours is not None:
            seen = cv2.transform(seen, self.colours)
        covered = np.zeros(self.view.size, np.uint8)
        layer = None if self.instrument is None else self.instrument.layer(time, self.view)
        if layer is not None and self.instrument is not None:
            canvas = open_canvas(seen)
            if self.instrument.shadow is not None:
                cast_shadow(canvas, layer, self.instrument.shadow, self.view)
            composite(canvas, covered, layer, DRAWN_INSTRUMENT)
            seen = close_canvas(canvas)
        frame = self.effects.apply(seen, time)
        return Observation(frame, np.ascontiguousarray(labels[self.flip]), maps, covered, self.effects.circle)


@dataclass(frozen=True)
class Observation:
    """A frame of a clip, and what is needed to find an object's mask in it."""

    frame: ByteArray
    labels: ByteArray  # [h, w] of the unwarped frame
    maps: tuple[FloatArray, FloatArray]
    covered: ByteArray  # [S, S] DRAWN_INSTRUMENT where the drawn instrument is
    circle: BoolArray | None

    def mask(self, value: int) -> BoolArray:
        """Visible mask [S, S] of a label value."""
        if value == DRAWN_INSTRUMENT:
            mask = self.covered > 0
        else:
            label = np.where(self.labels == value, np.uint8(255), np.uint8(0))
            mask = (look(label, self.maps) > 127) & (self.covered == 0)
        return mask if self.circle is None else mask & self.circle


def random_augmentation(
    rng: np.random.Generator, sequence: CachedSequence, duration: float, size: int
) -> Augmentation:
    """Draw the view of one clip of `duration` seconds."""
    height, width = sequence.frames.shape[1:3]
    backwards, straight = slice(None, None, -1), slice(None)
    aspect = 1.0 if width == height else float(rng.uniform(1.0, width / height))
    scale = min(height, width / aspect) / float(np.exp(max(0.0, rng.uniform(-0.3, 0.6))))
    offset = rng.uniform(-1, 1, 2) * np.maximum(0.0, [width - scale * aspect, height - scale]) / 2
    instrument = None
    if rng.random() < 0.2:
        instrument = random_instrument(rng, duration, aspect, pooled_design(int(rng.integers(DESIGN_POOL))))
    return Augmentation(
        plate=Plate(sequence.frames[0], scale, (width / 2 + offset[0], height / 2 + offset[1]), aspect),
        flip=(backwards if rng.random() < 0.12 else straight, backwards if rng.random() < 0.5 else straight),
        camera=random_camera(rng, duration, float(rng.choice([0.0, 0.25, 0.8], p=[0.3, 0.4, 0.3]))),
        deformation=random_deformation(rng, float(rng.uniform(0.0, 1.0))),
        grid=CoarseGrid((size, size), aspect),
        effects=random_effects(rng, duration, (size, size), 0.45),
        colours=colour_shift(rng, 0.6) if rng.random() < 0.7 else None,
        instrument=instrument,
        view=View((size, size), aspect),
    )


def augmented_clip(
    rng: np.random.Generator,
    sequence: CachedSequence,
    indices: list[int],
    times: FloatArray,
    objects: int,
    size: int,
) -> Clip | None:
    """Clip of the given frames, augmented as at `times` (seconds); None: no object is in view of the first frame."""
    augmentation = random_augmentation(rng, sequence, float(times.max()), size)
    seen = [augmentation.observe(sequence.frames[indices[0]], sequence.labels[indices[0]], 0.0)]
    weights = np.zeros(256, np.float32)
    for value, weight in {**sequence.weights, DRAWN_INSTRUMENT: 1.5}.items():
        area = float(seen[0].mask(value).mean())
        weights[value] = weight if 1.5 * MIN_FIRST_AREA <= area <= 0.95 else 0.0
    chosen = choose_objects(rng, weights, objects)
    if chosen is None:
        return None
    for index, time in zip(indices[1:], times[1:], strict=True):
        seen.append(augmentation.observe(sequence.frames[index], sequence.labels[index], float(time)))
    names = {**sequence.classes, DRAWN_INSTRUMENT: "instrument"}
    return Clip(
        np.stack([one.frame for one in seen]),
        np.stack([[one.mask(int(value)) for value in chosen] for one in seen]),
        tuple(names.get(int(value), "") for value in chosen),
    )


@lru_cache(maxsize=1)
def vocalfolds_sequences(data_root: Path, size: int) -> list[CachedSequence]:
    """The training sequences of the vocalfolds data set, cached at 1.25 x `size`."""
    root = data_root / "train/vocalfolds"
    side = int(1.25 * size)
    sequences = [read_vocalfolds_sequence(root, 2, number) for number in VOCALFOLDS_TRAINING]
    return [cache_sequence(sequence, (side, side), CLASS_WEIGHTS) for sequence in sequences]


@lru_cache(maxsize=1)
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
