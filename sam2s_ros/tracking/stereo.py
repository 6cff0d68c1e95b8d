"""Metric positions of objects from a rectified stereo pair, of which the left image is the tracked one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.camera import CameraError, StereoPair
from sam2s_ros.tracking.geometry import MaskGeometry
from sam2s_ros.tracking.runs import MaskRuns, Window
from sam2s_ros.tracking.surface import ObjectPositions, Samples, inner_pixels, locate

BLOCK = 11
"""Side in px of the blocks that are matched."""
SATURATED = 250
"""Grey level from which a pixel is a highlight, which lies elsewhere for the other camera."""
MATCH_CORRELATION_PX2 = BLOCK * BLOCK / 2
"""Pixels of a disparity image that err together."""
DISPARITY_FLOOR_PX = 0.05
"""Standard deviation that all disparities of an object have in common: calibration, the matcher's preference for whole
pixels."""
MAX_WORK = 24_000_000
"""Pixels times disparities of one object's match; above it, both images are halved until it is below."""


def locate_in_pair(
    left: NDArray[np.uint8],
    right: NDArray[np.uint8],
    runs: MaskRuns,
    geometry: MaskGeometry,
    pair: StereoPair,
    limits_m: tuple[float, float],
) -> ObjectPositions:
    """Positions of N masks of the left image.

    `left` and `right` [H, W] grey. Matched only inside of the masks, at disparities of depths within `limits_m`.
    """
    picked = [inner_pixels(runs, row) for row in range(runs.count)]
    most = max((len(one) for one in picked), default=0)
    points = np.zeros((len(picked), max(most, 1), 2))
    values = np.full(points.shape[:2], np.nan)
    factors = np.ones(len(picked))
    for row, pixels in enumerate(picked):
        if len(pixels) == 0:
            continue
        disparity, factors[row] = _match(left, right, runs.window(row), pixels, pair, limits_m)
        points[row, : len(pixels)] = pixels
        with np.errstate(invalid="ignore"):
            inverse = (disparity - pair.offset) / pair.scale
            far, near = 1 / limits_m[1], 1 / limits_m[0]
            values[row, : len(pixels)] = np.where((inverse >= far) & (inverse <= near), inverse, np.nan)
    area = np.nan_to_num(geometry.area.astype(np.float64))
    independent = area / (MATCH_CORRELATION_PX2 * factors**2)
    floor = DISPARITY_FLOOR_PX * factors / pair.scale
    found = locate(Samples(points, values, independent, floor), geometry, pair.left)
    moved = pair.scale / found.position[:, 2] + pair.offset
    there = geometry.centroid.astype(np.float64) - np.stack([moved, np.zeros(len(moved))], axis=1)
    return replace(found, right_centroid=there)


def _match(
    left: NDArray[np.uint8],
    right: NDArray[np.uint8],
    window: Window,
    pixels: NDArray[np.intp],
    pair: StereoPair,
    limits_m: tuple[float, float],
) -> tuple[NDArray[np.float64], float]:
    """Disparities [K] of pixels [K, 2] of the left image, NaN where there is no good match; and by how much the images
    were made smaller for it."""
    width = left.shape[1]
    lowest = int(np.floor(max(pair.scale / limits_m[1] + pair.offset, -width))) - 1
    highest = int(np.ceil(min(pair.scale / limits_m[0] + pair.offset, width))) + 1
    if lowest >= highest or highest < -width:
        raise CameraError(
            f"a baseline of {pair.baseline:g} m moves whatever lies within {limits_m[0]:g} to {limits_m[1]:g} m out of "
            "the right image: see camera_info's P, depth_min_m and depth_max_m"
        )
    factor = 1.0
    y0, y1 = max(window[0] - BLOCK, 0), min(window[1] + BLOCK, left.shape[0])
    # OpenCV matches a pixel only where the whole search band lies in the crop; the band's length is a multiple of 16
    reach = max(highest, 0) + 16
    x0, x1 = window[2] - BLOCK - reach, window[3] + BLOCK + max(-lowest, 0)
    crops: list[NDArray[np.uint8]] = [_cut(one, y0, y1, x0, x1) for one in (left, right)]
    while crops[0].size * (highest - lowest) / factor > MAX_WORK and min(crops[0].shape) >= 8 * BLOCK:
        crops = [_halved(one) for one in crops]
        factor *= 2
    first = int(np.floor(lowest / factor))
    number = max(16, 16 * ((int(np.ceil(highest / factor)) - first + 15) // 16))
    matcher = cv2.StereoBM.create(numDisparities=number, blockSize=BLOCK)
    matcher.setMinDisparity(first)
    matcher.setTextureThreshold(10)
    matcher.setUniquenessRatio(8)
    matcher.setDisp12MaxDiff(1)
    matcher.setPreFilterType(cv2.STEREO_BM_PREFILTER_NORMALIZED_RESPONSE)
    matched = matcher.compute(crops[0], crops[1])
    x, y = pixels[:, 0] - x0, pixels[:, 1] - y0
    column = np.minimum((x / factor).astype(np.intp), matched.shape[1] - 1)
    row = np.minimum((y / factor).astype(np.intp), matched.shape[0] - 1)
    found = matched[row, column].astype(np.float64) / 16
    wrong = (found < first) | (left[pixels[:, 1], pixels[:, 0]] >= SATURATED)
    return np.where(wrong, np.nan, found * factor), factor


def _cut(image: NDArray[np.uint8], y0: int, y1: int, x0: int, x1: int) -> NDArray[np.uint8]:
    """Rows and columns of an image, columns outside of it repeated from its border."""
    before, after = max(-x0, 0), max(x1 - image.shape[1], 0)
    crop = image[y0:y1, max(x0, 0) : min(x1, image.shape[1])]
    if before or after:
        crop = np.asarray(cv2.copyMakeBorder(crop, 0, 0, before, after, cv2.BORDER_REPLICATE), np.uint8)
    return np.ascontiguousarray(crop)


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
