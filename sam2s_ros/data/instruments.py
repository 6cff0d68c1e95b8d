"""Instruments in motion: a shaft pivoting in its trocar, a wrist and jaws, drawn into a frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sam2s_ros.data.arrays import FloatArray
from sam2s_ros.data.instrument_parts import SHAFT_LENGTH, InstrumentDesign, random_design
from sam2s_ros.data.motion import Trajectory, random_trajectory
from sam2s_ros.data.splits import KEPT_OF_A_POOL
from sam2s_ros.data.sprites import Layer, Sprite, empty_layer, paint_sprite

# Components of an instrument's path.
TIP_X, TIP_Y, LOG_SCALE, ROLL, PITCH, YAW, OPENING = range(7)


@lru_cache(maxsize=KEPT_OF_A_POOL)
def pooled_design(number: int) -> InstrumentDesign:
    """Design `number`, the same every time; every third one is a da Vinci instrument."""
    return random_design(np.random.default_rng([11, number]), da_vinci=number % 3 == 0)


@dataclass(frozen=True)
class View:
    """An image of `size` = (height, width) pixels that shows a world of the given aspect ratio."""

    size: tuple[int, int]
    aspect: float

    def pixels(self, world: FloatArray) -> FloatArray:
        """Pixel coordinates [..., 2] (edges at 0 and size) of world points [..., 2]."""
        return world * np.array([self.size[1] / self.aspect, self.size[0]], np.float32)


@dataclass(frozen=True)
class Pose:
    """Where an instrument is: base of the wrist, unit direction of the shaft, wrist angles and size."""

    base: FloatArray  # [2] world
    direction: FloatArray  # [2]
    diameter: float  # world units at the base of the wrist
    roll: float
    pitch: float
    yaw: float
    opening: float


@dataclass(frozen=True)
class Instrument:
    """One instrument of a scene."""

    design: InstrumentDesign
    path: Trajectory
    pivot: FloatArray  # [2] world, outside the image
    diameter: float
    taper: float  # growth of the shaft's width per world unit towards the pivot
    shadow: tuple[float, float, float, float] | None  # offset x, y, blur (world units), darkness
    blur_s: float  # exposure time
    interlaced: bool
    name: str = "instrument"

    def pose(self, time: float) -> Pose:
        """The pose at a time."""
        value = self.path.at(time)
        base = value[:2]
        away = base - self.pivot
        reach = max(float(np.hypot(away[0], away[1])), 1e-3)
        return Pose(
            base=base,
            direction=away / reach,
            diameter=self.diameter * float(np.exp(value[LOG_SCALE])),
            roll=float(value[ROLL]),
            pitch=float(np.clip(value[PITCH], -1, 1)) * self.design.max_bend,
            yaw=float(np.clip(value[YAW], -1, 1)) * self.design.max_bend,
            opening=float(np.clip(value[OPENING], 0, 1)) * self.design.max_opening,
        )

    def placements(self, pose: Pose) -> list[tuple[Sprite, FloatArray]]:
        """Sprites with their corners [4, 2] in world coordinates, bottom first."""
        side = np.array([-pose.direction[1], pose.direction[0]], np.float32)
        at, heading = pose.base, float(np.arctan2(pose.direction[1], pose.direction[0]))
        parts: list[tuple[Sprite, FloatArray]] = []
        in_plane, out_of_plane = np.cos(pose.roll), np.sin(pose.roll)
        for index, (sprite, length) in enumerate(
            zip(self.design.wrist, self.design.wrist_lengths, strict=True)
        ):
            bend = pose.pitch if index > 0 else 0.0
            heading += bend * in_plane
            squeeze = float(np.cos(bend * out_of_plane))
            parts.append((sprite, _place(sprite, at, heading, pose.diameter, squeeze)))
            at = at + pose.diameter * length * squeeze * np.array(
                [np.cos(heading), np.sin(heading)], np.float32
            )
        heading += pose.yaw * out_of_plane
        squeeze = float(np.cos(0.8 * pose.yaw * in_plane))
        # Seen edge-on, jaws neither open nor lie side by side, but cover each other.
        flat = float(abs(np.cos(0.7 * pose.roll)))
        for sprite, sign in zip(self.design.jaws, (1.0, -1.0), strict=False):
            angle = heading
            if len(self.design.jaws) > 1:
                angle += sign * 0.5 * pose.opening * flat
            overlap = -0.5 * sign * (1.0 - flat) * sprite.half_width() * (len(self.design.jaws) > 1)
            parts.insert(0, (sprite, _place(sprite, at, angle, pose.diameter, squeeze, overlap)))
        return [*parts, (self.design.shaft, self._shaft_corners(pose, side))]

    def _shaft_corners(self, pose: Pose, side: FloatArray) -> FloatArray:
        corners = self.design.shaft.corners()
        far = corners[:, :1] < -1.0
        # The far end reaches beyond the pivot and is nearer to the camera: wider.
        reach = float(np.hypot(*(pose.base - self.pivot))) + 0.3
        stretch = np.where(far, max(1.0, reach / (SHAFT_LENGTH * pose.diameter)), 1.0)
        growth = np.where(far, 1.0 + self.taper * max(reach, SHAFT_LENGTH * pose.diameter) * 0.6, 1.0)
        along = corners[:, :1] * stretch * pose.diameter * pose.direction
        return (pose.base + along + corners[:, 1:] * growth * pose.diameter * side).astype(np.float32)

    def layer(self, time: float, view: View) -> Layer | None:
        """The instrument's picture at a time, motion blur included; None when it is out of view."""
        pose = self.pose(time)
        parts = [(sprite, view.pixels(corners)) for sprite, corners in self.placements(pose)]
        motion = view.pixels(self.path.at(time + self.blur_s)[:2] - self.path.at(time)[:2])
        margin = int(min(np.abs(motion).max(), 40.0)) + 2
        layer = empty_layer(np.concatenate([corners for _, corners in parts]), view.size, margin)
        if layer is None:
            return None
        light = 0.5 + 0.5 * float(np.sin(3.0 * pose.roll + 9.0 * pose.direction[0] + 14.0 * pose.base[1]))
        for sprite, corners in parts:
            paint_sprite(layer, sprite, corners, light)
        if float(np.hypot(motion[0], motion[1])) > 1.2:
            layer.rgba = cv2.filter2D(layer.rgba, -1, motion_kernel(motion, self.interlaced))
        return layer


def _place(
    sprite: Sprite, at: FloatArray, heading: float, diameter: float, along: float, shift: float = 0.0
) -> FloatArray:
    corners = (sprite.corners() * np.array([along, 1.0]) + np.array([0.0, shift])) * diameter
    cos, sin = np.cos(heading), np.sin(heading)
    return (at + corners @ np.array([[cos, sin], [-sin, cos]], np.float32)).astype(np.float32)


def motion_kernel(motion: FloatArray, interlaced: bool) -> FloatArray:
    """Blur kernel of a move by `motion` [2] pixels; an interlaced camera sees two instants instead of a smear."""
    motion = motion * min(1.0, 24.0 / max(float(np.hypot(motion[0], motion[1])), 1e-6))
    half = int(np.ceil(np.abs(motion).max() / 2.0)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    ends = np.round((half + np.stack([-0.5 * motion, 0.5 * motion])) * 16).astype(int)
    if interlaced:
        for x, y in ends:
            cv2.circle(kernel, (int(x), int(y)), 8, 1.0, -1, cv2.LINE_8, 4)
    else:
        cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 1.0, 1, cv2.LINE_AA, 4)
    return kernel / max(float(kernel.sum()), 1e-6)


def random_instrument(
    rng: np.random.Generator,
    duration: float,
    aspect: float,
    design: InstrumentDesign,
    entry: float | None = None,
    diameter: float | None = None,
    pace: float = 1.0,
    leaving: float = 0.2,
    site: FloatArray | None = None,
) -> Instrument:
    """An instrument whose tip is well inside the image at time 0 and then works, rests, leaves or returns.

    entry: angle (radians) around the image centre at which the shaft enters. pace: 1 is normal, more is faster.
    site: world point [2] to which the tip comes back again and again, as two instruments that work together do.
    """
    centre = np.array([aspect / 2, 0.5], np.float32)
    angle = float(rng.uniform(0, 2 * np.pi)) if entry is None else entry
    pivot = centre + float(rng.uniform(0.85, 1.7)) * np.array(
        [np.cos(angle) * aspect**0.5, np.sin(angle)], np.float32
    )
    width = float(np.exp(rng.uniform(np.log(0.045), np.log(0.21)))) if diameter is None else diameter
    reach = float(rng.uniform(0.05, 0.3))
    leaves = rng.random() < leaving

    def sampler(generator: np.random.Generator, previous: FloatArray) -> FloatArray:
        value = previous.copy()
        step = reach * generator.normal(0.0, 1.0, 2)
        value[:2] = previous[:2] + step
        if site is not None and generator.random() < 0.6:
            value[:2] = site + 0.2 * step
        value[TIP_X] = np.clip(value[TIP_X], 0.05 * aspect, 0.95 * aspect)
        value[TIP_Y] = np.clip(value[TIP_Y], 0.05, 0.95)
        if leaves and generator.random() < 0.4:
            value[:2] = pivot + (value[:2] - pivot) * generator.uniform(0.1, 0.5)
        value[LOG_SCALE] = np.clip(previous[LOG_SCALE] + generator.normal(0.0, 0.12), -0.45, 0.45)
        value[ROLL] = previous[ROLL] + generator.normal(0.0, 0.5)
        value[PITCH:OPENING] = np.clip(0.5 * previous[PITCH:OPENING] + generator.normal(0.0, 0.6, 2), -1, 1)
        value[OPENING] = generator.choice([0.0, 1.0, generator.random()], p=[0.45, 0.15, 0.4])
        return value

    first = np.zeros(7, np.float32)
    spread = rng.normal(0.0, 0.17, 2) * np.array([aspect, 1.0])
    first[:2] = np.clip(centre + spread, [0.12 * aspect, 0.12], [0.88 * aspect, 0.88])
    first[ROLL:OPENING] = rng.uniform([-np.pi, -1.0, -1.0], [np.pi, 1.0, 1.0])
    first[OPENING] = rng.choice([0.0, rng.random()], p=[0.4, 0.6])
    wobble = np.array([0.004, 0.004, 0.01, 0.03, 0.05, 0.05, 0.02], np.float32) * float(rng.uniform(0, 2))
    slowest = float(rng.uniform(0.5, 2.0)) / pace
    path = random_trajectory(
        rng, duration, first, sampler, (0.25 / pace, slowest), float(rng.uniform(0, 0.6)), wobble
    )
    return Instrument(
        design=design,
        path=path,
        pivot=pivot.astype(np.float32),
        diameter=width,
        taper=float(rng.uniform(0.0, 0.9)),
        shadow=random_shadow(rng, width) if rng.random() < 0.75 else None,
        blur_s=float(rng.choice([0.0, rng.uniform(0.005, 0.04)])),
        interlaced=rng.random() < 0.2,
    )


def random_shadow(rng: np.random.Generator, width: float) -> tuple[float, float, float, float]:
    """Shadow of an instrument `width` wide: offset x, y, blur (world units), darkness."""
    offset = rng.normal(0.0, 0.6 * width + 0.01, 2)
    return (
        float(offset[0]),
        float(offset[1]),
        float(rng.uniform(0.15, 0.8)) * width,
        float(rng.uniform(0.2, 0.8)),
    )
