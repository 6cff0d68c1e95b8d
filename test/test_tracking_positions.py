"""Metric centroids from stereo and depth: rendered patches of known 3-D at 5 to 20 cm, seen through uncertain masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from geometry_scenes import COVERED_95, LIMITS_M, Patch, errors, render_patch

from sam2s_ros.tracking.camera import CameraError
from sam2s_ros.tracking.depth import locate_in_depth
from sam2s_ros.tracking.runs import MaskRuns
from sam2s_ros.tracking.stereo import locate_in_pair
from sam2s_ros.tracking.surface import ObjectPositions


def in_pair(patch: Patch) -> ObjectPositions:
    return locate_in_pair(patch.left, patch.right, patch.runs, patch.geometry, patch.pair, LIMITS_M)


def in_depth(patch: Patch) -> ObjectPositions:
    camera = patch.pair.left
    return locate_in_depth(patch.depth, 1.0, patch.runs, patch.geometry, camera, LIMITS_M)


SOURCES = {"stereo": in_pair, "depth": in_depth}


@pytest.fixture(scope="module")
def patches() -> list[Patch]:
    return [render_patch(np.random.default_rng([7, number])) for number in range(40)]


@pytest.mark.parametrize("source", SOURCES)
def test_a_centroid_is_within_one_percent_of_its_depth_and_its_covariance_says_how_far(
    patches: list[Patch], source: str
) -> None:
    """Of 40, a covariance that covers 95 % misses more than 6 once in 60 times; one too wide has a low median."""
    relative, distance = errors(patches, [SOURCES[source](one) for one in patches])
    assert (relative <= 0.01).all()
    assert (distance <= COVERED_95[3]).sum() >= 34
    assert np.median(distance) > 0.8  # 2.4 for a covariance that is exact


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_the_covariance_covers_the_error_in_90_to_99_percent(source: str) -> None:
    """Of 400 patches."""
    cases = (render_patch(np.random.default_rng([11, number])) for number in range(400))
    found = [(one.without_images(), SOURCES[source](one)) for one in cases]
    relative, distance = errors([one for one, _ in found], [one for _, one in found])
    assert (relative <= 0.01).all()
    assert 0.90 <= (distance <= COVERED_95[3]).mean() <= 0.99


def test_the_same_object_is_found_in_the_right_image(patches: list[Patch]) -> None:
    """At the left column less the disparity of its depth, in the same row."""
    for patch in patches[:8]:
        (there,) = in_pair(patch).right_centroid
        left = patch.geometry.centroid[0]
        disparity = patch.pair.scale / patch.centroid[2]
        assert there == pytest.approx([left[0] - disparity, left[1]], abs=0.5)


def test_depth_beside_the_mask_does_not_count(patches: list[Patch]) -> None:
    """Positions are of what the mask covers, whatever lies around it."""
    patch = patches[0]
    around = replace(patch, depth=np.where(patch.runs.masks()[0], patch.depth, 0.05).astype(np.float32))
    assert np.array_equal(in_depth(around).position, in_depth(patch).position)


def test_millimetres_and_metres_say_the_same(patches: list[Patch]) -> None:
    patch = patches[1]
    millimetres = np.nan_to_num(np.rint(patch.depth * 1000)).astype(np.uint16)
    camera = patch.pair.left
    found = locate_in_depth(millimetres, 0.001, patch.runs, patch.geometry, camera, LIMITS_M)
    assert found.position == pytest.approx(in_depth(patch).position, rel=5e-3)


@pytest.mark.parametrize("missing", [np.nan, 0.0, 2.0], ids=["nan", "zero", "out of limits"])
def test_an_object_without_depth_has_no_position(patches: list[Patch], missing: float) -> None:
    """Also where most of it has none: a few pixels tell no surface of its own."""
    patch = patches[2]
    found = in_depth(replace(patch, depth=np.full_like(patch.depth, missing)))
    assert np.isnan(found.position).all() and np.isnan(found.position_covariance).all()


def test_images_that_do_not_match_have_no_position(patches: list[Patch]) -> None:
    """A right image of something else: NaN, and no depth that a false match gave."""
    noise = np.random.default_rng(0).integers(0, 255, patches[0].right.shape, dtype=np.uint8)
    assert np.isnan(in_pair(replace(patches[0], right=noise)).position).all()


def test_an_empty_mask_has_no_position(patches: list[Patch]) -> None:
    patch = patches[3]
    empty = replace(patch, runs=MaskRuns.none(1, patch.runs.image_size))
    for locate in SOURCES.values():
        assert np.isnan(locate(empty).position).all()


def test_a_baseline_that_shows_nothing_within_the_limits_is_refused(patches: list[Patch]) -> None:
    """And asks for no memory in proportion to it."""
    with pytest.raises(CameraError, match="baseline of 1e"):
        in_pair(replace(patches[0], pair=replace(patches[0].pair, baseline=1e6)))
