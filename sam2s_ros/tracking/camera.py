"""The camera that took an image: from pixels to rays, as `sensor_msgs/CameraInfo` describes it. No ROS here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

RECTIFICATIONS = ("auto", "rectified", "raw")
_PLUMB_BOB = ("", "plumb_bob", "rational_polynomial")
_FISHEYE = ("equidistant", "fisheye")


class CameraError(ValueError):
    """A camera description that no position can be computed with; the text names the field and the fix."""


@dataclass(frozen=True)
class Calibration:
    """The fields of a CameraInfo, of the full image, before binning and region of interest.

    `size` height, width; `k` [9], `d` [any], `p` [12], row-major; `roi` x, y, height, width, all 0 for the full image;
    `binning` x, y, 0 as 1.
    """

    size: tuple[int, int]
    k: Sequence[float]
    d: Sequence[float]
    p: Sequence[float]
    model: str = "plumb_bob"
    roi: tuple[int, int, int, int] = (0, 0, 0, 0)
    binning: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Camera:
    """Pinhole of an image as it is delivered; lengths in pixels of that image.

    `shift` is the fourth entry of P's first row, -fx times the baseline in m. `distortion` is empty if rectified.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    shift: float = 0.0
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    def rays(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [N, 2] in pixels -> x / z, y / z [N, 2] in the optical frame."""
        if not self.distortion or len(points) == 0:
            return np.asarray((points - (self.cx, self.cy)) / (self.fx, self.fy))
        matrix = np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])
        undistort = cv2.fisheye.undistortPoints if self.fisheye else cv2.undistortPoints
        known = np.isfinite(points).all(axis=1)
        rays = np.full(points.shape, np.nan)
        if known.any():
            given = np.ascontiguousarray(points[known], dtype=np.float64)[:, None]
            rays[known] = undistort(given, matrix, np.array(self.distortion))[:, 0]
        return rays


def camera_of(calibration: Calibration, image_size: tuple[int, int], rectification: str = "auto") -> Camera:
    """The camera of an image of height, width `image_size`, binned and cut as the calibration says.

    `rectification`: "rectified" takes P, "raw" takes K and the distortion, "auto" only what needs no such knowledge. As
    in `image_geometry`, a pixel of a binned image has the coordinates of the full image divided by the binning.

    Raises:
        CameraError: not calibrated, of another size, or with a distortion about which `rectification` must say more.
    """
    bin_x, bin_y = (max(1, int(one)) for one in calibration.binning)
    left, top, height, width = calibration.roi
    if height == 0 or width == 0:
        left, top, (height, width) = 0, 0, calibration.size
    if left + width > calibration.size[1] or top + height > calibration.size[0]:
        raise CameraError(
            f"camera_info has a region of interest of {width} x {height} pixels at {left}, {top}, which is outside of "
            f"its {calibration.size[1]} x {calibration.size[0]}: roi counts in pixels of the full image"
        )
    if (height // bin_y, width // bin_x) != image_size:
        raise CameraError(
            f"camera_info describes images of {width // bin_x} x {height // bin_y} pixels, but the image has "
            f"{image_size[1]} x {image_size[0]}: give the camera_info of the very topic that is tracked"
        )
    k, p = np.asarray(calibration.k, float), np.asarray(calibration.p, float)
    if not (np.isfinite(k).all() and k[0] > 0 and k[4] > 0):
        raise CameraError(
            "camera_info is not calibrated (K has no focal length above 0): calibrate the camera"
        )
    if not (np.isfinite(p).all() and np.isfinite(np.asarray(calibration.d, float)).all()):
        raise CameraError("camera_info has a P or D that is not finite: calibrate the camera")
    distorted = bool(np.any(np.asarray(calibration.d, float) != 0))
    has_p = bool(p[0] > 0 and p[5] > 0)
    same = not has_p or np.allclose([p[0], p[5], p[2], p[6]], [k[0], k[4], k[2], k[5]], atol=1e-6)
    if rectification == "auto" and (distorted or not same):
        raise CameraError(
            "camera_info has a distortion, or a P unlike its K: say with image_rectification whether the tracked image "
            "is rectified or raw"
        )
    if rectification == "rectified" and not has_p:
        raise CameraError("camera_info has no projection matrix (P is zero), which a rectified image needs")
    from_p = has_p and rectification != "raw"
    fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if from_p else (k[0], k[4], k[2], k[5])
    distortion: tuple[float, ...] = ()
    if rectification == "raw" and distorted:
        if calibration.model not in (*_PLUMB_BOB, *_FISHEYE):
            raise CameraError(
                f"camera_info has the distortion model '{calibration.model}', unknown here: track a rectified image"
            )
        numbers = (4,) if calibration.model in _FISHEYE else (4, 5, 8, 12, 14)
        if len(calibration.d) not in numbers:
            raise CameraError(
                f"camera_info has {len(calibration.d)} distortion coefficients for '{calibration.model}', which has "
                f"{' or '.join(map(str, numbers))}: calibrate the camera"
            )
        distortion = tuple(float(one) for one in calibration.d)
    return Camera(
        fx=float(fx / bin_x),
        fy=float(fy / bin_y),
        cx=float((cx - left) / bin_x),
        cy=float((cy - top) / bin_y),
        shift=float(p[3] / bin_x) if has_p else 0.0,
        distortion=distortion,
        fisheye=calibration.model in _FISHEYE,
    )


@dataclass(frozen=True)
class StereoPair:
    """A rectified pair: `left` is the tracked image's camera, lengths in its pixels; `baseline` in m.

    The disparity of a point at depth z is `scale` / z + `offset` pixels.
    """

    left: Camera
    baseline: float
    offset: float

    @property
    def scale(self) -> float:
        """Focal length times baseline, px m."""
        return self.left.fx * self.baseline


def stereo_of(left: Camera, right: Camera) -> StereoPair:
    """The pair of two rectified cameras. CameraError where they are none, or the baseline is not known."""
    if left.distortion or right.distortion:
        raise CameraError(
            "stereo needs rectified images: track the rectified left image (image_rectification)"
        )
    if not np.allclose([left.fx, left.fy, left.cy], [right.fx, right.fy, right.cy], rtol=1e-4, atol=0.05):
        raise CameraError(
            "the left and right camera_info have different focal lengths or rows: not a rectified pair"
        )
    baseline = (left.shift - right.shift) / right.fx
    if not baseline > 0:
        raise CameraError(
            f"the right camera_info gives a baseline of {baseline:g} m; P[3] must be -fx * baseline, below 0 (are left "
            "and right swapped?)"
        )
    return StereoPair(left, float(baseline), float(left.cx - right.cx))
