"""States and settings."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_ros.tracking import TrackerConfig, TrackState
from sam2s_ros.tracking.states import judge_states


def test_each_state_has_its_cause() -> None:
    config = TrackerConfig(uncertain_iou=0.5, lost_after_s=2.0)
    states = judge_states(
        present=np.array([True, True, True, False, False, False]),
        covered=np.array([True, True, False, False, False, False]),
        iou=np.array([0.9, 0.4, 0.9, 0.9, 0.9, 0.9], dtype=np.float32),
        age_s=np.array([0.0, 0.0, 0.0, 1.9, 2.1, np.nan]),
        config=config,
    )
    assert states == (
        TrackState.TRACKING,
        TrackState.UNCERTAIN,
        TrackState.UNCERTAIN,
        TrackState.OCCLUDED,
        TrackState.LOST,
        TrackState.LOST,
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_objects", 0),
        ("max_conditioning", 0),
        ("num_long_term", -1),
        ("num_long_term", 17),
        ("long_term_interval_s", -0.1),
        ("long_term_interval_s", float("inf")),
        ("long_term_candidates", 0),
        ("long_term_min_iou", -1.0),
        ("long_term_min_iou", 1.5),
        ("kept_frames", 0),
        ("previous_mask_prompt", "points"),
        ("stray_distance", -0.1),
        ("uncertain_iou", 1.5),
        ("lost_after_s", -1),
        ("frame_interval_s", 0),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"tracker config: {setting} is"):
        TrackerConfig(**{setting: value})
