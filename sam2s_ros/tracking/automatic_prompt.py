"""The previous mask as the next frame's prompt, a setting beyond SAM 2."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import PromptBatch
from sam2s_ros.tracking.prompts import BOX_LABELS, scale_points

NO_PROMPT = PromptBatch()
"""What SAM 2 tracks with."""


def automatic_prompts(
    mode: str,
    previous: NDArray[np.bool_],
    previous_slot: int,
    model_size: int,
    flow: NDArray[np.float32] | None = None,
) -> list[tuple[NDArray[np.int64], PromptBatch]]:
    """Split N objects into groups that are prompted alike.

    Args:
        mode: "off", or "mask", "flow", "box" or "centre" of the previous mask.
        previous: bool [N, mask_size, mask_size]; an object whose previous mask is empty is not prompted.
        previous_slot: frame slot of the previous frame.
        model_size: side of the network's input.
        flow: how the image moved since, [mask_size, mask_size, 2]; used by "flow".

    Returns:
        Pairs of positions int64 among the N and their prompt; no position is left out.
    """
    prompted = previous.any(axis=(1, 2)) & (mode != "off")
    groups = []
    for chosen, batch in (
        (np.flatnonzero(~prompted), NO_PROMPT),
        (np.flatnonzero(prompted), _prompt(mode, previous[prompted], previous_slot, model_size, flow)),
    ):
        if len(chosen):
            groups.append((chosen, batch))
    return groups


def _prompt(
    mode: str,
    masks: NDArray[np.bool_],
    previous_slot: int,
    model_size: int,
    flow: NDArray[np.float32] | None,
) -> PromptBatch:
    if len(masks) == 0:
        return NO_PROMPT
    if mode in ("mask", "flow"):
        return PromptBatch(previous_mask_slot=previous_slot, previous_mask_flow=flow)
    find = _box if mode == "box" else _centre
    points = scale_points(np.stack([find(mask) for mask in masks]), masks.shape[1:], (model_size, model_size))
    labels = BOX_LABELS if mode == "box" else (1,)
    batch_labels = np.tile(np.array(labels, dtype=np.int32), (len(masks), 1))
    return PromptBatch(points=points, labels=batch_labels, multimask=mode == "centre")


def _box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Corners [2, 2] x, y: the outermost pixel centres."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([[columns[0], rows[0]], [columns[-1], rows[-1]]], dtype=np.float32)


def _centre(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The pixel deepest inside the mask, [1, 2] x, y."""
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return np.array([[x, y]], dtype=np.float32)
