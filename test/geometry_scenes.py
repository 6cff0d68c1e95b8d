"""Rendered objects of known geometry: uncertain masks, rectified stereo pairs and depth images of tilted patches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.boundary import find_boundary
from sam2s_ros.tracking.camera import Camera, StereoPair
from sam2s_ros.tracking.geometry import MaskGeometry, measure
from sam2s_ros.tracking.geometry_uncertainty import GeometryModel, with_uncertainty
from sam2s_ros.tracking.masks import MaskUpsampler
from sam2s_ros.tracking.runs import MaskRuns
from sam2s_ros.tracking.surface import ObjectPositions

CELLS = 128
NOISE_CELLS = 3.0
"""Gaussian blur, in cells, of the boundary's offsets."""
LIMITS_M = (0.03, 0.4)
COVERED_95 = {1: 3.841, 2: 5.991, 3: 7.815}
"""95 % quantile of the chi-squared distribution by its degrees of freedom."""


def boundary_model(size: tuple[int, int]) -> GeometryModel:
    """The model whose errors `uncertain_logits` has: blurred white noise errs together for 2 sqrt(pi) blurs."""
    cell = np.sqrt(size[0] * size[1]) / CELLS
    return GeometryModel(boundary_correlation=2 * np.sqrt(np.pi) * NOISE_CELLS * cell / np.hypot(*size))


def ellipse(centre: NDArray, axes: NDArray, turn: float, size: tuple[int, int]) -> NDArray[np.float64]:
    """Distance in px to an ellipse's boundary, positive inside, to first order; float64 [H, W] of a canvas."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    u = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
    v = (y - centre[1]) * np.cos(turn) - (x - centre[0]) * np.sin(turn)
    level = np.hypot(u / axes[0], v / axes[1]) + 1e-9
    steep = np.hypot(u / axes[0] ** 2, v / axes[1] ** 2) / level + 1e-9
    return (1 - level) / steep


def uncertain_logits(
    distance: NDArray[np.float64], deviation: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Logits [CELLS, CELLS] of an object whose boundary is off by a smooth noise, as uncertain as that is."""
    noise = cv2.GaussianBlur(rng.standard_normal((CELLS, CELLS)), (0, 0), NOISE_CELLS)
    noise *= deviation / (1 / (2 * np.sqrt(np.pi) * NOISE_CELLS))
    cells = cv2.resize(distance, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return ((cells + noise) * np.pi / np.sqrt(3) / deviation).astype(np.float32)


@dataclass(frozen=True)
class Patch:
    """A tilted, textured patch over a background, as left, right and depth image see it."""

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    depth: NDArray[np.float32]
    runs: MaskRuns
    geometry: MaskGeometry
    pair: StereoPair
    centroid: NDArray[np.float64]
    """True position of the surface at the true mask's centroid, m."""

    def without_images(self) -> Patch:
        """Without what takes memory."""
        nothing = np.zeros((0, 0))
        return replace(self, left=nothing, right=nothing, depth=nothing)


def render_patch(rng: np.random.Generator, size: tuple[int, int] = (360, 640)) -> Patch:
    """A patch at 5 to 20 cm, 4 to 6 mm between the cameras, noise of two grey levels, depth noise of 0.5 % with holes
    and flying pixels; the focal length is 1000 px at 1280 x 720."""
    height, width = size
    focal = 1000.0 * width / 1280
    camera = Camera(focal, focal, width / 2 - 3.7, height / 2 + 2.2)
    pair = StereoPair(camera, float(rng.uniform(0.004, 0.006)), 0.0)
    z = float(rng.uniform(0.05, 0.2))
    scale = width / 640
    centre = np.array([rng.uniform(0.45, 0.7) * width, rng.uniform(0.35, 0.65) * height])
    axes = np.array([rng.uniform(45, 90), rng.uniform(22, 45)]) * scale
    tilt = rng.uniform(-0.4, 0.4, 2) / focal  # relative change of inverse depth for each pixel
    behind = float(z * rng.uniform(1.3, 2.0))
    canvas = (height, width + int(pair.scale / (0.6 * z)) + 8)
    distance = ellipse(centre, axes, float(rng.uniform(0, np.pi)), canvas)
    textures = [_texture(rng, canvas, scale) for _ in range(2)]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    inside = distance[:, :width] > 0
    slope = tilt / z
    inverse = 1 / z + slope[0] * (x - centre[0]) + slope[1] * (y - centre[1])
    left = np.where(inside, textures[0][:, :width], textures[1][:, :width])
    # a right pixel (x, y) shows the left canvas at x + disparity, the disparity being affine on the patch
    a = pair.scale * (1 / z - slope[0] * centre[0] + slope[1] * (y - centre[1]))
    from_left = (x + a) / (1 - pair.scale * slope[0])
    seen = _sample(distance, from_left, y) > 0
    right = np.where(
        seen,
        _sample(textures[0], from_left, y),
        _sample(textures[1], x + pair.scale / behind, y),
    )
    left, right = (np.clip(one + rng.normal(0, 2, size), 0, 255).astype(np.uint8) for one in (left, right))
    depth = np.where(inside, 1 / inverse, behind)
    depth = depth * (
        1 + cv2.GaussianBlur(rng.normal(0, 0.005 * 2.5, size), (0, 0), 0.7) + rng.normal(0, DEPTH_BIAS)
    )
    rim = np.abs(distance[:, :width]) < 2 * scale
    depth = np.where(rim, rng.uniform(z, behind, size), depth)
    depth[cv2.GaussianBlur(rng.standard_normal(size), (0, 0), 3 * scale) > 0.11 / scale] = np.nan
    logits = uncertain_logits(distance[:, :width], deviation=1.2 * scale, rng=rng)[None]
    runs = MaskUpsampler(CELLS, size)(logits)
    geometry = with_uncertainty(
        measure(runs),
        find_boundary(logits, size),
        np.ones(1, np.float32),
        size,
        boundary_model(size),
    )
    true = np.array([x[inside].mean(), y[inside].mean()])
    at = 1 / z + slope @ (true - centre)
    position = np.append(camera.rays(true[None])[0], 1.0) / at
    return Patch(left, right, depth.astype(np.float32), runs, geometry, pair, position)


DEPTH_BIAS = 0.001
"""Relative deviation that the depths of an image have in common."""


def errors(patches: list[Patch], found: list[ObjectPositions]) -> tuple[NDArray, NDArray]:
    """Relative errors [K] in depths, and squared Mahalanobis distances [K], of the centroids; NaN for none."""
    off = np.array([one.position[0] - patch.centroid for patch, one in zip(patches, found, strict=True)])
    covariance = np.array([one.position_covariance[0] for one in found])
    depth = np.array([patch.centroid[2] for patch in patches])
    distance = np.full(len(off), np.nan)
    known = np.isfinite(off).all(axis=1)
    distance[known] = np.einsum(
        "ki,ki->k", off[known], np.linalg.solve(covariance[known], off[known][:, :, None])[:, :, 0]
    )
    return np.linalg.norm(off, axis=1) / depth, distance


def _texture(rng: np.random.Generator, size: tuple[int, int], scale: float) -> NDArray[np.float32]:
    """Grey levels float32 with detail from 1 to 8 px."""
    levels = sum(
        weight * blur * cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), blur)
        for blur, weight in ((1.0 * scale, 1.0), (4.0 * scale, 1.0))
    )
    return np.asarray(128 + 60 * levels, dtype=np.float32)


def _sample(image: NDArray, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    return cv2.remap(
        image.astype(np.float32),
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
