"""What the camera adds: light falloff, smoke, fog, colour drift, defocus, noise, JPEG and the endoscope's circle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sam2s_ros.data.arrays import BoolArray, ByteArray, FloatArray
from sam2s_ros.data.motion import Trajectory, constant_trajectory, random_trajectory


@lru_cache(maxsize=8)
def _noise_tile(size: tuple[int, int]) -> ByteArray:
    """Unit noise times 64, int16 [2 * height, 2 * width, 3], partly correlated as after demosaicing."""
    rng = np.random.default_rng(5)
    tile = rng.normal(0, 1, (2 * size[0], 2 * size[1], 3)).astype(np.float32)
    tile = 0.6 * tile + 0.8 * cv2.GaussianBlur(tile, (0, 0), 0.8) / 0.35
    return (tile * 64).astype(np.int16)


@lru_cache(maxsize=64)
def _cloud(number: int) -> FloatArray:
    """Soft cloud 0..1, float32 [96, 96]."""
    rng = np.random.default_rng([13, number])
    total = np.zeros((96, 96), np.float32)
    for cells, weight in ((3, 1.0), (6, 0.6), (12, 0.3)):
        grid = rng.random((cells, cells), dtype=np.float32)
        total += weight * cv2.resize(grid, (96, 96), interpolation=cv2.INTER_CUBIC)
    return np.clip((total / 1.9 - 0.35) * 2.2, 0, 1)


@dataclass(frozen=True)
class CameraEffects:
    """Camera effects of one video; every random choice is made once, drifts follow `drift`."""

    gain: FloatArray  # [height, width, 3] static light falloff
    circle: BoolArray | None  # [height, width] True inside the visible circle
    drift: Trajectory  # [5]: log brightness, log red, log blue, log gamma, smoke
    fog: float  # 0..1
    smoke: float  # 0..1
    smoke_cloud: int
    defocus: float  # sigma in pixels
    sharpen: float
    noise: float  # standard deviation, grey levels
    jpeg_quality: int  # 0: none
    seed: int

    def apply(self, frame: ByteArray, time: float) -> ByteArray:
        """The frame as the camera delivers it, uint8 RGB [height, width, 3]."""
        brightness, red, blue, gamma, smoke = (float(v) for v in self.drift.at(time))
        image: FloatArray = cv2.multiply(frame, self.gain, dtype=cv2.CV_32F)
        if self.smoke > 0:
            image = self._add_smoke(image, time, self.smoke * float(np.clip(0.6 + smoke, 0.0, 1.0)))
        if self.fog > 0:
            image += self.fog * (190.0 - image)
        if self.defocus > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), self.defocus)
        elif self.sharpen > 0:
            image += self.sharpen * (image - cv2.GaussianBlur(image, (0, 0), 1.0))
        result: ByteArray = np.clip(image, 0, 255, out=image).astype(np.uint8)
        result = cv2.LUT(result, _tone_table(brightness, red, blue, gamma))
        if self.noise > 0.3:
            result = self._add_noise(result, time)
        if self.circle is not None:
            result *= self.circle[..., None]
        if self.jpeg_quality:
            coded = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])[1]
            result = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
        return result

    def _add_smoke(self, image: FloatArray, time: float, amount: float) -> FloatArray:
        height, width = image.shape[:2]
        shift = (int(time * 23 + self.seed) % 96, int(time * 11) % 96)
        cloud = np.roll(_cloud(self.smoke_cloud), shift, axis=(0, 1))
        cloud = cv2.resize(
            cv2.GaussianBlur(cloud, (0, 0), 2.0), (width, height), interpolation=cv2.INTER_LINEAR
        )
        return image + (amount * cloud)[..., None] * (205.0 - image)

    def _add_noise(self, image: ByteArray, time: float) -> ByteArray:
        height, width = image.shape[:2]
        phase = (int(time * 1e4) * 7919 + self.seed) % (height * width)
        y, x = phase // width, phase % width
        tile = _noise_tile((height, width))[y : y + height, x : x + width]
        return cv2.addWeighted(image, 1.0, tile, self.noise / 64.0, 0.0, dtype=cv2.CV_8U)


def _tone_table(brightness: float, red: float, blue: float, gamma: float) -> ByteArray:
    level = (np.arange(256, dtype=np.float32) / 255.0) ** np.float32(np.exp(gamma))
    gains = np.exp(np.array([red, 0.0, blue], np.float32) + brightness)
    return np.clip(level[:, None] * gains * 255.0, 0, 255).astype(np.uint8)[None]


def random_effects(
    rng: np.random.Generator, duration: float, size: tuple[int, int], strength: float = 1.0
) -> CameraEffects:
    """Effects for a video of frames `size` = (height, width); `strength` 0 leaves frames nearly untouched."""
    height, width = size
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    centre = rng.normal(0, 0.35, 2)
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
    fall = float(rng.uniform(0, 0.55)) * strength
    gain = (1.0 + 0.5 * fall - fall * distance ** rng.uniform(1.2, 2.5)).clip(0.1, 1.6).astype(np.float32)
    circle = None
    if rng.random() < 0.15 * strength:
        off = rng.normal(0, 0.05, 2)
        radius = (
            rng.uniform(0.9, 1.25, 2)
            if rng.random() < 0.5
            else np.array([rng.uniform(0.75, 1.0), rng.uniform(1.0, 1.3)])
        )
        circle = ((x - off[0]) / radius[0]) ** 2 + ((y - off[1]) / radius[1]) ** 2 < 1.0
    scale = np.array([0.12, 0.06, 0.06, 0.14, 0.3], np.float32) * strength

    def sampler(generator: np.random.Generator, previous: FloatArray) -> FloatArray:
        return previous + 0.25 * scale * generator.normal(0, 1, 5).astype(np.float32)

    first = scale * rng.normal(0, 1, 5).astype(np.float32)
    still = rng.random() < 0.4
    drift = (
        constant_trajectory(first)
        if still
        else random_trajectory(rng, duration, first, sampler, (0.3, 2.0), 0.2, 0.1 * scale)
    )
    return CameraEffects(
        gain=cv2.merge((gain, gain, gain)),
        circle=circle,
        drift=drift,
        fog=float(rng.uniform(0, 0.25)) * strength if rng.random() < 0.2 else 0.0,
        smoke=float(rng.uniform(0.1, 0.7)) * strength if rng.random() < 0.15 else 0.0,
        smoke_cloud=int(rng.integers(64)),
        defocus=float(rng.uniform(0.3, 1.6)) * size[0] / 256 if rng.random() < 0.25 * strength else 0.0,
        sharpen=float(rng.uniform(0.2, 1.5)) if rng.random() < 0.35 * strength else 0.0,
        noise=min(float(rng.exponential(1.4)), 6.0) * strength,
        jpeg_quality=int(rng.uniform(25, 92)) if rng.random() < 0.4 * strength else 0,
        seed=int(rng.integers(1 << 20)),
    )
