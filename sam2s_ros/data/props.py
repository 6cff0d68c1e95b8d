"""Everything in a scene that is not an instrument: tissue bodies, cavities, gauze, tubes, threads, needles."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray, FloatArray
from sam2s_ros.data.instruments import View, motion_kernel
from sam2s_ros.data.motion import Camera, Trajectory, apply_homography, random_trajectory
from sam2s_ros.data.sprites import Layer, empty_layer


@dataclass(frozen=True)
class TissuePath(Trajectory):
    """A path over the tissue, given as the moving camera sees it: of a Blob [4] or of a Strand [8]."""

    camera: Camera
    centre: tuple[float, float]  # of the image, world units

    def at(self, time: float) -> FloatArray:
        """Value in the image at a time."""
        value = super().at(time)
        to_image = np.linalg.inv(self.camera.matrix(time, self.centre))
        if len(value) == 8:
            return apply_homography(to_image, value.reshape(4, 2)).reshape(8)
        log_zoom, rotation = self.camera.path.at(time)[2:4]
        point = apply_homography(to_image, value[:2])
        return np.array([*point, value[2] + log_zoom, value[3] - rotation], np.float32)


def on_tissue(path: Trajectory, camera: Camera, aspect: float) -> TissuePath:
    """The path of a Blob or Strand that lies on the tissue, in an image of this aspect ratio."""
    return TissuePath(
        path.times, path.values, path.wobble, path.frequency, path.phase, camera, (aspect / 2, 0.5)
    )


@dataclass(frozen=True)
class Blob:
    """A body with a closed, slowly deforming outline and its own texture."""

    name: str
    path: Trajectory  # [4]: centre x, y, log scale, rotation
    radius: float
    stretch: float
    harmonics: FloatArray  # [m, 4]: amplitude cos, amplitude sin, deformation amplitude, deformation speed
    texture: ByteArray
    texture_scale: float  # texture pixels per world unit
    edge_softness: float  # world units
    rim: float  # darkening (positive) or brightening towards the outline
    bulge: float  # brightening of the middle
    shadow: tuple[float, float, float, float] | None

    def outline(self, time: float) -> FloatArray:
        """Outline points [n, 2], world coordinates."""
        x, y, log_scale, turn = (float(v) for v in self.path.at(time))
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False, dtype=np.float32)
        order = np.arange(2, 2 + len(self.harmonics), dtype=np.float32)
        phase = angle[:, None] * order
        swing = self.harmonics[:, 2] * np.sin(self.harmonics[:, 3] * time)
        radius = (
            1.0
            + np.cos(phase) @ (self.harmonics[:, 0] + swing)
            + np.sin(phase) @ (self.harmonics[:, 1] - swing)
        )
        radius = np.clip(radius, 0.2, 2.0) * self.radius * np.exp(log_scale)
        local = np.stack(
            [np.cos(angle) * radius * self.stretch, np.sin(angle) * radius / self.stretch], axis=1
        )
        cos, sin = np.cos(turn), np.sin(turn)
        return (local @ np.array([[cos, sin], [-sin, cos]]) + [x, y]).astype(np.float32)

    def layer(self, time: float, view: View) -> Layer | None:
        """The body's picture at a time; None when it is out of view."""
        outline = view.pixels(self.outline(time))
        softness = self.edge_softness * view.size[0]
        layer = empty_layer(outline, view.size, int(softness * 2) + 2)
        if layer is None:
            return None
        height, width = layer.rgba.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        shifted = np.round((outline - [layer.x, layer.y]) * 16).astype(np.int32)
        cv2.fillPoly(mask, [shifted.reshape(-1, 1, 2)], 255, cv2.LINE_AA, 4)
        alpha: FloatArray = mask.astype(np.float32) / 255.0
        if softness > 0.6:
            alpha = cv2.GaussianBlur(alpha, (0, 0), softness)
        shade = 1.0 + self.bulge * (_blurred(mask, 0.3 * self.radius * view.size[0]) - 0.6)
        shade -= self.rim * np.clip(1.6 - 2.0 * _blurred(mask, 0.012 * view.size[0] + 0.5), 0, 1)
        colour = self._textured(layer, view, time)
        layer.rgba[..., :3] = np.clip(colour * shade[..., None], 0, 255) * alpha[..., None]
        layer.rgba[..., 3] = alpha * 255.0
        return layer

    def _textured(self, layer: Layer, view: View, time: float) -> FloatArray:
        x, y, log_scale, turn = (float(v) for v in self.path.at(time))
        to_pixels = np.array([view.size[1] / view.aspect, view.size[0]])
        scale = self.texture_scale * np.exp(-log_scale)
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        linear = np.array([[cos, sin], [-sin, cos]]) / to_pixels
        centre = np.array([self.texture.shape[1], self.texture.shape[0]]) / 2.0
        shift = centre + linear @ (np.array([layer.x, layer.y]) - np.array([x, y]) * to_pixels)
        matrix = np.concatenate([linear, shift[:, None]], axis=1)
        return cv2.warpAffine(
            self.texture, matrix, (layer.rgba.shape[1], layer.rgba.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101,
        ).astype(np.float32)  # fmt: skip


def _blurred(mask: ByteArray, sigma: float) -> FloatArray:
    """A wide Gaussian of a mask, 0..1, computed at reduced size."""
    step = max(1, int(sigma / 2.0))
    height, width = mask.shape
    small = cv2.resize(mask, (max(1, width // step), max(1, height // step)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(
        small.astype(np.float32), (0, 0), max(sigma / step, 0.4), borderType=cv2.BORDER_CONSTANT
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR) / 255.0


def _drift(rng: np.random.Generator, duration: float, first: FloatArray, amount: float) -> Trajectory:
    extent = np.array([0.1, 0.1, 0.12, 0.2], np.float32) * amount

    def sampler(generator: np.random.Generator, previous: FloatArray) -> FloatArray:
        return first + extent * generator.normal(0.0, 1.0, 4).astype(np.float32)

    return random_trajectory(rng, duration, first, sampler, (0.5, 2.5), 0.4, 0.05 * extent)


def random_blob(
    rng: np.random.Generator, duration: float, aspect: float, texture: ByteArray, name: str = "tissue"
) -> Blob:
    """A tissue body, dark cavity or gauze (by `name`) lying in the image."""
    first = np.array(
        [rng.uniform(0.1, 0.9) * aspect, rng.uniform(0.1, 0.9), 0.0, rng.uniform(0, 6.3)], np.float32
    )
    count = 6
    falloff = 1.0 / np.arange(2, 2 + count, dtype=np.float32)
    harmonics = np.stack(
        [rng.normal(0, 0.25, count) * falloff, rng.normal(0, 0.25, count) * falloff,
         rng.normal(0, 0.12, count) * falloff, rng.normal(0, 3.0, count)],
        axis=1,
    )  # fmt: skip
    dark = name == "cavity"
    if dark:
        texture = cv2.convertScaleAbs(texture, alpha=float(rng.uniform(0.05, 0.3)))
    soft = float(rng.uniform(0.0, 0.02)) if rng.random() < 0.6 else 0.0
    return Blob(
        name=name,
        path=_drift(rng, duration, first, float(rng.uniform(0.0, 1.0))),
        radius=float(np.exp(rng.uniform(np.log(0.05), np.log(0.3)))),
        stretch=float(np.exp(rng.normal(0.0, 0.35))),
        harmonics=harmonics.astype(np.float32),
        texture=texture,
        texture_scale=texture.shape[0] * float(rng.uniform(0.5, 1.2)),
        edge_softness=soft,
        rim=float(rng.uniform(-0.2, 0.7)) if not dark else 0.0,
        bulge=float(rng.uniform(0.0, 1.0)) if not dark else float(rng.uniform(-1.2, 0.0)),
        shadow=(0.01, 0.01, 0.02, float(rng.uniform(0.1, 0.5))) if rng.random() < 0.4 and not dark else None,
    )


def gauze_texture(rng: np.random.Generator, size: int = 256) -> ByteArray:
    """Woven white cloth, sometimes soaked with blood, uint8 RGB [size, size, 3]."""
    ticks = np.arange(size, dtype=np.float32)
    period = float(rng.uniform(4, 12))
    weave = (
        0.5
        + 0.25 * np.sin(ticks[None] * 2 * np.pi / period)
        + 0.25 * np.sin(ticks[:, None] * 2 * np.pi / period)
    )
    base = np.array([232, 228, 220], np.float32) * rng.uniform(0.7, 1.05)
    image = base * (0.75 + 0.25 * weave[..., None])
    stain = cv2.resize(rng.random((6, 6), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    share = np.clip((stain - rng.uniform(0.4, 1.1)) * 3, 0, 0.85)[..., None]
    image = image * (1 - share) + np.array([150, 30, 25], np.float32) * share
    return np.clip(image, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Strand:
    """A curved tube, thread or needle drawn along a Bezier curve with moving control points."""

    name: str
    path: Trajectory  # [8]: four control points x, y
    width: float  # world units
    colour: FloatArray  # [3] RGB
    gloss: float
    rings: float  # 0..1 contrast of transverse rings (a corrugated tube)
    blur_s: float
    shadow: tuple[float, float, float, float] | None

    def curve(self, time: float) -> FloatArray:
        """Points [33, 2] along the curve, world coordinates."""
        control = self.path.at(time).reshape(4, 2)
        t = np.linspace(0, 1, 33, dtype=np.float32)[:, None]
        basis = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3], axis=1)
        return (basis @ control).astype(np.float32)

    def layer(self, time: float, view: View) -> Layer | None:
        """The strand's picture at a time; None when it is out of view."""
        points = view.pixels(self.curve(time))
        width = max(1.2, self.width * view.size[0])
        layer = empty_layer(points, view.size, int(width) + 3)
        if layer is None:
            return None
        local = np.round((points - [layer.x, layer.y]) * 16).astype(np.int32).reshape(-1, 1, 2)
        shape = layer.rgba.shape[:2]
        mask = np.zeros(shape, np.uint8)
        cv2.polylines(mask, [local], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
        colour = np.empty((*shape, 3), np.float32)
        colour[:] = self.colour * 0.55
        steps = 4 if width > 4 else 1
        for step in range(1, steps + 1):
            tone = self.colour * (0.55 + 0.45 * step / steps)
            cv2.polylines(
                colour,
                [local],
                False,
                tone.tolist(),
                max(1, round(width * (1 - step / (steps + 1)))),
                cv2.LINE_8,
                4,
            )
        if self.rings > 0 and width > 5:
            for a, b in zip(local[:-1:1], local[1::1], strict=True):
                across = (b - a)[0][::-1] * np.array([-1, 1])
                across = across / max(float(np.hypot(*across)), 1e-6) * width * 8
                ends = np.round(np.stack([a[0] - across, a[0] + across])).astype(np.int32).reshape(-1, 1, 2)
                cv2.polylines(
                    colour,
                    [ends],
                    False,
                    (self.colour * (1 - self.rings)).tolist(),
                    max(1, int(width / 8)),
                    cv2.LINE_AA,
                    4,
                )
        if self.gloss > 0:
            shine = np.clip(self.colour + 255 * self.gloss, 0, 255).tolist()
            offset = local - np.array([round(width * 3), round(width * 3)], np.int32)
            cv2.polylines(colour, [offset], False, shine, max(1, round(width / 7)), cv2.LINE_AA, 4)
        if width > 5:
            colour = cv2.GaussianBlur(colour, (0, 0), width / 14)
        layer.rgba[..., 3] = mask
        layer.rgba[..., :3] = colour * (layer.rgba[..., 3:4] / 255.0)
        motion = view.pixels(
            (self.path.at(time + self.blur_s) - self.path.at(time)).reshape(4, 2).mean(axis=0)
        )
        if float(np.hypot(motion[0], motion[1])) > 1.2:
            layer.rgba = cv2.filter2D(layer.rgba, -1, motion_kernel(motion, False))
        return layer


_STRANDS: dict[str, tuple[tuple[float, float], tuple[tuple[int, int, int], ...], float]] = {
    "tube": (
        (0.03, 0.16),
        ((200, 195, 180), (120, 130, 140), (70, 75, 85), (220, 190, 90), (90, 120, 160)),
        1.2,
    ),
    "thread": (
        (0.003, 0.009),
        ((90, 50, 130), (230, 225, 215), (40, 40, 50), (60, 90, 160), (200, 180, 110)),
        0.6,
    ),
    "needle": ((0.006, 0.014), ((190, 190, 195), (140, 140, 150)), 0.16),
}


def random_strand(rng: np.random.Generator, duration: float, aspect: float, name: str) -> Strand:
    """A tube entering from a border, a loose thread, or a bent needle."""
    widths, colours, length = _STRANDS[name]
    start = np.array([rng.uniform(0.1, 0.9) * aspect, rng.uniform(0.1, 0.9)])
    heading = rng.uniform(0, 2 * np.pi)
    if name == "tube":
        start = start - np.array([np.cos(heading), np.sin(heading)]) * length * 0.7
    turns = (
        heading + np.cumsum(rng.normal(0.0, 0.35, 3))
        if name != "needle"
        else heading + np.array([0, 1, 2]) * 0.9
    )
    stride = length / 3 * rng.uniform(0.7, 1.3)
    points = [start]
    for turn in turns:
        points.append(points[-1] + stride * np.array([np.cos(turn), np.sin(turn)]))
    first = np.stack(points).astype(np.float32).reshape(8)
    extent = float(rng.uniform(0.0, 0.08))

    def sampler(generator: np.random.Generator, previous: FloatArray) -> FloatArray:
        together = np.tile(generator.normal(0, extent, 2), 4)
        return (first + together + generator.normal(0, 0.3 * extent, 8)).astype(np.float32)

    tone = np.array(colours[rng.integers(len(colours))], np.float32) * rng.uniform(0.7, 1.15)
    width = float(rng.uniform(*widths))
    return Strand(
        name=name,
        path=random_trajectory(rng, duration, first, sampler, (0.4, 2.0), 0.3, 0.05 * extent),
        width=width,
        colour=np.clip(tone, 5, 250).astype(np.float32),
        gloss=float(rng.uniform(0, 0.6)) if rng.random() < 0.7 else 0.0,
        rings=float(rng.uniform(0.2, 0.7)) if name == "tube" and rng.random() < 0.5 else 0.0,
        blur_s=float(rng.uniform(0, 0.03)),
        shadow=(0.01, 0.015, max(0.01, width * 0.5), float(rng.uniform(0.1, 0.5)))
        if rng.random() < 0.5
        else None,
    )
