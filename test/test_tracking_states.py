"""States and settings, on numbers made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sam2s_ros.tracking import TrackerConfig, TrackState
from sam2s_ros.tracking.states import ObjectStatus, Place, Sight, next_status

CONFIG = TrackerConfig(recover_frames=3, lost_after_s=2.0)
PERIOD_NS = 40_000_000
TRACKING, UNCERTAIN, OCCLUDED, LOST = TrackState


def sight(number: int = 0, x: float = 0.3, area: float = 0.05, **changes: Any) -> Sight:
    """A good sight on frame `number` of a 25 Hz stream, but for the changes."""
    place = Place(number * PERIOD_NS, x, 0.3, area)
    good = {"present": True, "iou": 0.9, "uncertainty": 0.1, "boundary": 0.1, "place": place, "age_s": 0.0}
    return Sight(**{**good, **changes})


def gone(age_s: float) -> Sight:
    return sight(present=False, place=None, age_s=age_s)


def after(*sights: Sight, config: TrackerConfig = CONFIG) -> ObjectStatus:
    """Status after these sights, the first one right after a prompt."""
    status = None
    for one in sights:
        status = next_status(status, one, config)
    assert status is not None
    return status


def run(*sights: Sight, before: ObjectStatus | None = None) -> list[TrackState]:
    """The state after each of these sights."""
    states = []
    for one in sights:
        before = next_status(before, one, CONFIG)
        states.append(before.state)
    return states


@pytest.mark.parametrize(
    ("one", "state", "reason"),
    [
        (sight(), TRACKING, ""),
        (sight(iou=0.4), UNCERTAIN, "predicted IoU 0.40 below 0.6"),
        (sight(iou=float("nan")), UNCERTAIN, "predicted IoU nan"),
        (sight(uncertainty=0.8), UNCERTAIN, "pixel uncertainty 0.80"),
        (sight(boundary=0.9), UNCERTAIN, "boundary band 0.90"),
        (sight(place=None), UNCERTAIN, "empty"),
        (sight(twin_iou=0.7, twin_id=3), UNCERTAIN, "same mask as object 3: IoU 0.70 above 0.6"),
        (sight(twin_iou=0.5, twin_id=3), TRACKING, ""),
        (gone(1.9), OCCLUDED, "not in view for 1.90 s"),
        (gone(2.1), LOST, "not in view for 2.10 s"),
        (gone(float("nan")), LOST, "never seen"),
    ],
)
def test_each_state_has_its_cause_and_says_it(one: Sight, state: TrackState, reason: str) -> None:
    status = after(one)
    assert status.state == state
    assert reason in status.reason and bool(status.reason) == (state != TRACKING)


@pytest.mark.parametrize(
    ("worse", "state"), [(sight(1, iou=0.1), UNCERTAIN), (gone(0.04), OCCLUDED), (gone(3.0), LOST)]
)
def test_a_worse_state_is_entered_at_once(worse: Sight, state: TrackState) -> None:
    assert run(sight(0), worse) == [TRACKING, state]


@pytest.mark.parametrize(
    ("bad", "state"), [(sight(1, iou=0.1), UNCERTAIN), (gone(0.04), OCCLUDED), (gone(3.0), LOST)]
)
def test_a_better_state_needs_good_frames_in_a_row(bad: Sight, state: TrackState) -> None:
    """One good frame is none: a flicker of a mask on the wrong thing must not move an instrument."""
    good = [sight(number) for number in range(2, 5)]
    assert run(sight(0), bad, *good) == [TRACKING, state, state, state, TRACKING]


def test_a_bad_frame_between_good_ones_begins_the_count_anew() -> None:
    states = run(sight(0), gone(3.0), sight(2), sight(3), gone(0.04), sight(5), sight(6), sight(7))
    assert states == [TRACKING, LOST, LOST, LOST, LOST, LOST, LOST, TRACKING]


def test_an_object_that_is_seen_again_doubtfully_becomes_uncertain() -> None:
    """In view for long enough to be no longer LOST, but never believed."""
    assert run(sight(0), gone(3.0), *(sight(n, iou=0.1) for n in range(2, 6))) == [
        TRACKING,
        LOST,
        LOST,
        LOST,
        UNCERTAIN,
        UNCERTAIN,
    ]


def test_a_centroid_that_jumps_is_doubted_and_one_that_moves_fast_is_not() -> None:
    """25 Hz: 0.1 + 2.5 x 0.04 image diagonals are allowed from one frame to the next."""
    assert after(sight(0, x=0.3), sight(1, x=0.49)).state == TRACKING
    jumped = after(sight(0, x=0.3), sight(1, x=0.52))
    assert jumped.state == UNCERTAIN and "jumped by 0.22 image diagonals in 0.040 s" in jumped.reason


def test_what_counts_as_a_jump_is_judged_by_stamps() -> None:
    """The same distance, after frames that were lost in between, is a movement."""
    assert after(sight(0, x=0.3), sight(5, x=0.52)).state == TRACKING


def test_an_area_that_jumps_is_doubted_and_an_object_that_enters_is_not() -> None:
    jumped = after(sight(0, area=0.05), sight(1, area=0.5))
    assert jumped.state == UNCERTAIN and "area changed from 0.0500 to 0.5000" in jumped.reason
    assert after(sight(0, area=0.05), sight(1, area=0.005)).state == UNCERTAIN
    assert after(sight(0, area=0.0001), sight(1, area=0.01)).state == TRACKING


def test_a_mask_that_has_jumped_is_believed_once_an_instrument_could_have_got_there() -> None:
    """It stays where it jumped to: three good frames are counted only from when the speed is possible again."""
    assert run(sight(0, x=0.1), *(sight(number, x=0.8) for number in range(1, 10))) == (
        [TRACKING] + [UNCERTAIN] * 7 + [TRACKING] * 2
    )


def test_stamps_that_go_back_are_doubted_for_as_long_as_any_other_trouble() -> None:
    states = run(sight(100), *(sight(number) for number in range(4)))
    assert states == [TRACKING, UNCERTAIN, UNCERTAIN, UNCERTAIN, TRACKING]


def test_an_image_that_shows_nothing_makes_no_object_better() -> None:
    """Whatever the network says on it; and good frames are counted anew afterwards."""
    for before, state in (((sight(0),), UNCERTAIN), ((sight(0), gone(3.0)), LOST)):
        status = after(*before)
        for number in range(10, 20):
            status = next_status(status, sight(number), CONFIG, "the image is black")
            assert (status.state, status.reason) == (state, "the image is black")
        assert run(*(sight(n) for n in range(20, 23)), before=status) == [state, state, TRACKING]


def test_an_occluded_object_is_lost_in_time_also_while_images_show_nothing() -> None:
    status = after(sight(0), gone(0.04))
    assert next_status(status, gone(1.0), CONFIG, "the image is black").state == OCCLUDED
    assert next_status(status, gone(2.5), CONFIG, "the image is black").state == LOST


def test_a_status_does_not_grow() -> None:
    """A million good frames leave the same status as three: it can be printed, compared and kept."""
    still = sight(0)
    assert after(*[still] * 3) == after(*[still] * 50)


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
        ("uncertain_pixels", -0.1),
        ("uncertain_boundary", -1.0),
        ("twin_iou", 1.5),
        ("lost_after_s", -1),
        ("recover_frames", 0),
        ("jump_distance", -0.1),
        ("jump_speed", -1.0),
        ("jump_area", 0.5),
        ("jump_area_rate", float("nan")),
        ("black_level", 256),
        ("black_share", 1.1),
        ("saturated_share", -0.1),
        ("obscured_detail", -1.0),
        ("torn_jump", 300.0),
        ("frozen_images", 0),
        ("out_of_body_share", 2.0),
        ("frame_interval_s", 0),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"tracker config: {setting} is"):
        TrackerConfig(**{setting: value})
