"""Prompts of service requests as arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sam2s_msgs.msg import Prompt, RleMask
from sam2s_ros.tracking import rle
from sam2s_ros.tracking.prompts_file import PromptArrays, PromptInputError


def prompt_from_message(prompt: Prompt, image_size: tuple[int, int]) -> PromptArrays:
    """A request's prompt, within `service_limits`, for an image of `image_size` (H, W) as arrays; PromptInputError if
    its mask is none of that image.
    """
    points = np.array([[point.x, point.y] for point in prompt.points], np.float32)
    box = prompt.box
    corners = np.array([box.x_min, box.y_min, box.x_max, box.y_max], np.float32) if prompt.has_box else None
    return PromptArrays(
        points=points if len(points) else None,
        labels=np.array(prompt.point_labels, np.int32) if len(points) else None,
        box=corners,
        mask=_mask_from_message(prompt.mask, image_size),
    )


def _mask_from_message(mask: RleMask, image_size: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    if mask.height == 0 and mask.width == 0 and not mask.counts:
        return None
    height, width = image_size
    if (
        mask.height,
        mask.width,
    ) != image_size:  # before decoding, which would allocate whatever size is claimed
        raise PromptInputError(
            f"prompt.mask is {mask.width}x{mask.height} and the image {width}x{height}: send it in image size"
        )
    try:
        return rle.decode(np.asarray(mask.counts), (height, width))
    except ValueError as error:
        raise PromptInputError(
            f"prompt.mask: {error}; send column-major run lengths, background first"
        ) from error
