"""Prompts: checked in the coordinates of the camera image, then put into those of the network's input.

Whole numbers are pixel centres on both sides, so an image of W x H pixels reaches from -0.5 to W - 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional as F

from sam2s_ros.engines.base import PromptBatch
from sam2s_ros.tracking.config import MAX_PROMPT_POINTS
from sam2s_ros.tracking.errors import PromptError

BOX_LABELS = (2, 3)
"""Labels of a box's first and last corner."""


@dataclass(frozen=True)
class Prompt:
    """A checked prompt in image pixels: a mask alone, or points, a box's corners being the first two.

    mask bool [H, W] or None; points float32 [K, 2] x, y; labels int32 [K], 1 on the object, 0 off it, 2 and
    3 box corners.
    """

    mask: NDArray[np.bool_] | None
    points: NDArray[np.float32]
    labels: NDArray[np.int32]

    def following(self, earlier: Prompt | None) -> Prompt:
        """This prompt with the clicks given before on the same frame; a box or a mask starts afresh.

        Beyond `MAX_PROMPT_POINTS` the oldest clicks are left out, never the box.
        """
        if (
            earlier is None
            or earlier.mask is not None
            or self.mask is not None
            or BOX_LABELS[0] in self.labels
        ):
            return self
        points = np.concatenate((earlier.points, self.points))
        labels = np.concatenate((earlier.labels, self.labels))
        surplus = len(labels) - MAX_PROMPT_POINTS
        if surplus > 0:
            clicks = np.flatnonzero(labels <= 1)
            points, labels = np.delete(points, clicks[:surplus], axis=0), np.delete(labels, clicks[:surplus])
        return replace(self, points=points, labels=labels)


def read_prompt(
    image_size: tuple[int, int],
    mask: ArrayLike | None = None,
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    box: ArrayLike | None = None,
) -> Prompt:
    """Check a prompt for an image of (height, width).

    Args:
        image_size: of the frame that is prompted.
        mask: bool or uint8 [H, W], not 0 on the object; alone.
        points: [K, 2] x, y. labels: [K] 1 on the object, 0 off it; all 1 when left out.
        box: x0, y0, x1, y1; the part inside the image counts.

    Raises:
        PromptError: nothing given, a mask beside points or a box, or any value that cannot be meant.
    """
    if mask is not None:
        if points is not None or labels is not None or box is not None:
            raise PromptError(
                "a mask was given beside points or a box; prompt with the mask alone or without it"
            )
        nothing = np.zeros((0, 2), dtype=np.float32)
        return Prompt(_check_mask(np.asarray(mask), image_size), nothing, np.zeros(0, dtype=np.int32))
    if points is None and labels is not None:
        raise PromptError("labels were given without points; give one x, y point per label")
    clicks, click_labels = _check_points(points, labels, image_size)
    corners = np.zeros((0, 2), dtype=np.float32) if box is None else _check_box(box, image_size)
    if len(clicks) + len(corners) == 0:
        raise PromptError("the prompt is empty; give a mask, at least one point (a click), or a box")
    if len(clicks) + len(corners) > MAX_PROMPT_POINTS:
        raise PromptError(
            f"{len(clicks)} points were given; a prompt takes at most {MAX_PROMPT_POINTS}, a box is two"
        )
    all_labels = np.concatenate((np.array(BOX_LABELS[: len(corners)], dtype=np.int32), click_labels))
    return Prompt(None, np.concatenate((corners, clicks)), all_labels)


def require_positive(prompt: Prompt) -> None:
    """A new object needs something that is on it. PromptError otherwise."""
    if prompt.mask is None and not np.any(prompt.labels > 0):
        raise PromptError(
            "all points have label 0 (off the object); a new object needs a point with label 1, or a box"
        )


def to_prompt_batch(
    prompt: Prompt, image_size: tuple[int, int], model_size: int, previous_mask_slot: int | None
) -> PromptBatch:
    """Points of one object in pixels of the model_size x model_size input; multimask for a single click, as
    in SAM 2."""
    return PromptBatch(
        points=scale_points(prompt.points, image_size, (model_size, model_size))[None],
        labels=prompt.labels[None],
        previous_mask_slot=previous_mask_slot,
        multimask=len(prompt.labels) <= 1,
    )


def scale_points(
    points: NDArray[np.float32], source: tuple[int, int], target: tuple[int, int]
) -> NDArray[np.float32]:
    """Points [..., 2] x, y of an image of source (height, width) -> of the same image at target size."""
    scale = np.array([target[1] / source[1], target[0] / source[0]])
    return ((points + 0.5) * scale - 0.5).astype(np.float32)


def to_model_mask(mask: NDArray[np.bool_], model_size: int) -> NDArray[np.float32]:
    """bool [H, W] -> float32 [model_size, model_size] of 0 and 1, antialiased, then cut at a half as in SAM
    2.

    A mask too thin to reach a half anywhere is cut at half its highest value instead, so that it does not
    vanish.
    """
    if mask.shape == (model_size, model_size):
        return mask.astype(np.float32)
    soft = F.interpolate(
        torch.from_numpy(mask.astype(np.float32))[None, None],
        size=(model_size, model_size),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )[0, 0].numpy()
    threshold = min(0.5, 0.5 * float(soft.max()))
    return (soft >= threshold).astype(np.float32)


def _check_mask(mask: np.ndarray, image_size: tuple[int, int]) -> NDArray[np.bool_]:
    if mask.dtype not in (np.bool_, np.uint8):
        raise PromptError(f"the mask has dtype {mask.dtype}; give bool, or uint8 with 0 for background")
    if mask.shape != image_size:
        raise PromptError(
            f"the mask has shape {mask.shape}, the image is {image_size} (height, width); they must agree"
        )
    if not mask.any():
        raise PromptError("the mask is empty; mark at least one pixel of the object")
    return np.ascontiguousarray(mask != 0)


def _check_points(
    points: ArrayLike | None, labels: ArrayLike | None, image_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    if points is None:
        return np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.int32)
    xy = _to_numbers(points, "points")
    if xy.size == 0:
        xy = xy.reshape(0, 2)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise PromptError(f"points have shape {xy.shape}; give [K, 2], one x, y per point")
    height, width = image_size
    for index, (x, y) in enumerate(xy):
        if not (np.isfinite(x) and np.isfinite(y)):
            raise PromptError(f"point {index} is ({x}, {y}); coordinates must be finite numbers")
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            raise PromptError(
                f"point {index} ({x:g}, {y:g}) is outside the image of {width} x {height} pixels"
            )
    return xy.astype(np.float32), _check_labels(labels, len(xy))


def _check_labels(labels: ArrayLike | None, count: int) -> NDArray[np.int32]:
    if labels is None:
        return np.ones(count, dtype=np.int32)
    values = _to_numbers(labels, "labels")
    if values.shape != (count,):
        raise PromptError(f"labels have shape {values.shape} for {count} points; give one label per point")
    wrong = values[~np.isin(values, (0, 1))]
    if len(wrong):
        raise PromptError(f"label {wrong[0]:g} is neither 1 (on the object) nor 0 (off it)")
    return values.astype(np.int32)


def _check_box(box: ArrayLike, image_size: tuple[int, int]) -> NDArray[np.float32]:
    corners = _to_numbers(box, "box")
    if corners.shape != (4,):
        raise PromptError(f"the box has shape {corners.shape}; give the four numbers x0, y0, x1, y1")
    if not np.isfinite(corners).all():
        raise PromptError(f"the box is {corners.tolist()}; its corners must be finite numbers")
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        raise PromptError(f"the box {corners.tolist()} has no area; give x0 < x1 and y0 < y1")
    height, width = image_size
    inside = np.clip(corners, -0.5, [width - 0.5, height - 0.5, width - 0.5, height - 0.5])
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise PromptError(f"the box {corners.tolist()} is outside the image of {width} x {height} pixels")
    return inside.reshape(2, 2).astype(np.float32)


def _to_numbers(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} are not numbers: {error}") from error
