"""What is known of an object on a frame, as one word."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.config import TrackerConfig


class TrackState(IntEnum):
    """States of an object; the numbers are those of `sam2s_msgs/TrackedObject`."""

    TRACKING = 0
    """In view, and the mask is believed."""
    UNCERTAIN = 1
    """In view, but the mask may be wrong."""
    OCCLUDED = 2
    """Out of view for a short time."""
    LOST = 3
    """Out of view for longer than `lost_after_s`, or the stream changed under the object."""


def judge_states(
    present: NDArray[np.bool_],
    covered: NDArray[np.bool_],
    iou: NDArray[np.float32],
    age_s: NDArray[np.float64],
    config: TrackerConfig,
) -> tuple[TrackState, ...]:
    """States of N objects.

    Args:
        present: [N] the network says that the object is in view.
        covered: [N] its mask has pixels.
        iou: [N] predicted IoU.
        age_s: [N] seconds since it was last seen; NaN when it never was.
        config: thresholds.
    """
    uncertain = ~covered | (iou < config.uncertain_iou)
    gone = np.isnan(age_s) | (age_s > config.lost_after_s)
    in_view = np.where(uncertain, TrackState.UNCERTAIN, TrackState.TRACKING)
    out_of_view = np.where(gone, TrackState.LOST, TrackState.OCCLUDED)
    return tuple(TrackState(int(state)) for state in np.where(present, in_view, out_of_view))
