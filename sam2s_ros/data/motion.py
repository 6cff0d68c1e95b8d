"""Smooth random motion: minimum-jerk moves with rests, camera motion and tissue deformation.

World coordinates: y runs from 0 (top) to 1 (bottom) of the image, x from 0 to the aspect ratio. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_ros.data.arrays import FloatArray

Sampler = Callable[[np.random.Generator, FloatArray], FloatArray]


@dataclass(frozen=True)
class Trajectory:
    """A d-dimensional path through knots, at rest in each knot (minimum-jerk moves), plus a slow wobble."""

    times: FloatArray  # [n] seconds, ascending
    values: FloatArray  # [n, d]
    wobble: FloatArray  # [m, d] amplitudes
    frequency: FloatArray  # [m, d] radians per second
    phase: FloatArray  # [m, d]

    def at(self, time: float) -> FloatArray:
        """Value [d] at a time; before the first knot and after the last one the path rests."""
        right = int(np.searchsorted(self.times, time))
        wave = (self.wobble * np.sin(self.frequency * time + self.phase)).sum(axis=0)
        if right == 0:
            return self.values[0] + wave
        if right >= len(self.times):
            return self.values[-1] + wave
        start, end = self.times[right - 1], self.times[right]
        u = (time - start) / (end - start)
        ease = u * u * u * (10.0 - 15.0 * u + 6.0 * u * u)
        return self.values[right - 1] * (1.0 - ease) + self.values[right] * ease + wave


def random_trajectory(
    rng: np.random.Generator,
    duration: float,
    first: FloatArray,
    sampler: Sampler,
    move_s: tuple[float, float] = (0.3, 1.5),
    rest_probability: float = 0.3,
    wobble: float | FloatArray = 0.0,
) -> Trajectory:
    """Path of `duration` seconds that starts near `first` and moves to what `sampler(rng, previous)` returns.

    A random amount of the first move lies before time 0, so that a clip may start in full motion.
    """
    values = [first]
    times = [-float(rng.uniform(0.0, 0.25))]
    while times[-1] < duration:
        resting = rng.random() < rest_probability
        values.append(values[-1] if resting else np.asarray(sampler(rng, values[-1]), np.float32))
        times.append(times[-1] + float(rng.uniform(*move_s)))
    dimension = len(first)
    amplitude = rng.uniform(0.0, 1.0, (3, dimension)) * np.asarray(wobble, np.float32)
    return Trajectory(
        times=np.asarray(times, np.float32),
        values=np.stack(values).astype(np.float32),
        wobble=amplitude.astype(np.float32),
        frequency=rng.uniform(0.5, 9.0, (3, dimension)).astype(np.float32),
        phase=rng.uniform(0.0, 2.0 * np.pi, (3, dimension)).astype(np.float32),
    )


def constant_trajectory(value: FloatArray) -> Trajectory:
    """A path that never leaves `value` [d]."""
    still = np.zeros((1, len(value)), np.float32)
    return Trajectory(np.zeros(1, np.float32), value[None].astype(np.float32), still, still, still)


def trajectory_through(times: FloatArray, values: FloatArray) -> Trajectory:
    """A path without wobble through knots at `times` [n] of `values` [n, d], at rest in each."""
    still = np.zeros((1, values.shape[1]), np.float32)
    return Trajectory(times.astype(np.float32), values.astype(np.float32), still, still, still)


@dataclass(frozen=True)
class Camera:
    """Camera motion over the tissue: shift (world units), log zoom, rotation (radians), perspective."""

    path: Trajectory  # [6]: shift x, shift y, log zoom, rotation, perspective x, perspective y

    def matrix(self, time: float, centre: tuple[float, float]) -> FloatArray:
        """Homography [3, 3] from image world coordinates to tissue world coordinates."""
        shift_x, shift_y, log_zoom, angle, tilt_x, tilt_y = (float(v) for v in self.path.at(time))
        scale = np.exp(-log_zoom)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        to_centre = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1.0]])
        move = np.array(
            [[cos, -sin, centre[0] + shift_x], [sin, cos, centre[1] + shift_y], [tilt_x, tilt_y, 1.0]]
        )
        return move @ to_centre


def random_camera(rng: np.random.Generator, duration: float, strength: float) -> Camera:
    """Camera that drifts, zooms and tilts; `strength` 0 stands still, 1 moves a lot."""
    extent = np.array([0.14, 0.12, 0.18, 0.16, 0.12, 0.12], np.float32) * strength

    def sampler(generator: np.random.Generator, previous: FloatArray) -> FloatArray:
        return 0.5 * previous + extent * generator.normal(0.0, 0.8, 6).astype(np.float32)

    first = extent * rng.normal(0.0, 1.0, 6).astype(np.float32)
    return Camera(random_trajectory(rng, duration, first, sampler, (0.5, 2.5), 0.35, 0.06 * extent))


@dataclass(frozen=True)
class Deformation:
    """Tissue displacement field: a sum of moving plane waves, as breathing and handling make them."""

    wave: FloatArray  # [m, 2] spatial frequency, radians per world unit
    direction: FloatArray  # [m, 2] displacement amplitude, world units
    speed: FloatArray  # [m] radians per second
    phase: FloatArray  # [m]

    def at(self, points: FloatArray, time: float) -> FloatArray:
        """Displacement [..., 2] at world points [..., 2]."""
        angle = points @ self.wave.T + self.speed * time + self.phase
        return np.sin(angle).astype(np.float32) @ self.direction


def random_deformation(rng: np.random.Generator, strength: float, waves: int = 4) -> Deformation:
    """Deformation whose amplitude is up to about `strength` * 0.03 world units."""
    wave = rng.normal(0.0, 5.0, (waves, 2))
    amplitude = (
        0.03
        * strength
        * rng.normal(0.0, 0.6, (waves, 2))
        / (0.5 + np.linalg.norm(wave, axis=1) / 6.0)[:, None]
    )
    return Deformation(
        wave=wave.astype(np.float32),
        direction=amplitude.astype(np.float32),
        speed=rng.normal(0.0, 2.0, waves).astype(np.float32),
        phase=rng.uniform(0.0, 2.0 * np.pi, waves).astype(np.float32),
    )


class CoarseGrid:
    """A coarse grid of world points over an image, and its smooth upsampling to per-pixel maps.

    The grid reaches one cell beyond the image, so that interpolation never clamps inside it.
    """

    def __init__(self, size: tuple[int, int], aspect: float, cells: int = 20) -> None:
        self.size = size
        self._padded = tuple(int(np.ceil(extent * (cells + 2) / cells)) for extent in size)
        self._offset = tuple((p - s) // 2 for p, s in zip(self._padded, size, strict=True))
        ticks = np.arange(cells + 2, dtype=np.float32) + 0.5
        ticks_y, ticks_x = (
            (ticks * self._padded[i] / (cells + 2) - self._offset[i]) / size[i] for i in range(2)
        )
        grid_x, grid_y = np.meshgrid(ticks_x * aspect, ticks_y)
        self.points: FloatArray = np.stack([grid_x, grid_y], axis=-1).astype(np.float32)

    def upsample(self, coarse: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Maps (x, y), each [height, width], of a coarse quantity [cells + 2, cells + 2, 2]."""
        fine = cv2.resize(coarse, (self._padded[1], self._padded[0]), interpolation=cv2.INTER_LINEAR)
        top, left = self._offset
        fine = fine[top : top + self.size[0], left : left + self.size[1]]
        return np.ascontiguousarray(fine[..., 0]), np.ascontiguousarray(fine[..., 1])


def apply_homography(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """Map points [..., 2] by a homography [3, 3]."""
    flat = points.reshape(-1, 1, 2).astype(np.float32)
    return cv2.perspectiveTransform(flat, matrix.astype(np.float64)).reshape(points.shape)


def frame_times(
    rng: np.random.Generator,
    length: int,
    long_gap_probability: float = 0.35,
    pause_probability: float = 0.3,
    long_term: int = 0,
) -> FloatArray:
    """Times [length] of a clip's frames: from 25 Hz steps up to jumps of one to two seconds.

    With `pause_probability` the frames after the first come up to 12 s later, as a prompt lies long back in a stream.
    With `long_term`, so many frames after the first lie anywhere in a video of up to a minute, and so do the others,
    which are consecutive (SAM2S's hybrid temporal sampling).
    """
    if long_term:
        video = float(np.exp(rng.uniform(np.log(5.0), np.log(60.0))))
        consecutive = frame_times(rng, length - 1 - long_term, 0.0, 0.0) + rng.uniform(0.0, video)
        return np.concatenate([[0.0], rng.uniform(0.0, video, long_term), consecutive]).astype(np.float32)
    if rng.random() < long_gap_probability:
        step = float(np.exp(rng.uniform(np.log(0.4), np.log(2.0))))
    else:
        step = float(np.exp(rng.uniform(np.log(0.04), np.log(0.4))))
    steps = step * rng.uniform(0.7, 1.3, max(length - 1, 0))
    if length > 2 and rng.random() < pause_probability:
        steps[0] += float(np.exp(rng.uniform(np.log(0.5), np.log(12.0))))
    return np.concatenate([[0.0], np.cumsum(steps)]).astype(np.float32)
