"""The size of the stream's images, and what to do when it changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.errors import ImageSizeChangedError
from sam2s_ros.tracking.frame_check import check_frame
from sam2s_ros.tracking.masks import MaskUpsampler


class StreamSize:
    """A new size is taken over while nothing is tracked, and otherwise asks for a reset."""

    def __init__(self, mask_size: int) -> None:
        """`mask_size`: side of the network's masks."""
        self._mask_size = mask_size
        self.upsampler = MaskUpsampler(mask_size, (1, 1))
        """From masks of the network to masks of the image."""
        self.needs_reset = ""
        """Why nothing is tracked until a reset; empty while all is well."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height, width of the images that are tracked."""
        return self.upsampler.image_size

    def set(self, image_size: tuple[int, int]) -> None:
        """Track images of this size."""
        self.upsampler = MaskUpsampler(self._mask_size, image_size)
        self.needs_reset = ""

    def notice(self, size: tuple[int, int], tracking: bool) -> bool:
        """Whether an image has a new size that may be taken over, with `set`; while tracking, a reset is needed."""
        if self.needs_reset or size == self.image_size:
            return False
        if tracking:
            self.needs_reset = size_change_message(self.image_size, size)
        return not tracking

    def require_reset_done(self) -> None:
        """ImageSizeChangedError while a reset is needed."""
        if self.needs_reset:
            raise ImageSizeChangedError(self.needs_reset)

    def require_same(self, frame_rgb: NDArray[np.uint8], tracking: bool) -> tuple[int, int]:
        """Height, width of an image; ImageSizeChangedError when objects are tracked on others. FrameError."""
        size = check_frame(frame_rgb)
        if tracking and size != self.image_size:
            height, width = self.image_size
            raise ImageSizeChangedError(
                f"the frame has {size[1]} x {size[0]} pixels, but objects are tracked on images of {width} x {height}; "
                "give a frame of that size, or reset the tracker for another stream"
            )
        return size


def size_change_message(tracked: tuple[int, int], new: tuple[int, int]) -> str:
    """What `ImageSizeChangedError` and `FrameResult.needs_reset` say; sizes are height, width."""
    return (
        f"the image size changed from {tracked[1]} x {tracked[0]} to {new[1]} x {new[0]} while objects were "
        "tracked, so they are lost; reset the tracker and add them again"
    )
