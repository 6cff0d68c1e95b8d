"""From pixels to rays: region of interest, binning and distortion are honoured, and a bad camera_info is named."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from sam2s_ros.tracking.camera import Calibration, Camera, CameraError, camera_of, stereo_of

SIZE = (480, 640)
K = [500.0, 0, 310, 0, 510, 250, 0, 0, 1]
P = [500.0, 0, 310, 0, 0, 510, 250, 0, 0, 0, 1, 0]
PLAIN = Calibration(SIZE, K, [], P)


def test_the_principal_point_looks_straight_ahead_and_y_points_down() -> None:
    """REP 103, optical frame: x right, y down."""
    rays = camera_of(PLAIN, SIZE).rays(np.array([[310.0, 250], [810, 250], [310, 760]]))
    assert rays == pytest.approx(np.array([[0, 0], [1, 0], [0, 1]]))


def test_one_direction_has_one_ray_whatever_part_of_the_image_is_delivered() -> None:
    """Cut at (100, 60), then binned by 2 and 4: pixel (u, v) of the full image is ((u - 100) / 2, (v - 60) / 4)."""
    cut = replace(PLAIN, roi=(100, 60, 400, 520), binning=(2, 4))
    full = np.array([[150.0, 100.0], [400.0, 300.0]])
    delivered = (full - (100, 60)) / (2, 4)
    assert camera_of(cut, (100, 260)).rays(delivered) == pytest.approx(camera_of(PLAIN, SIZE).rays(full))


@pytest.mark.parametrize(
    "model, d", [("plumb_bob", [-0.3, 0.1, 0.001, -0.002, 0.01]), ("equidistant", [0.05] * 4)]
)
def test_a_raw_image_is_undistorted_as_opencv_distorts(model: str, d: list[float]) -> None:
    camera = camera_of(replace(PLAIN, d=d, model=model), SIZE, "raw")
    rays = np.array([[0.1, -0.2], [-0.3, 0.25]])
    points = np.concatenate([rays, np.ones((2, 1))], axis=1)[:, None]
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    pixels = project(points, np.zeros(3), np.zeros(3), np.array(K).reshape(3, 3), np.array(d))[0]
    assert camera.rays(pixels.reshape(-1, 2)) == pytest.approx(rays, abs=1e-4)


def test_a_rectified_image_takes_p_and_no_distortion() -> None:
    camera = camera_of(replace(PLAIN, d=[-0.3, 0.1, 0, 0, 0], p=[400.0, *P[1:]]), SIZE, "rectified")
    assert (camera.fx, camera.distortion) == (400.0, ())


BAD = {
    "no focal length": (replace(PLAIN, k=[0.0] * 9), "auto", "not calibrated"),
    "infinite": (replace(PLAIN, p=[float("inf"), *P[1:]]), "auto", "not finite"),
    "other size": (replace(PLAIN, size=(240, 320)), "auto", "320 x 240"),
    "region of interest to the right": (
        replace(PLAIN, roi=(1, 0, *SIZE)),
        "auto",
        "at 1, 0, which is outside",
    ),
    "region of interest below": (
        replace(PLAIN, roi=(0, 4_000_000_000, *SIZE)),
        "auto",
        "roi counts in pixels",
    ),
    "distorted": (replace(PLAIN, d=[0.1, 0, 0, 0, 0]), "auto", "image_rectification"),
    "no P": (replace(PLAIN, p=[0.0] * 12), "rectified", "P is zero"),
    "unknown model": (replace(PLAIN, d=[0.1] * 5, model="mirror"), "raw", "'mirror'"),
    "three coefficients": (replace(PLAIN, d=[0.1] * 3), "raw", "3 distortion coefficients"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_camera_info_that_cannot_be_used_is_refused_by_name(case: str) -> None:
    calibration, rectification, words = BAD[case]
    with pytest.raises(CameraError, match=words):
        camera_of(calibration, SIZE, rectification)


def test_a_pair_has_its_baseline_from_the_right_p() -> None:
    left, right = Camera(500, 500, 310, 250), Camera(500, 500, 300, 250, shift=-2.5)
    pair = stereo_of(left, right)
    assert (pair.baseline, pair.scale, pair.offset) == pytest.approx((0.005, 2.5, 10))


@pytest.mark.parametrize("binning", [(1, 1), (2, 2), (4, 2)])
def test_a_binned_pair_has_the_same_baseline(binning: tuple[int, int]) -> None:
    """Its focal length counts in binned pixels, and so must P's fourth value."""
    size = (SIZE[0] // binning[1], SIZE[1] // binning[0])
    rectified = replace(PLAIN, p=[500.0, 0, 310, 0, 0, 500, 250, 0, 0, 0, 1, 0], binning=binning)
    other = replace(rectified, p=[500.0, 0, 300, -2.5, 0, 500, 250, 0, 0, 0, 1, 0])
    left, right = (camera_of(one, size, "rectified") for one in (rectified, other))
    assert stereo_of(left, right).baseline == pytest.approx(0.005)


@pytest.mark.parametrize(
    "right, words",
    [
        (Camera(500, 500, 310, 255, shift=-2.5), "not a rectified pair"),
        (Camera(450, 450, 310, 250, shift=-2.5), "not a rectified pair"),
        (Camera(500, 500, 310, 250, shift=-2.5, distortion=(0.1, 0, 0, 0)), "rectified images"),
        (Camera(500, 500, 310, 250, shift=2.5), "swapped"),
        (Camera(500, 500, 310, 250), "baseline"),
    ],
)
def test_two_cameras_that_are_no_pair_are_refused(right: Camera, words: str) -> None:
    with pytest.raises(CameraError, match=words):
        stereo_of(Camera(500, 500, 310, 250), right)
