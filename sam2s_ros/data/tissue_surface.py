"""What happens on the tissue over minutes: blood spreads and is sucked away, wet spots glint."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray, FloatArray
from sam2s_ros.data.motion import Trajectory, trajectory_through
from sam2s_ros.data.textures import smooth_noise

_SOFTNESS = 24.0  # grey levels of `order` over which blood thins out


@dataclass(frozen=True)
class TissueSurface:
    """A tissue picture uint8 RGB [h, w, 3] that bleeds and glints; both follow the tissue, as they lie on it."""

    picture: ByteArray
    bloody: ByteArray  # [h, w, 3] the picture under blood
    order: ByteArray  # [h, w]; pixels of low value are covered first
    bleeding: Trajectory  # [1]: grey level of `order` up to which there is blood
    glints: ByteArray  # [h, w, 3] highlights, to be added
    gate: FloatArray  # [g, g] smooth noise 0..1 that says where the light meets the tissue
    drift: Trajectory  # [2]: how far the gate has moved, in its own cells

    def at(self, time: float) -> ByteArray:
        """The picture at a time, uint8 RGB [h, w, 3]."""
        level = float(self.bleeding.at(time)[0])
        picture = self.picture
        height, width = self.order.shape
        if level > 1.0:
            ramp = np.clip((level - np.arange(256, dtype=np.float32)) / _SOFTNESS, 0.0, 1.0)
            share = cv2.LUT(self.order, ramp)
            picture = cv2.blendLinear(self.bloody, picture, share, 1.0 - share)
        shift = self.drift.at(time)
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        gate = cv2.warpAffine(self.gate, matrix, self.gate.shape[::-1], borderMode=cv2.BORDER_WRAP)
        gate = cv2.resize(gate, (width, height), interpolation=cv2.INTER_LINEAR)
        lit = cv2.multiply(self.glints, cv2.merge((gate, gate, gate)), dtype=cv2.CV_8U)
        return cv2.add(picture, lit)


def random_surface(
    rng: np.random.Generator, picture: ByteArray, duration: float, blood: float, glint: float
) -> TissueSurface:
    """A surface for `duration` seconds; `blood` and `glint` are strengths, 0 leaves the picture as it is."""
    height, width = picture.shape[:2]
    size = (height, width)
    red = np.array([rng.uniform(80, 130), rng.uniform(8, 22), rng.uniform(10, 24)], np.float32)
    shade = picture.mean(axis=2, keepdims=True, dtype=np.float32) / 128.0
    bloody = np.clip(0.82 * red * (0.45 + 0.55 * shade) + 0.18 * picture, 0, 255).astype(np.uint8)
    relief = smooth_noise(rng, size, int(rng.integers(3, 6)), 3)
    wet = smooth_noise(rng, size, int(rng.integers(26, 50)), 2)
    ripples = 0.55 * wet + 0.45 * relief
    spots = cv2.GaussianBlur(
        np.clip((ripples - rng.uniform(0.64, 0.7)) * 14.0, 0.0, 1.0).astype(np.float32), (0, 0), 0.8
    )
    glints = np.clip(255.0 * glint * spots[..., None] * np.array([1.0, 0.97, 0.95]), 0, 255).astype(np.uint8)
    return TissueSurface(
        picture=picture,
        bloody=bloody,
        order=(smooth_noise(rng, size, int(rng.integers(2, 5)), 4, 0.4) * 255).astype(np.uint8),
        bleeding=_episodes(rng, duration, 145.0 * blood),
        glints=glints,
        gate=np.clip(rng.normal(0.35, 0.5, (12, 12)), 0.0, 1.0).astype(np.float32),
        drift=_wandering(rng, duration),
    )


def _episodes(rng: np.random.Generator, duration: float, most: float) -> Trajectory:
    """Blood level [1]: it seeps for seconds, stays, and is sucked away in part."""
    times, levels = [0.0], [float(rng.uniform(0.0, 0.5)) * most]
    while times[-1] < duration:
        rising = levels[-1] < 0.4 * most
        times.append(times[-1] + float(rng.uniform(3.0, 9.0) if rising else rng.uniform(2.0, 5.0)))
        levels.append(float(rng.uniform(0.5, 1.0) if rising else rng.uniform(0.0, 0.5)) * most)
        times.append(times[-1] + float(rng.uniform(2.0, 12.0)))
        levels.append(levels[-1])
    return trajectory_through(np.array(times), np.array(levels)[:, None])


def _wandering(rng: np.random.Generator, duration: float) -> Trajectory:
    """A walk [2] with a step every two seconds."""
    count = int(duration / 2.0) + 2
    steps = rng.normal(0.0, 0.8, (count, 2))
    return trajectory_through(np.arange(count) * 2.0, np.cumsum(steps, axis=0))
