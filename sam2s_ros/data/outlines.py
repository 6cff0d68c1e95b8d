"""Outlines of objects as annotation files have them, made into masks: polygons, and the run lengths of COCO.

Everything is checked before it is drawn: a point far outside the image would let OpenCV and pycocotools read and write
where they must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from sam2s_ros.data.arrays import BoolArray, FloatArray

FAR = 1.0
"""Sizes of the image by which a point may lie outside of it."""


def polygon_mask(points: Any, size: tuple[int, int]) -> BoolArray:
    """Mask [H, W] of a polygon [[x, y], ...], edges included.

    Raises:
        ValueError: they are no points, fewer than the three that an area needs, or lie far outside the image.
    """
    mask = np.zeros(size, np.uint8)
    corners = _points(points, size)
    if len(corners) < 3:
        raise ValueError(
            f"a polygon has {len(corners)} points, and an area needs 3; draw it again or remove it"
        )
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], (1,))
    return mask.astype(bool)


def coco_mask(segmentation: Any, size: tuple[int, int]) -> BoolArray:
    """Mask [H, W] of a segmentation of COCO: polygons [[x, y, x, y, ...], ...] or run lengths {size, counts}.

    Raises:
        ValueError: it is neither, is of another image size, or lies far outside the image.
    """
    if isinstance(segmentation, Mapping):
        return _run_lengths(segmentation, size)
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        raise ValueError("a segmentation is neither polygons nor run lengths")
    from pycocotools import mask as coco

    polygons = []
    for part in segmentation:
        if not isinstance(part, Sequence) or isinstance(part, str) or len(part) % 2:
            raise ValueError("a polygon is no list of x and y in turn")
        corners = _points([part[i : i + 2] for i in range(0, len(part), 2)], size)
        if len(corners) >= 3:
            polygons.append(corners.ravel().tolist())
    if not polygons:
        return np.zeros(size, bool)
    return coco.decode(coco.merge(coco.frPyObjects(polygons, *size))).astype(bool)


def _points(points: Any, size: tuple[int, int]) -> FloatArray:
    """Points [N, 2] (x, y), finite and not far outside an image of `size`."""
    try:
        corners = np.asarray(points, np.float64).reshape(len(points), 2)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a polygon is no list of points, each x and y") from None
    height, width = size
    reach = np.array([width, height])
    good = np.isfinite(corners) & (corners >= -FAR * reach) & (corners <= (1 + FAR) * reach)
    if not good.all():
        x, y = corners[~good.all(axis=1)][0].tolist()
        raise ValueError(f"a polygon has the point ({x:g}, {y:g}), the image {width}x{height} pixels")
    return corners


def _run_lengths(runs: Mapping[str, Any], size: tuple[int, int]) -> BoolArray:
    """Runs of pixels outside and inside in turn, down the columns: as numbers, or packed into text."""
    found, counts = runs.get("size"), runs.get("counts")
    if not isinstance(found, Sequence) or len(found) != 2 or any(type(one) is not int for one in found):
        raise ValueError("run lengths have no size [height, width]")
    if tuple(found) != tuple(size):
        raise ValueError(f"run lengths are of {found[1]}x{found[0]} pixels, the image of {size[1]}x{size[0]}")
    if isinstance(counts, str | bytes):
        counts = _unpacked(counts)
    if not isinstance(counts, list) or any(type(one) is not int or one < 0 for one in counts):
        raise ValueError("run lengths have counts that are no whole numbers from 0 on")
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"run lengths have {sum(counts)} pixels, the image {size[0] * size[1]}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(size[1], size[0]).T.copy()


def _unpacked(text: str | bytes) -> list[int]:
    """Counts out of COCO's text: 5 bits a character, lowest first, bit 6 says that more follow, and the last one's
    highest bit is the sign; from the fourth count on the difference to the count two before."""
    letters = text.encode("ascii", "replace") if isinstance(text, str) else text
    counts: list[int] = []
    value, shift = 0, 0
    for letter in letters:
        code = letter - 48
        if not 0 <= code < 64 or shift > 40:
            raise ValueError("run lengths have a text that is none of COCO's")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("run lengths are cut off")
    return counts
