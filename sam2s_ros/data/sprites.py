"""Instrument parts as shaded pictures with transparency ("sprites"), and how they are drawn into a frame.

A sprite lives in part coordinates: x along the part towards the tip, y across it, both in shaft diameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.data.arrays import ByteArray, FloatArray

PIXELS_PER_DIAMETER = 40


@dataclass(frozen=True)
class Sprite:
    """Premultiplied RGBA pictures uint8 [h, w, 4] of one part."""

    levels: tuple[ByteArray, ...]  # level i is 2**-i of the full resolution
    origin: tuple[float, float]  # part coordinates of the picture's top left corner
    density: tuple[float, float]  # pixels per diameter along x and y, at level 0
    other_light: tuple[ByteArray, ...] = ()  # the same part with other reflections

    def picture(self, level: int, light: float) -> ByteArray:
        """The picture at a level; `light` 0..1 moves from one set of reflections to the other."""
        if not self.other_light or light <= 0.0:
            return self.levels[level]
        return cv2.addWeighted(self.levels[level], 1.0 - light, self.other_light[level], light, 0.0)

    def corners(self) -> FloatArray:
        """Part coordinates [4, 2] of the picture's corners."""
        height, width = self.levels[0].shape[:2]
        x0, y0 = self.origin
        x1, y1 = x0 + width / self.density[0], y0 + height / self.density[1]
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)

    def half_width(self) -> float:
        """Largest distance of the part's edge from its axis, in diameters."""
        return float(np.abs(self.corners()[:, 1]).max()) - 0.08


def make_sprite(
    rgba: FloatArray,
    origin: tuple[float, float],
    density: tuple[float, float],
    other_light: FloatArray | None = None,
) -> Sprite:
    """Sprite from straight colours 0..255 and alpha 0..1, float [h, w, 4]; `other_light` [h, w, 3] colours alone."""
    alpha = rgba[..., 3:4]
    first = _pyramid(rgba[..., :3], alpha)
    return Sprite(first, origin, density, () if other_light is None else _pyramid(other_light, alpha))


def _pyramid(colour: FloatArray, alpha: FloatArray) -> tuple[ByteArray, ...]:
    """Premultiplied pictures uint8 at full, half and quarter resolution."""
    full = np.concatenate([np.clip(colour, 0, 255) * alpha, alpha * 255.0], axis=-1)
    levels: list[ByteArray] = [np.clip(full + 0.5, 0, 255).astype(np.uint8)]
    for _ in range(2):
        height, width = levels[-1].shape[:2]
        half = (max(2, width // 2), max(2, height // 2))
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
    return tuple(levels)


@dataclass
class Layer:
    """A premultiplied RGBA patch float32 [h, w, 4] (0..255) whose top left pixel is (x, y) of the frame."""

    x: int
    y: int
    rgba: FloatArray = field(repr=False)

    @property
    def rows(self) -> slice:
        return slice(self.y, self.y + self.rgba.shape[0])

    @property
    def columns(self) -> slice:
        return slice(self.x, self.x + self.rgba.shape[1])


def empty_layer(points: FloatArray, size: tuple[int, int], margin: int) -> Layer | None:
    """Transparent layer that covers `points` [n, 2] (pixels) inside a frame of `size` = (height, width)."""
    height, width = size
    x0 = max(0, int(np.floor(points[:, 0].min())) - margin)
    y0 = max(0, int(np.floor(points[:, 1].min())) - margin)
    x1 = min(width, int(np.ceil(points[:, 0].max())) + margin + 1)
    y1 = min(height, int(np.ceil(points[:, 1].max())) + margin + 1)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    return Layer(x0, y0, np.zeros((y1 - y0, x1 - x0, 4), np.float32))


def paint_sprite(layer: Layer, sprite: Sprite, corners: FloatArray, light: float = 0.0) -> None:
    """Draw a sprite over a layer so that its four corners fall on `corners` [4, 2] (frame pixels).

    `light` chooses between the sprite's reflections.
    """
    height, width = layer.rgba.shape[:2]
    local = corners - np.array([layer.x, layer.y], np.float32)
    x0, y0 = max(0, int(local[:, 0].min()) - 1), max(0, int(local[:, 1].min()) - 1)
    x1, y1 = min(width, int(local[:, 0].max()) + 2), min(height, int(local[:, 1].max()) + 2)
    if x1 <= x0 or y1 <= y0:
        return
    across = float(np.hypot(*(local[3] - local[0])) + np.hypot(*(local[2] - local[1]))) / 2.0
    full = sprite.levels[0].shape[0]
    index = 0 if across > 0.7 * full else 1 if across > 0.35 * full else 2
    picture = sprite.picture(index, light)
    h, w = picture.shape[:2]
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, (local - np.array([x0, y0]) - 0.5).astype(np.float32))
    patch = cv2.warpPerspective(picture, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR).astype(
        np.float32
    )
    lay_over(layer.rgba[y0:y1, x0:x1], patch)


def lay_over(target: FloatArray, patch: FloatArray) -> None:
    """Composite a premultiplied patch over `target` in place, both float32 [h, w, 4] in 0..255."""
    through = patch[..., 3] * np.float32(-1.0 / 255.0) + np.float32(1.0)
    scale_in_place(target, through)
    cv2.add(target, patch, dst=target)


def scale_in_place(target: FloatArray, factor: FloatArray) -> None:
    """Multiply target [h, w, 4] by factor [h, w]; OpenCV is several times faster here than NumPy's broadcasting."""
    cv2.multiply(target, cv2.merge((factor, factor, factor, factor)), dst=target)


@dataclass(frozen=True)
class Metal:
    """How a shiny part looks."""

    tint: tuple[float, float, float]  # RGB factors
    dark: float  # tone of what faces a dark surrounding, 0..255
    bright: float  # tone of what faces the light
    contrast: float  # how many reflections cross the part
    brushed: float  # strength of fine streaks
    reflection: tuple[float, float, float]  # colour of the tissue mirrored in it
    reflectivity: float  # 0..1 share of the mirrored colour


BRIGHT_STEEL = Metal((1.0, 1.0, 1.0), 95.0, 255.0, 1.1, 0.03, (210.0, 130.0, 110.0), 0.12)


def random_metal(rng: np.random.Generator) -> Metal:
    """Steel mostly; sometimes gold (bipolar), dark titanium or blackened metal."""
    kind = rng.choice(4, p=[0.74, 0.12, 0.06, 0.08])
    tint = ((1.0, 1.0, 1.0), (0.92, 0.96, 1.0), (1.0, 0.86, 0.58), (0.95, 0.92, 0.9))[kind]
    dark, bright = ((75, 250), (45, 200), (60, 235), (20, 130))[kind]
    return Metal(
        tint=tuple(float(v) for v in np.array(tint) * rng.uniform(0.93, 1.05, 3)),  # type: ignore[arg-type]
        dark=dark * float(rng.uniform(0.6, 1.6)),
        bright=min(255.0, bright * float(rng.uniform(0.8, 1.1))),
        contrast=float(rng.uniform(0.6, 3.0)),
        brushed=float(rng.uniform(0.0, 0.12)),
        reflection=tuple(float(v) for v in rng.uniform([120, 50, 40], [230, 150, 130])),  # type: ignore[arg-type]
        reflectivity=float(rng.uniform(0.0, 0.4)) if rng.random() < 0.6 else 0.0,
    )


def metal_part(
    rng: np.random.Generator,
    outline: FloatArray,
    metal: Metal,
    holes: list[FloatArray] | None = None,
    grooves: list[FloatArray] | None = None,
    dots: list[tuple[float, float, float]] | None = None,
    bevel: float = 0.25,
    round_across: float = 0.0,
    open_holes: bool = True,
) -> Sprite:
    """Shaded metal part.

    outline, holes: polygons [n, 2]; grooves: polylines [n, 2]; dots: (x, y, radius) of screws and pulleys, all in
    part coordinates. `bevel` is the width of its rounded edge, `round_across` 0..1 how cylindrical it is.
    """
    density = PIXELS_PER_DIAMETER
    low, high = outline.min(axis=0) - 0.08, outline.max(axis=0) + 0.08
    width, height = (int(np.ceil(v)) for v in (high - low) * density)

    def pixels(points: FloatArray) -> NDArray[np.int32]:
        return np.round((points - low) * density * 16).astype(np.int32).reshape(-1, 1, 2)

    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [pixels(outline)], 255, cv2.LINE_AA, 4)
    for hole in holes or []:
        cv2.fillPoly(mask, [pixels(hole)], 0, cv2.LINE_AA, 4)
    solid = (mask > 127).astype(np.uint8)
    depth = np.clip(cv2.distanceTransform(solid, cv2.DIST_L2, 3) / (bevel * density), 0.0, 1.0)
    relief = np.sqrt(depth * (2.0 - depth)) * bevel * density
    if round_across > 0:
        y = (np.arange(height, dtype=np.float32) + 0.5) / density + low[1]
        half = max(abs(low[1]), abs(high[1]))
        relief = relief + round_across * density * half * np.sqrt(np.clip(1 - (y / half) ** 2, 0, 1))[:, None]
    ink = np.zeros((height, width), np.float32)
    for groove in grooves or []:
        cv2.polylines(ink, [pixels(groove)], False, 1.0, 2, cv2.LINE_AA, 4)
    for x, y0, radius in dots or []:
        centre = tuple(np.round((np.array([x, y0]) - low) * density * 16).astype(int).tolist())
        cv2.circle(ink, centre, int(radius * density * 16), 1.0, -1, cv2.LINE_AA, 4)
    relief = cv2.GaussianBlur(relief - 2.5 * ink, (0, 0), 1.0)
    ink = 1.0 - 0.65 * cv2.GaussianBlur(ink, (0, 0), 0.7)
    first, second = (_metal_colour(_metal_tone(rng, relief, metal) * ink, metal) for _ in range(2))
    smear(rng, first, second)
    alpha = mask[..., None].astype(np.float32) / 255.0
    if not open_holes and holes:
        closed = np.zeros((height, width), np.uint8)
        cv2.fillPoly(closed, [pixels(outline)], 255, cv2.LINE_AA, 4)
        first, second = (colour * alpha + 18.0 * (1.0 - alpha) for colour in (first, second))
        alpha = closed[..., None].astype(np.float32) / 255.0
    rgba = np.concatenate([first, alpha], axis=-1)
    return make_sprite(rgba, (float(low[0]), float(low[1])), (density, density), second)


def _metal_colour(tone: FloatArray, metal: Metal) -> FloatArray:
    """Colour [h, w, 3] of a grey tone [h, w]: tinted, with tissue mirrored where it is dark."""
    colour = tone[..., None] * np.array(metal.tint, np.float32)
    if metal.reflectivity > 0:
        share = metal.reflectivity * np.clip(1.2 - tone / 160.0, 0.0, 1.0)[..., None]
        colour = colour * (1 - share) + share * np.array(metal.reflection, np.float32) * 0.7
    return colour.astype(np.float32)


def smear(rng: np.random.Generator, *colours: FloatArray, chance: float = 0.22) -> None:
    """Sometimes put blood or fluid on a part: the same patches on each of its colour pictures [h, w, 3], in place."""
    if rng.random() > chance:
        return
    height, width = colours[0].shape[:2]
    grid = rng.random((5, max(5, 5 * width // max(height, 1))), dtype=np.float32)
    noise = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    share = np.clip((noise - rng.uniform(0.55, 0.9)) * 4.0, 0.0, rng.uniform(0.3, 0.9))[..., None]
    tone = np.array([[140, 25, 20], [190, 90, 80], [170, 140, 90]], np.float32)[rng.integers(3)]
    for colour in colours:
        brightness = colour.mean(axis=-1, keepdims=True) / 128.0
        colour += share * (tone * (0.5 + 0.5 * brightness) - colour)


def _metal_tone(rng: np.random.Generator, relief: FloatArray, metal: Metal) -> FloatArray:
    """Grey tone [h, w] of a mirror-like relief that reflects a random surrounding and the endoscope's light."""
    dx = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3) / 8.0
    dy = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3) / 8.0
    inverse = 1.0 / np.sqrt(dx * dx + dy * dy + 1.0)
    nx, ny = -dx * inverse, -dy * inverse
    angle = rng.uniform(0, 2 * np.pi)
    along = nx * np.cos(angle) + ny * np.sin(angle)
    height, width = relief.shape
    sweep = np.linspace(-1, 1, width, dtype=np.float32)[None] * rng.normal(0, 0.5)
    sweep = sweep + np.linspace(-1, 1, height, dtype=np.float32)[:, None] * rng.normal(0, 0.5)
    mirror = 0.5 + 0.5 * np.sin(metal.contrast * (3.0 * along + sweep) + rng.uniform(0, 2 * np.pi))
    mirror = (
        0.35 * mirror
        + 0.65 * np.clip(inverse * rng.uniform(0.8, 1.1) + 0.4 * along - 0.1, 0, 1) * mirror**0.5
    )
    half = rng.normal(0, 0.3, 2)
    shine = np.exp(-((nx - half[0]) ** 2 + (ny - half[1]) ** 2) * rng.uniform(10, 60))
    tone = metal.dark + (metal.bright - metal.dark) * mirror
    tone += (255.0 - tone) * shine * rng.uniform(0.2, 1.0) * metal.bright / 255.0
    streaks = rng.normal(0, 1, (height, max(2, width // 12))).astype(np.float32)
    tone *= 1.0 + metal.brushed * cv2.resize(streaks, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(tone, 0, 255).astype(np.float32)
