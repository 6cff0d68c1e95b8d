"""The simulated operator: prompts one object from its ground truth, as the SAM 2 and SAM2S papers do.

`mask` gives the mask, `box` its tight box, `click` one click at its centre, and `clicks` that click and two
more, each at the centre of the larger error region of the mask predicted so far. A region's centre is the
peak of its distance transform, the image border counting as outside.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.interface import MaskTracker, mask_of

PROMPTS = ("mask", "click", "clicks", "box")
CORRECTIONS = {"click": 0, "clicks": 2}


def prompt_object(
    tracker: MaskTracker, frame_rgb: NDArray[np.uint8], truth: NDArray[np.bool_], prompt: str, name: str = ""
) -> int:
    """Prompt a new object on the frame just stepped; returns its id.

    Raises:
        ValueError: the prompt is none of PROMPTS.
    """
    if prompt == "mask":
        return tracker.add_object(frame_rgb, mask=truth, name=name)
    if prompt == "box":
        return tracker.add_object(frame_rgb, box=box_of(truth), name=name)
    if prompt not in CORRECTIONS:
        raise ValueError(f"unknown prompt {prompt!r}; choose from {', '.join(PROMPTS)}")
    points, labels = correction_click(truth, np.zeros_like(truth))
    object_id = tracker.add_object(frame_rgb, points=points, labels=labels, name=name)
    for _ in range(CORRECTIONS[prompt]):
        prediction = mask_of(tracker.last_result, object_id, truth.shape)
        if (prediction == truth).all():
            break
        points, labels = correction_click(truth, prediction)
        tracker.refine_object(object_id, frame_rgb, points=points, labels=labels)
    return object_id


def box_of(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The pixel centres [4] (x0, y0, x1, y1) of a mask's first and last column and row.

    A side of a single pixel reaches from edge to edge of that pixel, since a box must have an area.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    (x0, x1), (y0, y1) = _extent(columns), _extent(rows)
    return np.array([x0, y0, x1, y1], np.float32)


def _extent(indices: NDArray[np.intp]) -> tuple[float, float]:
    first, last = float(indices[0]), float(indices[-1])
    return (first - 0.5, last + 0.5) if first == last else (first, last)


def correction_click(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The next click, points [1, 2] (x, y) and labels [1]: on what is missed (1) or is too much (0)."""
    missed, missed_depth = _centre(truth & ~prediction)
    extra, extra_depth = _centre(prediction & ~truth)
    on_object = missed_depth > extra_depth
    return np.array([missed if on_object else extra], np.float32), np.array([int(on_object)], np.int32)


def _centre(region: NDArray[np.bool_]) -> tuple[tuple[int, int], float]:
    """(x, y) of the pixel of a region that is farthest from its edge, and how far (px)."""
    padded = np.pad(region.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return (int(column), int(row)), float(depth[row, column])
