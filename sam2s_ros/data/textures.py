"""Procedural tissue: noise in tissue colours with folds, vessels, fat lobules and wet highlights."""

from __future__ import annotations

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray, FloatArray

# RGB anchors; each plate mixes two to four of them.
TISSUE_COLOURS: dict[str, tuple[int, int, int]] = {
    "pink": (205, 120, 115),
    "red": (160, 50, 45),
    "dark red": (95, 30, 28),
    "liver": (110, 55, 45),
    "brown": (120, 80, 60),
    "yellow fat": (215, 175, 95),
    "pale fat": (228, 208, 172),
    "white": (225, 215, 205),
    "pale pink": (222, 175, 165),
    "grey pale": (175, 160, 150),
    "mauve": (150, 110, 125),
    "grey brown": (130, 112, 98),
    "orange": (210, 120, 70),
    "beige": (200, 165, 135),
}


def smooth_noise(
    rng: np.random.Generator, size: tuple[int, int], cells: int, octaves: int = 4, gain: float = 0.5
) -> FloatArray:
    """Value noise [height, width] in about 0..1; `cells` across the first octave, each octave doubles them."""
    height, width = size
    total = np.zeros(size, np.float32)
    weight, norm = 1.0, 0.0
    for _ in range(octaves):
        grid = rng.random((cells + 3, cells + 3), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        norm += weight
        weight *= gain
        cells = min(cells * 2, max(height, width) // 2)
    total /= norm
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


_FAMILIES: tuple[tuple[str, ...], ...] = (
    ("pale pink", "pink", "mauve", "white", "beige"),  # bowel, uterus
    ("liver", "dark red", "brown", "red"),
    ("yellow fat", "pale fat", "beige", "orange", "white"),
    ("grey pale", "pale pink", "beige", "grey brown", "white", "pale fat"),  # tissue outside the body
    ("red", "pink", "dark red", "white"),  # muscle and fascia
    tuple(TISSUE_COLOURS),
)


def _palette(rng: np.random.Generator, count: int) -> FloatArray:
    """Colours [count, 3] that occur together."""
    names = _FAMILIES[int(rng.choice(len(_FAMILIES), p=[0.24, 0.14, 0.14, 0.24, 0.12, 0.12]))]
    chosen = rng.choice(len(names), count, replace=count > len(names))
    colours = np.array([TISSUE_COLOURS[names[i]] for i in chosen], np.float32)
    jitter = rng.normal(0.0, 9.0, colours.shape) * np.array([1.0, 0.7, 0.7])
    return np.clip(colours * rng.uniform(0.7, 1.15) + jitter, 5, 250).astype(np.float32)


def _lobules(rng: np.random.Generator, size: tuple[int, int], count: int) -> FloatArray:
    """Height [height, width] of packed round lobules (distance to the nearest of random centres)."""
    height, width = size
    seeds = np.full((height // 2, width // 2), 255, np.uint8)
    xs, ys = rng.integers(0, width // 2, count), rng.integers(0, height // 2, count)
    seeds[ys, xs] = 0
    distance = cv2.distanceTransform(seeds, cv2.DIST_L2, 3)
    radius = np.sqrt(height * width / 4.0 / count)
    dome = np.sqrt(np.clip(1.0 - (distance / radius) ** 2 * 0.7, 0.0, 1.0)).astype(np.float32)
    return cv2.resize(cv2.GaussianBlur(dome, (0, 0), 1.2), (width, height), interpolation=cv2.INTER_LINEAR)


def _vessels(rng: np.random.Generator, image: FloatArray, count: int) -> FloatArray:
    """Draw branching vessels: random walks that taper, in dark red or bluish tones."""
    height, width = image.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    stack = [
        (rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * np.pi), rng.uniform(1.0, 5.0))
        for _ in range(count)
    ]
    while stack:
        x, y, heading, thickness = stack.pop()
        steps = int(rng.integers(8, 26))
        headings = heading + np.cumsum(rng.normal(0.0, 0.25, steps))
        stride = rng.uniform(6, 14)
        points = np.stack(
            [x + np.cumsum(np.cos(headings)) * stride, y + np.cumsum(np.sin(headings)) * stride], axis=1
        )
        pixels = np.round(points * 8).astype(np.int32)
        strength = int(rng.uniform(60, 220))
        cv2.polylines(
            layer, [pixels.reshape(-1, 1, 2)], False, strength, max(1, round(thickness)), cv2.LINE_AA, 3
        )
        if thickness > 1.6 and len(stack) < 60:
            for _ in range(int(rng.integers(1, 4))):
                at = int(rng.integers(1, steps))
                turn = headings[at] + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
                stack.append((points[at, 0], points[at, 1], turn, thickness * rng.uniform(0.45, 0.75)))
    alpha = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.6, 1.4)).astype(np.float32)[..., None] / 255.0
    tone = np.array([[120, 25, 30], [90, 40, 70], [150, 45, 40]], np.float32)[rng.integers(3)]
    alpha *= rng.uniform(0.4, 0.9)
    return image * (1.0 - alpha) + tone * alpha


def _relief(
    height_map: FloatArray, rng: np.random.Generator, strength: float
) -> tuple[FloatArray, FloatArray]:
    """Shading [height, width] around 1 and wet highlights 0..1 of a height map lit from near the camera."""
    dx = cv2.Sobel(height_map, cv2.CV_32F, 1, 0, ksize=3) * strength
    dy = cv2.Sobel(height_map, cv2.CV_32F, 0, 1, ksize=3) * strength
    light = np.array([rng.normal(0, 0.35), rng.normal(0, 0.35)], np.float32)
    inverse = 1.0 / np.sqrt(dx * dx + dy * dy + 1.0)
    facing = (1.0 - dx * light[0] - dy * light[1]) * inverse
    tilt = rng.normal(0, 0.35, 2)
    half = (1.0 - dx * tilt[0] - dy * tilt[1]) * inverse / np.sqrt(1.0 + tilt @ tilt)
    sharp = rng.uniform(60, 260)
    return facing.astype(np.float32), np.exp(-sharp * np.clip(1.0 - half, 0.0, None)).astype(np.float32)


def tissue_plate(rng: np.random.Generator, size: tuple[int, int] = (400, 480)) -> ByteArray:
    """One procedural tissue picture, uint8 RGB [height, width, 3]."""
    count = int(rng.integers(2, 5))
    colours = _palette(rng, count)
    blend = smooth_noise(rng, size, int(rng.integers(1, 6)), 5, rng.uniform(0.3, 0.6))
    image = np.broadcast_to(colours[0], (*size, 3)).astype(np.float32)
    height_map = smooth_noise(rng, size, int(rng.integers(1, 6)), 4, rng.uniform(0.25, 0.55))
    for colour in colours[1:]:
        level = rng.uniform(0.35, 0.7)
        softness = float(np.exp(rng.uniform(np.log(0.06), np.log(0.8))))
        weight = np.clip((blend - level) / softness + 0.5, 0.0, 1.0)
        if rng.random() < 0.35:
            height_map = height_map + 0.12 * weight
        image += weight[..., None] * (colour - image)
        blend = smooth_noise(rng, size, int(rng.integers(1, 7)), 5, rng.uniform(0.3, 0.6))
    if rng.random() < 0.35:
        lobes = _lobules(rng, size, int(rng.integers(40, 500)))
        height_map = height_map + lobes * rng.uniform(0.05, 0.18)
        image *= (0.72 + 0.28 * lobes)[..., None]
    if rng.random() < 0.4:
        ridge = 1.0 - np.abs(2.0 * smooth_noise(rng, size, int(rng.integers(2, 5)), 2) - 1.0)
        height_map = height_map - rng.uniform(0.05, 0.25) * ridge**6
        image *= (1.0 - rng.uniform(0.1, 0.5) * ridge**8)[..., None]
    if rng.random() < 0.6:
        image = _vessels(rng, image, int(rng.integers(1, 9)))
    grain = smooth_noise(rng, size, int(rng.integers(40, 110)), 2)
    image *= (1.0 + rng.uniform(0.02, 0.22) * (grain - 0.5))[..., None]
    shade, gloss = _relief(height_map + rng.uniform(0.0, 0.02) * grain, rng, rng.uniform(8, 40))
    image *= (0.35 + 0.65 * np.clip(shade, 0.2, 1.3))[..., None]
    wet = gloss * np.clip(smooth_noise(rng, size, 6, 3) * 2.2 - rng.uniform(0.9, 1.5), 0.0, 1.0)
    image += rng.uniform(0, 255) * wet[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)
