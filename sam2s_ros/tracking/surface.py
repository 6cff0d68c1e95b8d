"""Metric points of objects from samples of their surface: a robust plane for each, batched over objects.

A plane's inverse depth, and so its disparity, is an affine function of the pixel. It is fitted to samples inside of the
mask by iteratively reweighted least squares (Tukey's biweight), so that holes, flying pixels, background at the mask's
rim and false matches do not count. The position of a point is where its pixel's ray meets the plane: it projects onto
the point.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.camera import Camera
from sam2s_ros.tracking.geometry import MaskGeometry
from sam2s_ros.tracking.runs import MaskRuns

MAX_SAMPLES = 1024
RIM_PX = 3.0
"""Pixels of a mask nearer to its boundary than this are not sampled, unless it is too thin."""
LEAST_SAMPLES = 16
LEAST_AGREEING = 0.5
"""Share of the samples that must lie on the plane, within AGREEMENT of their depth: false matches are spread over all
depths, and a fit to them says nothing."""
AGREEMENT = 0.1
TIP_REACH = 1.0
"""Samples within this many roots of the mask's area of the tip tell its depth."""
ITERATIONS = 8
TUKEY = 4.685


@dataclass(frozen=True)
class ObjectPositions:
    """Centroid and tip of N objects in the optical frame (REP 103: z forward, x right, y down), NaN where not known.

    position and tip_position [N, 3] in m, their covariances [N, 3, 3] in m^2; right_centroid [N, 2] px, where the
    centroid is in the right image of a stereo pair, NaN without one.
    """

    position: NDArray[np.float64]
    position_covariance: NDArray[np.float64]
    tip_position: NDArray[np.float64]
    tip_position_covariance: NDArray[np.float64]
    right_centroid: NDArray[np.float64]

    @classmethod
    def unknown(cls, count: int) -> ObjectPositions:
        """All NaN."""
        shapes = ((3,), (3, 3), (3,), (3, 3), (2,))
        names = [item.name for item in fields(cls)]
        return cls(**{name: np.full((count, *one), np.nan) for name, one in zip(names, shapes, strict=True)})


@dataclass(frozen=True)
class Samples:
    """K places on each of N objects: `points` [N, K, 2] px, `values` [N, K] inverse depths in 1/m, NaN where there is
    none; `independent` [N] how many of them count as independent measurements at most; `floor` [N] 1/m, the standard
    deviation of what all have in common."""

    points: NDArray[np.float64]
    values: NDArray[np.float64]
    independent: NDArray[np.float64]
    floor: NDArray[np.float64]


def inner_pixels(runs: MaskRuns, row: int) -> NDArray[np.intp]:
    """At most about `MAX_SAMPLES` pixels [K, 2] (x, y) of one mask, evenly from those away from its rim."""
    (y0, _, x0, _), mask = runs.crop(row)
    if mask.size == 0:
        return np.zeros((0, 2), dtype=np.intp)
    crop = np.pad(mask.view(np.uint8), 1)
    depth = cv2.distanceTransform(crop, cv2.DIST_L2, 3)
    y, x = np.nonzero(depth > min(RIM_PX, 0.5 * float(depth.max())))
    step = max(1, len(x) // MAX_SAMPLES)
    return np.stack([x[::step] + (x0 - 1), y[::step] + (y0 - 1)], axis=1)


def locate(samples: Samples, geometry: MaskGeometry, camera: Camera) -> ObjectPositions:
    """Positions of N objects. A point's own uncertainty in the image is part of its covariance."""
    count = len(geometry.area)
    result = ObjectPositions.unknown(count)
    if count == 0:
        return result
    ones = np.ones(samples.values.shape)
    reach = TIP_REACH * np.sqrt(np.maximum(geometry.area.astype(np.float64), 1.0))
    off = samples.points - geometry.tip.astype(np.float64)[:, None]
    with np.errstate(invalid="ignore"):
        near = np.exp(-0.5 * np.nan_to_num((off**2).sum(axis=2), nan=np.inf) / (reach[:, None] / 2) ** 2)
    centroid = _on_surface(samples, ones, geometry.centroid, geometry.centroid_covariance, camera)
    tip = _on_surface(samples, near, geometry.tip, geometry.tip_covariance, camera)
    return ObjectPositions(*centroid, *tip, result.right_centroid)


def _on_surface(
    samples: Samples,
    weights: NDArray[np.float64],
    point: NDArray[np.float32],
    point_covariance: NDArray[np.float32],
    camera: Camera,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position [N, 3] and covariance [N, 3, 3] of a point [N, 2] of each object."""
    at = point.astype(np.float64)
    plane, spread, good = _fit(samples, weights, at)
    inverse, slope = plane[:, 0], plane[:, 1:]
    good &= np.isfinite(at).all(axis=1) & (inverse > 0)
    inverse = np.where(good, inverse, np.nan)
    ray, by_pixel = _rays(camera, at)
    position = np.concatenate([ray, np.ones((len(at), 1))], axis=1) / inverse[:, None]
    by_inverse = -position / inverse[:, None]
    # a pixel beside the point lies on the surface, too: its depth changes with the plane's slope
    jacobian = np.concatenate([by_pixel, np.zeros((len(at), 1, 2))], axis=1) / inverse[:, None, None]
    jacobian = jacobian + by_inverse[:, :, None] * slope[:, None, :]
    covariance = jacobian @ point_covariance.astype(np.float64) @ jacobian.transpose(0, 2, 1)
    variance = spread + samples.floor**2
    covariance = covariance + variance[:, None, None] * by_inverse[:, :, None] * by_inverse[:, None, :]
    known = good & np.isfinite(covariance).all(axis=(1, 2))
    covariance[~known], position[~known] = np.nan, np.nan
    return position, covariance


def _rays(camera: Camera, at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rays [N, 2] of pixels [N, 2], and their derivative [N, 2, 2] by the pixel."""
    steps = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float64)
    rays = camera.rays((at[:, None] + steps).reshape(-1, 2)).reshape(-1, 5, 2)
    by_x, by_y = 0.5 * (rays[:, 1] - rays[:, 2]), 0.5 * (rays[:, 3] - rays[:, 4])
    return rays[:, 0], np.stack([by_x, by_y], axis=2)


def _fit(
    samples: Samples, weights: NDArray[np.float64], at: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Planes [N, 3] (value at `at`, slopes by x and y), the variance [N] of the value there, and which are good."""
    values, known = np.nan_to_num(samples.values), np.isfinite(samples.values)
    weights = np.where(known, weights, 0.0)
    count = np.maximum(weights.sum(axis=1), 1e-9)
    offsets = np.where(np.isfinite(at)[:, None], samples.points - at[:, None], 0.0)
    size = np.sqrt((weights * (offsets**2).sum(axis=2)).sum(axis=1) / count) + 1.0
    design = np.concatenate([np.ones((*values.shape, 1)), offsets / size[:, None, None]], axis=2)
    middle = _weighted_median(values, weights)
    robust = weights
    residual = values - middle[:, None]
    ridge = np.diag([0.0, 1e-6, 1e-6])
    inverse = np.zeros((len(at), 3, 3))
    plane = np.zeros((len(at), 3))
    for _ in range(ITERATIONS):
        deviation = 1.4826 * _weighted_median(np.abs(residual), weights)
        limit = TUKEY * np.maximum(deviation, 1e-4 * np.abs(middle) + 1e-9)
        robust = weights * np.clip(1 - (residual / limit[:, None]) ** 2, 0, None) ** 2
        total = np.maximum(robust.sum(axis=1), 1e-9)[:, None, None]
        normal = np.einsum("nk,nki,nkj->nij", robust, design, design) / total
        inverse = np.linalg.inv(normal + ridge + 1e-12 * np.eye(3))
        plane = np.einsum("nij,nkj,nk->ni", inverse, design, robust * values / total[:, :, 0])
        residual = values - np.einsum("nki,ni->nk", design, plane)
    close = np.abs(residual) <= AGREEMENT * np.abs(values)
    agreeing = ((robust > 0) & close).astype(np.float64) * weights
    share = agreeing.sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    left = np.maximum(robust.sum(axis=1), 1e-9)
    noise = (robust * residual**2).sum(axis=1) / left * 1.3  # the biweight leaves out the tails
    fraction = left / np.maximum(known.sum(axis=1), 1)
    independent = np.maximum(np.minimum(left, samples.independent * fraction) - 3, 1.0)
    variance = noise * inverse[:, 0, 0] / independent
    good = (agreeing.sum(axis=1) >= LEAST_SAMPLES) & (share >= LEAST_AGREEING)
    plane[:, 1:] /= size[:, None]
    return plane, variance, good


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(values, axis=1)
    sums = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    middle = (sums < 0.5 * sums[:, -1:]).sum(axis=1).clip(0, values.shape[1] - 1)
    chosen = np.take_along_axis(order, middle[:, None], axis=1)
    return np.asarray(np.take_along_axis(values, chosen, axis=1)[:, 0])
