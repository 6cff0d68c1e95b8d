"""Stills set in motion: a labelled or segmented picture that moves and bends, with cut-outs of others over it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.data.arrays import BoolArray, ByteArray, FloatArray
from sam2s_ros.data.backgrounds import (
    TissueLibrary,
    load_tissue_library,
    look,
    plate_maps,
    random_plate,
    recolour,
)
from sam2s_ros.data.clips import MIN_FIRST_AREA, Clip, ClipSource, choose_objects
from sam2s_ros.data.effects import random_effects
from sam2s_ros.data.instruments import View
from sam2s_ros.data.motion import CoarseGrid, Trajectory, frame_times, random_camera, random_deformation
from sam2s_ros.data.props import Blob, random_blob
from sam2s_ros.data.real_clips import CachedSequence, davis_sequences, vocalfolds_sequences
from sam2s_ros.data.regions import segment_regions
from sam2s_ros.data.scene import cast_shadow, close_canvas, composite, open_canvas
from sam2s_ros.data.sprites import Layer, Sprite, empty_layer, make_sprite, paint_sprite

_BODY_LABELS = 100  # labels of pasted bodies start here; labels of the picture's own regions lie below


@dataclass(frozen=True)
class CutOut:
    """An object cut out of a real frame, moving over another picture."""

    name: str
    sprite: Sprite  # part coordinates run from -0.5 to 0.5 along y
    path: Trajectory  # [4]: centre x, y, log scale, rotation
    height: float  # world units
    shadow: tuple[float, float, float, float] | None

    def layer(self, time: float, view: View) -> Layer | None:
        """The cut-out's picture at a time; None when it is out of view."""
        x, y, log_scale, turn = (float(v) for v in self.path.at(time))
        cos, sin = np.cos(turn), np.sin(turn)
        local = self.sprite.corners() * self.height * np.exp(log_scale)
        corners = view.pixels((local @ np.array([[cos, sin], [-sin, cos]]) + [x, y]).astype(np.float32))
        layer = empty_layer(corners, view.size, 2)
        if layer is not None:
            paint_sprite(layer, self.sprite, corners.astype(np.float32))
        return layer


def cut_out(frame: ByteArray, mask: BoolArray) -> Sprite | None:
    """Sprite of the masked part of a frame; None when it is too small."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if mask.mean() < 0.004 or len(rows) < 12 or len(columns) < 12:
        return None
    y0, y1 = max(0, int(rows[0]) - 2), int(rows[-1]) + 3
    x0, x1 = max(0, int(columns[0]) - 2), int(columns[-1]) + 3
    alpha = cv2.GaussianBlur(mask[y0:y1, x0:x1].astype(np.float32), (0, 0), 0.8)
    alpha = np.clip(2.2 * alpha - 0.9, 0.0, 1.0)
    rgba = np.concatenate([frame[y0:y1, x0:x1].astype(np.float32), alpha[..., None]], axis=-1)
    tall = rgba.shape[0]
    return make_sprite(rgba, (-0.5 * rgba.shape[1] / tall, -0.5), (tall, tall))


class StillSource(ClipSource):
    """Pictures with known or found regions under affine, smooth and photometric motion."""

    def __init__(self, library: TissueLibrary, labelled: list[CachedSequence]) -> None:
        self._stills = [*library.clean, *library.occupied]
        self._labelled = labelled
        self._library = library

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> Clip:
        while True:
            clip = self._attempt(rng, frame_times(rng, length, long_term=long_term), objects, size)
            if clip is not None:
                return clip

    def _attempt(self, rng: np.random.Generator, times: FloatArray, objects: int, size: int) -> Clip | None:
        duration = float(times.max())
        picture, regions, names = self._picture(rng)
        aspect = float(rng.uniform(1.0, 1.6))
        plate = random_plate(
            rng, np.concatenate([recolour(rng, picture), regions[..., None]], axis=-1), aspect
        )
        labels_plate = np.ascontiguousarray(plate.picture[..., 3])
        plate = replace(plate, picture=np.ascontiguousarray(plate.picture[..., :3]))
        camera = random_camera(rng, duration, float(rng.uniform(0.2, 1.6)))
        deformation = random_deformation(rng, float(rng.uniform(0.0, 3.0)))
        size2 = (size, size)
        grid, view = CoarseGrid(size2, aspect), View(size2, aspect)
        bodies = self._bodies(rng, duration, aspect)
        effects = random_effects(rng, duration, size2)
        frames, label_maps = [], []
        chosen: NDArray[np.int64] | None = None
        for time in (float(t) for t in times):
            maps = plate_maps(plate, camera, deformation, grid, time)
            canvas = open_canvas(look(plate.picture, maps))
            labels = cv2.remap(
                labels_plate, maps[0], maps[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
            )
            for number, body in enumerate(bodies):
                layer = body.layer(time, view)
                if layer is None:
                    continue
                if body.shadow is not None:
                    cast_shadow(canvas, layer, body.shadow, view)
                composite(canvas, labels, layer, _BODY_LABELS + number)
            if effects.circle is not None:
                labels *= effects.circle
            if chosen is None:
                chosen = choose_objects(rng, _weights(labels, len(names) > 0), objects)
                if chosen is None:
                    return None
            frames.append(effects.apply(close_canvas(canvas), time))
            label_maps.append(labels)
        assert chosen is not None
        masks = np.stack([[labels == value for value in chosen] for labels in label_maps])
        return Clip(np.stack(frames), masks, tuple(names.get(int(v), "") for v in chosen))

    def _picture(self, rng: np.random.Generator) -> tuple[ByteArray, ByteArray, dict[int, str]]:
        """A picture [h, w, 3], its labels [h, w] below _BODY_LABELS and their class names (none if found)."""
        if self._labelled and rng.random() < 0.4:
            sequence = self._labelled[int(rng.integers(len(self._labelled)))]
            index = int(rng.integers(len(sequence.frames)))
            return sequence.frames[index], sequence.labels[index], sequence.classes
        picture = (
            self._stills[int(rng.integers(len(self._stills)))] if self._stills else self._library.pick(rng)
        )
        return picture, segment_regions(picture, int(rng.integers(3))), {}

    def _bodies(self, rng: np.random.Generator, duration: float, aspect: float) -> list[CutOut | Blob]:
        bodies: list[CutOut | Blob] = []
        for _ in range(int(rng.choice(4, p=[0.25, 0.35, 0.25, 0.15]))):
            blob = random_blob(rng, duration, aspect, recolour(rng, self._library.pick(rng)))
            sprite = self._cut(rng) if self._labelled and rng.random() < 0.5 else None
            if sprite is None:
                bodies.append(blob)
            else:
                height = float(np.exp(rng.uniform(np.log(0.2), np.log(0.9))))
                bodies.append(CutOut("", sprite, blob.path, height, blob.shadow))
        return bodies

    def _cut(self, rng: np.random.Generator) -> Sprite | None:
        """A tool, a tube or an animal cut out of a random labelled frame."""
        sequence = self._labelled[int(rng.integers(len(self._labelled)))]
        index = int(rng.integers(len(sequence.frames)))
        values: list[int] = [v for v in (5, 6) if v in sequence.classes]
        values = values or list(sequence.classes)
        value = int(values[int(rng.integers(len(values)))])
        return cut_out(sequence.frames[index], sequence.labels[index] == value)


def _weights(labels: ByteArray, labelled: bool) -> FloatArray:
    """Weight of each label value [256] as a target, by its area in the first frame."""
    area = np.bincount(labels.ravel(), minlength=256) / labels.size
    weights = ((area >= 2.0 * MIN_FIRST_AREA) & (area <= 0.8)).astype(np.float32)
    weights[0] = 0.0
    weights[_BODY_LABELS:] *= 1.5
    if not labelled:
        weights[1:_BODY_LABELS] *= 0.5
    return weights


def still_source(data_root: Path, size: int) -> ClipSource:
    """Stills of laparoscopy, vocalfolds (training sequences) and DAVIS (training videos) set in motion."""
    labelled = [*vocalfolds_sequences(data_root, size), *davis_sequences(data_root, size)]
    return StillSource(load_tissue_library(data_root), labelled)
