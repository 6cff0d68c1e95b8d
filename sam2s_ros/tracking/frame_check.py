"""What an image must be to be a frame of the stream."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.errors import FrameError

LARGEST_STAMP_NS = 2**62
"""Stamps lie within this either way: 146 years, and far enough from the largest int64 to be counted on from."""


def check_stamp(stamp_ns: int) -> int:
    """The stamp as an int. FrameError when it is not an integer number of nanoseconds within `LARGEST_STAMP_NS`."""
    try:
        stamp = operator.index(stamp_ns)
    except TypeError:
        raise FrameError(f"stamp_ns is {stamp_ns!r}; give nanoseconds as an int") from None
    if abs(stamp) > LARGEST_STAMP_NS:
        raise FrameError(f"stamp_ns is {stamp}; give nanoseconds within {LARGEST_STAMP_NS} either way")
    return stamp


def next_stamp(stamp_ns: int | None, last_ns: int | None, interval_s: float) -> int:
    """Stamp of a frame that may come without one: it then counts on from the last. FrameError as `check_stamp`."""
    if stamp_ns is not None:
        return check_stamp(stamp_ns)
    return 0 if last_ns is None else last_ns + round(1e9 * interval_s)


def check_frame(frame_rgb: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of a frame. FrameError when it is not uint8 [H, W, 3] with pixels."""
    if not isinstance(frame_rgb, np.ndarray):
        raise FrameError(
            f"the frame is a {type(frame_rgb).__name__}; give a numpy array uint8 [H, W, 3], RGB"
        )
    if frame_rgb.ndim != 3 or frame_rgb.shape[2] != 3:
        raise FrameError(f"the frame has shape {frame_rgb.shape}; give [H, W, 3], RGB")
    if frame_rgb.dtype != np.uint8:
        raise FrameError(f"the frame has dtype {frame_rgb.dtype}; give uint8, 0 to 255")
    if frame_rgb.size == 0:
        raise FrameError(f"the frame has shape {frame_rgb.shape}, so no pixels; skip such images")
    return int(frame_rgb.shape[0]), int(frame_rgb.shape[1])
