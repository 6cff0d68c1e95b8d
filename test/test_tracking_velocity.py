"""Velocities of objects: right for what moves evenly, as sure as they say, and NaN where nothing can be told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from geometry_scenes import COVERED_95
from tracking_cases import disc, moving_images, small_tracker

from sam2s_ros.tracking import ImageCondition
from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.kalman import advance, begin
from sam2s_ros.tracking.kinematics import Kinematics
from sam2s_ros.tracking.result import FrameResult

STEP_NS = 40_000_000


@pytest.fixture(scope="module")
def template() -> FrameResult:
    """One real result of one object; the tests place its centroid."""
    tracker = small_tracker()
    tracker.step(moving_images(1)[0], 0)
    tracker.add_object(None, mask=disc(80, 45, 20))
    assert tracker.last_result is not None
    return tracker.last_result


def at(template: FrameResult, stamp_ns: int, x: float, y: float, **changes: Any) -> FrameResult:
    from dataclasses import replace

    centroid = np.array([[x, y]], np.float32)
    geometry = replace(
        template.geometry,
        centroid=centroid,
        tip=centroid + 5,
        centroid_covariance=np.full((1, 2, 2), 0.01, np.float32) * np.eye(2, dtype=np.float32),
        tip_covariance=np.full((1, 2, 2), 0.04, np.float32) * np.eye(2, dtype=np.float32),
    )
    return replace(template, stamp_ns=stamp_ns, geometry=geometry, **changes)


def test_an_even_motion_has_its_velocity(template: FrameResult) -> None:
    """2 px right and 1 px up per image of 40 ms."""
    kinematics = Kinematics(TrackerConfig())
    results = [kinematics.follow(at(template, n * STEP_NS, 20 + 2 * n, 60 - n)) for n in range(12)]
    assert np.isnan(results[0].velocity).all()
    assert results[-1].velocity[0] == pytest.approx([50, -25], abs=1.0)
    assert np.isfinite(results[-1].velocity_covariance).all()


def test_the_velocity_s_covariance_covers_its_error() -> None:
    """200 points with noise of 0.5 px and the acceleration that the filter expects."""
    rng, count, acceleration, seconds = np.random.default_rng(0), 200, 100.0, 0.04
    place, velocity = np.zeros((count, 2)), rng.normal(0, 50, (count, 2))
    spread = np.tile(0.25 * np.eye(2), (count, 1, 1))
    states = begin(place + rng.normal(0, 0.5, place.shape), spread, 50.0)
    for _ in range(20):
        kick = rng.normal(0, acceleration * np.sqrt(seconds), velocity.shape)
        place = place + seconds * (velocity + kick / 2)
        velocity = velocity + kick
        measured = place + rng.normal(0, 0.5, place.shape)
        fresh = begin(measured, spread, 50.0)
        states = advance(states, seconds, measured, spread, acceleration, fresh)
    found, covariance = states.velocity()
    off = found - velocity
    distance = np.einsum("ni,nij,nj->n", off, np.linalg.inv(covariance), off)
    assert 0.90 <= (distance <= COVERED_95[2]).mean() <= 0.99


@pytest.mark.parametrize("trouble", ["gap", "jump", "back in time", "same time"])
def test_a_break_in_the_motion_leaves_no_velocity(template: FrameResult, trouble: str) -> None:
    """And the image after it has one again."""
    stamp_ns, x = {
        "gap": (STEP_NS * 100, 26.0),
        "jump": (STEP_NS * 3, 150.0),
        "back in time": (STEP_NS // 2, 26.0),
        "same time": (STEP_NS * 2, 26.5),
    }[trouble]
    kinematics = Kinematics(TrackerConfig())
    for n in range(3):
        before = kinematics.follow(at(template, n * STEP_NS, 20 + 2 * n, 60))
    assert np.isfinite(before.velocity).all()
    after = kinematics.follow(at(template, stamp_ns, x, 60))
    assert np.isnan(after.velocity).all()
    again = kinematics.follow(at(template, stamp_ns + STEP_NS, x + 2, 60))
    assert np.isfinite(again.velocity).all()


def test_on_an_image_that_shows_nothing_no_velocity_is_known(template: FrameResult) -> None:
    """A frozen one would say that all stands still. The image after it begins anew."""
    kinematics = Kinematics(TrackerConfig())
    results = []
    for n in range(6):
        condition = ImageCondition.FROZEN if n == 3 else ImageCondition.USABLE
        results.append(kinematics.follow(at(template, n * STEP_NS, 20 + 2 * n, 60, condition=condition)))
    known = [bool(np.isfinite(one.velocity).all()) for one in results]
    assert known == [False, True, True, False, False, True]


def test_only_smoothed_centroids_differ_from_the_mask_s(template: FrameResult) -> None:
    """And they scatter less."""
    rng = np.random.default_rng(3)
    noisy = [at(template, n * STEP_NS, 20 + n + rng.normal(0, 0.1), 60) for n in range(30)]
    plain, smooth = (
        Kinematics(TrackerConfig()),
        Kinematics(TrackerConfig(smooth_geometry=True, acceleration=0.01)),
    )
    as_seen = np.array([plain.follow(one).geometry.centroid[0] for one in noisy])
    filtered = np.array([smooth.follow(one).geometry.centroid[0] for one in noisy])
    assert np.array_equal(as_seen, [one.geometry.centroid[0] for one in noisy])
    truth = 20 + np.arange(30)
    assert np.std(filtered[10:, 0] - truth[10:]) < 0.8 * np.std(as_seen[10:, 0] - truth[10:])


def test_a_tracker_gives_velocities_and_forgets_them_on_reset() -> None:
    tracker = small_tracker()
    images = moving_images(3)
    tracker.step(images[0], 0)
    tracker.add_object(None, mask=disc(80, 45, 20))
    result = tracker.step(images[1], STEP_NS)
    assert result.velocity.shape == (1, 2) and result.geometry.centroid_covariance.shape == (1, 2, 2)
    tracker.reset()
    tracker.step(images[2], 2 * STEP_NS)
    tracker.add_object(None, mask=disc(80, 45, 20))
    assert tracker.last_result is not None and np.isnan(tracker.last_result.velocity).all()
