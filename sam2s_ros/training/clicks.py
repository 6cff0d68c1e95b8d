"""Simulated prompts: where an operator would click, and the box they would draw."""

from __future__ import annotations

import cv2
import numpy as np


def centre_of(region: np.ndarray) -> tuple[float, float]:
    """The pixel farthest from the region's edge (x, y); region is bool [H, W], not empty."""
    padded = cv2.copyMakeBorder(region.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x), float(y)


def first_click(mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """A click inside a mask (bool [H, W]): its centre or any of its pixels, evenly; (0, 0) for an empty mask."""
    if not mask.any():
        return 0.0, 0.0
    if rng.random() < 0.5:
        return centre_of(mask)
    ys, xs = np.nonzero(mask)
    i = int(rng.integers(len(ys)))
    return float(xs[i]), float(ys[i])


def corrective_click(
    predicted: np.ndarray, truth: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, int]:
    """A click in the larger of the missed and the leaked region -> (x, y, label); label 1 adds, 0 removes.

    Where the prediction is right everywhere, one more positive click (-1: not a point, if the mask is empty).
    """
    missed = truth & ~predicted
    leaked = predicted & ~truth
    if not (missed.any() or leaked.any()):
        x, y = first_click(truth, rng)
        return x, y, 1 if truth.any() else -1
    positive = int(missed.sum()) >= int(leaked.sum())
    x, y = centre_of(missed if positive else leaked)
    return x, y, int(positive)


def noisy_box(mask: np.ndarray, rng: np.random.Generator, noise: float = 0.1) -> np.ndarray:
    """The mask's bounding box, each side moved by some `noise` of its length (at most 10 px) -> [4] x0 y0 x1 y1."""
    if not mask.any():
        return np.zeros(4, np.float32)
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float32)
    extent = np.array([box[2] - box[0], box[3] - box[1]] * 2, np.float32)
    jitter = np.clip(rng.normal(0, noise / 2, 4) * extent, -10, 10)
    size = np.array([mask.shape[1] - 1, mask.shape[0] - 1] * 2, np.float32)
    return np.clip(box + jitter, 0, size).astype(np.float32)
