"""How far apart two masks of one object are, in pixels: their surfaces, their centroids and their tips.

The surface of a mask is its pixels with one of their four neighbours outside of it; the image ends there too, so that a
mask has a surface along the image's edge. DAVIS's boundary
(`metrics.mask_boundary`), which F is made of, leaves the image's edge out.

Distances are known only where both masks are non-empty, and NaN elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.metrics import Mask, as_masks, boundary_radius, nearest, places_of, window_of

PERCENTILE = 95


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the surfaces of a predicted and a true mask."""

    nsd: float
    """Normalised surface distance: share of both surfaces' pixels that lie within the tolerance of the other surface,
    0 .. 1; 1 when both masks are empty, 0 when one is (Nikolov et al., arXiv:1809.04430, section 3.3)."""
    hd95_px: float
    """The larger of the two directed 95th percentiles; NaN unless both masks are non-empty."""
    asd_px: float
    """Average symmetric surface distance: mean over the pixels of both surfaces; NaN unless both are non-empty."""


def surface_distances(
    prediction: NDArray, truth: NDArray, tolerance_px: float | None = None
) -> SurfaceDistances:
    """NSD, HD95 and ASD of two masks [H, W] (non-zero is object).

    tolerance_px: of NSD; when left out that of F, 0.8 % of the image diagonal rounded up.

    Raises:
        ValueError: the masks differ in size or are not two-dimensional.
    """
    prediction, truth = as_masks(prediction, truth)
    if tolerance_px is None:
        tolerance_px = boundary_radius(prediction.shape[0], prediction.shape[1])
    window = window_of(prediction | truth)
    if window is None:
        return SurfaceDistances(1.0, np.nan, np.nan)
    found, wanted = (places_of(surface(mask[window])) for mask in (prediction, truth))
    if len(found) == 0 or len(wanted) == 0:
        return SurfaceDistances(0.0, np.nan, np.nan)
    from_found, from_wanted = nearest(found, wanted), nearest(wanted, found)
    both = np.concatenate([from_found, from_wanted])
    hd95 = max(np.percentile(from_found, PERCENTILE), np.percentile(from_wanted, PERCENTILE))
    return SurfaceDistances(float((both <= tolerance_px).mean()), float(hd95), float(both.mean()))


def surface(mask: Mask) -> Mask:
    """Surface pixels bool [H, W] of a mask bool [H, W]."""
    inside = np.pad(mask, 1)
    enclosed = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~enclosed


def distance_to_zero(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Euclidean distance in pixels [H, W] of every pixel to the nearest that is 0.

    The square of a distance is a whole number, to which it is brought: OpenCV's last digits depend on where the arrays
    lie in memory, which would decide where several pixels are equally far.
    """
    distance = np.asarray(cv2.distanceTransform(image, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)
    return np.asarray(np.sqrt(np.rint(np.square(distance.astype(np.float64)))))


def point_error(prediction: NDArray, truth: NDArray) -> float:
    """Distance in pixels between two points [2] x, y; NaN where one of them is not known."""
    return float(np.hypot(*(np.asarray(prediction, np.float64) - np.asarray(truth, np.float64))))
