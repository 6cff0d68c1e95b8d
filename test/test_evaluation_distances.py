"""Surface distances, points and temporal consistency, held against what can be counted by hand or by brute force."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sam2s_ros.evaluation.consistency import FlowConsistency
from sam2s_ros.evaluation.distances import distance_to_zero, point_error, surface, surface_distances
from sam2s_ros.evaluation.frame_scorer import geometry_of


def block(top: int, left: int, height: int = 10, width: int = 10) -> NDArray[np.bool_]:
    mask = np.zeros((60, 80), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def brute_force(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Distance of every surface pixel of each mask to the nearest of the other."""
    a, b = (np.argwhere(surface(mask)).astype(float) for mask in (first, second))
    table = np.linalg.norm(a[:, None] - b[None], axis=2)
    return table.min(axis=1), table.min(axis=0)


def test_the_surface_is_one_pixel_wide_and_runs_along_the_edge_of_the_image() -> None:
    assert surface(block(20, 20)).sum() == 36
    assert surface(np.ones((6, 5), bool)).sum() == 2 * 5 + 2 * 4


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_between_all_pairs_of_surface_pixels(seed: int) -> None:
    draw = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        mask = np.zeros((60, 80), np.uint8)
        for x, y, radius in draw.integers((10, 10, 3), (70, 50, 12), size=(3, 3)).tolist():
            cv2.circle(mask, (x, y), radius, 1, -1)
        masks.append(mask.astype(bool))
    there, back = brute_force(masks[0], masks[1])
    both = np.concatenate([there, back])
    found = surface_distances(masks[0], masks[1], tolerance_px=2)
    assert found.hd95_px == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-4)
    assert found.asd_px == pytest.approx(both.mean(), abs=1e-4)
    assert found.nsd == pytest.approx((both <= 2).mean())


def test_a_mask_moved_within_the_tolerance_has_a_full_nsd_and_beyond_it_has_not() -> None:
    truth = block(20, 20)
    assert surface_distances(block(20, 22), truth, tolerance_px=2).nsd == 1
    assert surface_distances(block(20, 22), truth, tolerance_px=1).nsd < 1
    assert surface_distances(truth, truth).hd95_px == 0


def test_empty_masks_have_an_nsd_and_no_distance() -> None:
    empty, some = np.zeros((60, 80), bool), block(5, 5)
    assert surface_distances(empty, empty).nsd == 1
    assert surface_distances(some, empty).nsd == surface_distances(empty, some).nsd == 0
    assert np.isnan(surface_distances(some, empty).hd95_px) and np.isnan(
        surface_distances(some, empty).asd_px
    )


def test_centroid_and_tip_are_those_of_the_node_and_unknown_for_an_empty_mask() -> None:
    here, there = geometry_of(block(20, 20)), geometry_of(block(24, 23))
    assert point_error(here.centroid[0], there.centroid[0]) == pytest.approx(5)
    nothing = geometry_of(np.zeros((60, 80), bool))
    assert np.isnan(point_error(here.centroid[0], nothing.centroid[0]))


@pytest.fixture
def moving() -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Texture that moves right by 3 pixels a frame, and a disk that moves with it."""
    texture = np.random.default_rng(0).integers(0, 255, (120, 220), dtype=np.uint8)
    texture = np.asarray(cv2.GaussianBlur(texture, (0, 0), 3), np.uint8)
    texture = np.asarray(cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX), np.uint8)
    frames = []
    for step in range(3):
        image = np.ascontiguousarray(np.repeat(texture[:, 40 - 3 * step :][:, :160, None], 3, axis=2))
        disk = cv2.circle(np.zeros((120, 160), np.uint8), (60 + 3 * step, 60), 25, 1, -1)
        frames.append((image, disk.astype(bool)))
    return frames


def test_a_mask_that_moves_with_the_image_is_consistent_and_one_that_stays_or_flickers_is_not(
    moving: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
) -> None:
    consistency, empty = FlowConsistency(), np.zeros((120, 160), bool)
    stays = moving[0][1]
    found = [
        consistency.step(image, {1: disk, 2: stays, 3: stays if index != 1 else empty, 4: empty})
        for index, (image, disk) in enumerate(moving)
    ]
    assert all(np.isnan(value) for value in found[0].values())
    assert found[1][1] > 0.95 and found[2][1] > 0.95
    assert found[1][2] < 0.93
    assert found[1][3] == found[2][3] == 0
    assert np.isnan(found[1][4])


def test_consistency_starts_anew_after_an_image_that_is_not_known(
    moving: list[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
) -> None:
    consistency = FlowConsistency()
    for image, disk in (moving[0], (moving[1][0][:0], moving[1][1]), moving[2]):
        assert np.isnan(consistency.step(image, {1: disk})[1])
    assert consistency.step(*((moving[2][0], {1: moving[2][1]})))[1] > 0.95


def test_the_same_masks_have_the_same_distances_wherever_they_lie_in_memory() -> None:
    """To the last bit; OpenCV's own differ by 1e-8."""
    rng = np.random.default_rng(0)
    image = (rng.random((120, 150)) > 0.01).astype(np.uint8)
    found = set()
    for offset in range(64):
        place = np.empty(image.size + 64, np.uint8)[offset : offset + image.size].reshape(image.shape)
        place[:] = image
        found.add(distance_to_zero(place).tobytes())
    assert len(found) == 1
    rows, columns = np.nonzero(image == 0)
    wanted = np.sqrt(((rows - 60) ** 2 + (columns - 75) ** 2).min())
    assert distance_to_zero(image)[60, 75] == wanted
