"""How light, smoke, fog and focus change over a long surgery."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from sam2s_ros.data.arrays import BoolArray, ByteArray, FloatArray
from sam2s_ros.data.effects import CameraEffects, random_effects
from sam2s_ros.data.motion import Trajectory, constant_trajectory, trajectory_through

_GRID = 20


@dataclass(frozen=True)
class ScriptedEffects:
    """Camera effects whose light, smoke, fog and focus follow paths; the rest stays as in `base`."""

    base: CameraEffects
    size: tuple[int, int]  # (height, width) of the frames
    light: Trajectory  # [7]: falloff, its centre x and y (-1..1), log level of red, green and blue, log gamma
    smoke: Trajectory  # [1] 0..1
    fog: Trajectory  # [1] 0..1
    defocus: Trajectory  # [1] sigma in 1/256 of the height

    @property
    def circle(self) -> BoolArray | None:
        """[height, width], True inside the visible circle."""
        return self.base.circle

    def apply(self, frame: ByteArray, time: float) -> ByteArray:
        """The frame as the camera delivers it, uint8 RGB [height, width, 3]."""
        fall, centre_x, centre_y, red, green, blue, gamma = (float(v) for v in self.light.at(time))
        now = replace(
            self.base,
            gain=self._gain(fall, centre_x, centre_y, np.exp(green)),
            drift=constant_trajectory(np.array([0.0, red - green, blue - green, gamma, 0.4], np.float32)),
            smoke=float(np.clip(self.smoke.at(time)[0], 0.0, 0.95)),
            fog=float(np.clip(self.fog.at(time)[0], 0.0, 0.5)),
            defocus=float(self.defocus.at(time)[0]) * self.size[0] / 256,
        )
        return now.apply(frame, time)

    def _gain(self, fall: float, centre_x: float, centre_y: float, level: float) -> FloatArray:
        """Light falloff, float32 [height, width, 3]."""
        ticks = np.linspace(-1, 1, _GRID, dtype=np.float32)
        distance = np.hypot(ticks[None] - centre_x, ticks[:, None] - centre_y)
        coarse = level * np.clip(1.0 + 0.45 * fall - fall * distance**1.7, 0.12, 1.6)
        fine = cv2.resize(coarse.astype(np.float32), self.size[::-1], interpolation=cv2.INTER_LINEAR)
        return cv2.merge((fine, fine, fine))


def random_script(
    rng: np.random.Generator, duration: float, size: tuple[int, int], strength: float
) -> ScriptedEffects:
    """Effects for frames `size` = (height, width): new light every few seconds, smoke and fog now and then.

    strength: 0 hardly changes anything, 1 a lot.
    """
    return ScriptedEffects(
        base=random_effects(rng, duration, size, strength),
        size=size,
        light=_changing_light(rng, duration, strength),
        smoke=_events(rng, duration, (0.35 * strength, strength), 12.0, 4.0),
        fog=_events(rng, duration, (0.1 * strength, 0.4 * strength), 35.0, 3.0),
        defocus=_events(rng, duration, (0.5 * strength, 2.0 * strength), 25.0, 1.5),
    )


def _changing_light(rng: np.random.Generator, duration: float, strength: float) -> Trajectory:
    """Light that stays for seconds and then changes, as the endoscope moves, is wiped or set anew."""

    def light() -> FloatArray:
        level = rng.normal(0.0, 0.22)
        warmth = rng.normal(0.0, 0.08)
        centre = rng.normal(0.0, 0.3, 2)
        return np.array(
            [rng.uniform(0.1, 0.6), *centre, level + warmth, level, level - warmth, rng.normal(0.0, 0.15)]
        ) * np.array([1.0, 1.0, 1.0, *[strength] * 4])

    times, values = [0.0], [light()]
    while times[-1] < duration:
        times.append(times[-1] + float(rng.uniform(3.0, 9.0)))
        values.append(values[-1])
        times.append(times[-1] + float(rng.uniform(0.4, 3.0)))
        values.append(light())
    return trajectory_through(np.array(times), np.stack(values))


def _events(
    rng: np.random.Generator, duration: float, peak: tuple[float, float], gap_s: float, stay_s: float
) -> Trajectory:
    """A quantity [1] that is 0 but for events: it rises within a second, stays and fades.

    gap_s and stay_s are mean times in seconds.
    """
    times, values = [0.0], [0.0]
    while times[-1] < duration:
        height = float(rng.uniform(*peak))
        start = times[-1] + 1.0 + float(rng.exponential(gap_s))
        rise, stay, fade = rng.uniform(0.3, 1.0), rng.exponential(stay_s), rng.uniform(1.0, 5.0)
        times.extend([start, start + rise, start + rise + stay, start + rise + stay + fade])
        values.extend([0.0, height, height, 0.0])
    return trajectory_through(np.array(times), np.array(values)[:, None])
