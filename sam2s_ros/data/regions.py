"""Regions of an unlabelled picture that follow its edges: watershed superpixels, merged by colour."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.data.arrays import ByteArray, FloatArray

_CACHE: dict[tuple[int, tuple[int, ...], int], ByteArray] = {}


def segment_regions(picture: ByteArray, variant: int = 0, regions: int = 9) -> ByteArray:
    """Labels 1..regions, uint8 [h, w], of a picture uint8 RGB [h, w, 3]; 0 is never used.

    Superpixels grow from a jittered grid by `cv2.watershed` and are merged, most similar neighbours first. `variant`
    seeds the jitter. Results are kept in memory by the picture's content.
    """
    key = (hash(picture[::37, ::41].tobytes()), picture.shape, variant)
    if key not in _CACHE:
        _CACHE[key] = _segment(picture, variant, regions)
    return _CACHE[key]


def _segment(picture: ByteArray, variant: int, regions: int) -> ByteArray:
    height, width = picture.shape[:2]
    scale = 160.0 / height
    small = cv2.resize(picture, (round(width * scale), 160), interpolation=cv2.INTER_AREA)
    small = cv2.bilateralFilter(small, 7, 40, 5)
    markers = _grid_markers(small.shape[:2], np.random.default_rng([17, variant]))
    labels: NDArray[Any] = cv2.watershed(small, markers)
    labels[labels < 1] = 0
    grown = cv2.dilate(labels.astype(np.float32), np.ones((3, 3), np.uint8)).astype(np.int32)
    labels = np.where(labels == 0, np.maximum(grown, 1), labels)
    merged = _merge(labels, cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32), regions)
    return cv2.resize(merged, (width, height), interpolation=cv2.INTER_NEAREST)


def _grid_markers(shape: tuple[int, ...], rng: np.random.Generator, step: int = 16) -> NDArray[Any]:
    markers = np.zeros(shape, np.int32)
    ys, xs = np.meshgrid(
        np.arange(step // 2, shape[0], step), np.arange(step // 2, shape[1], step), indexing="ij"
    )
    ys = np.clip(ys + rng.integers(-5, 6, ys.shape), 0, shape[0] - 1)
    xs = np.clip(xs + rng.integers(-5, 6, xs.shape), 0, shape[1] - 1)
    for number, (y, x) in enumerate(zip(ys.ravel(), xs.ravel(), strict=True)):
        markers[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = number + 1
    return markers


def _merge(labels: NDArray[Any], colour: FloatArray, regions: int) -> ByteArray:
    """Merge neighbouring superpixels until `regions` remain; small ones are merged early."""
    count = int(labels.max()) + 1
    size = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    total = np.stack([np.bincount(labels.ravel(), colour[..., c].ravel(), count) for c in range(3)], axis=1)
    touching = np.zeros((count, count), bool)
    for a, b in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        touching[a, b] = touching[b, a] = True
    np.fill_diagonal(touching, False)
    parent = np.arange(count)
    alive = size > 0
    while alive.sum() > regions:
        mean = total / np.maximum(size, 1.0)[:, None]
        distance = np.linalg.norm(mean[:, None] - mean[None], axis=-1)
        balance = size[:, None] * size[None] / np.maximum(size[:, None] + size[None], 1.0)
        cost = np.where(touching & alive[:, None] & alive[None], (distance + 2.0) * np.sqrt(balance), np.inf)
        first, second = divmod(int(np.argmin(cost)), cost.shape[1])
        if not np.isfinite(cost[first, second]):
            break
        parent[parent == second] = first
        size[first] += size[second]
        total[first] += total[second]
        size[second] = 0.0
        alive[second] = False
        touching[first] |= touching[second]
        touching[:, first] |= touching[:, second]
        touching[first, first] = False
    _, compact = np.unique(parent[labels], return_inverse=True)
    return (compact.reshape(labels.shape) + 1).astype(np.uint8)
