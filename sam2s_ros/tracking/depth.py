"""Metric positions of objects from a depth image that is registered with the tracked one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.camera import Camera
from sam2s_ros.tracking.geometry import MaskGeometry
from sam2s_ros.tracking.runs import MaskRuns
from sam2s_ros.tracking.surface import ObjectPositions, Samples, inner_pixels, locate

DEPTH_CORRELATION_PX2 = 4.0
"""Pixels of a depth image that err together."""
DEPTH_FLOOR = 0.001
"""Relative standard deviation that all depths of an object have in common: scale, registration."""


def locate_in_depth(
    depth: NDArray[np.float32] | NDArray[np.uint16],
    unit_m: float,
    runs: MaskRuns,
    geometry: MaskGeometry,
    camera: Camera,
    limits_m: tuple[float, float],
) -> ObjectPositions:
    """Positions of N masks.

    `depth` [H, W] along z in units of `unit_m`, 0 or NaN where not known; outside of `limits_m` it is not believed.
    """
    picked = [inner_pixels(runs, row) for row in range(runs.count)]
    most = max((len(one) for one in picked), default=0)
    points = np.zeros((len(picked), max(most, 1), 2))
    values = np.full(points.shape[:2], np.nan)
    for row, pixels in enumerate(picked):
        z = depth[pixels[:, 1], pixels[:, 0]].astype(np.float64) * unit_m
        points[row, : len(pixels)] = pixels
        with np.errstate(invalid="ignore", divide="ignore"):
            values[row, : len(pixels)] = np.where((z >= limits_m[0]) & (z <= limits_m[1]), 1 / z, np.nan)
    known = np.isfinite(values)
    floor = DEPTH_FLOOR * np.where(known, values, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    independent = np.nan_to_num(geometry.area.astype(np.float64)) / DEPTH_CORRELATION_PX2
    return locate(Samples(points, values, independent, floor), geometry, camera)
