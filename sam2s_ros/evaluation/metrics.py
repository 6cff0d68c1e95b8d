"""Region and boundary accuracy of binary masks, as the DAVIS 2017 benchmark and SAM 2's SA-V tool measure
them.

J is the intersection over the union. F is the harmonic mean of boundary precision and recall: a boundary
pixel counts as found when the other mask has a boundary pixel within a disk whose radius is 0.8 % of the
image diagonal, rounded up (Perazzi et al., CVPR 2016, and Pont-Tuset et al., arXiv:1704.00675). All values
are fractions in 0..1.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]

BOUNDARY_TOLERANCE = 0.008  # of the image diagonal


def region_accuracy(prediction: NDArray, truth: NDArray) -> float:
    """J of two masks [H, W] (non-zero is object), 1.0 when both are empty.

    Raises:
        ValueError: the masks differ in size or are not two-dimensional.
    """
    prediction, truth = as_masks(prediction, truth)
    union = int((prediction | truth).sum())
    return int((prediction & truth).sum()) / union if union else 1.0


def boundary_accuracy(prediction: NDArray, truth: NDArray) -> float:
    """F of two masks [H, W] (non-zero is object), 1.0 when neither has a boundary.

    A mask that fills the image has no boundary, so it scores F = 1 against an empty one, as in the public
    code.

    Raises:
        ValueError: the masks differ in size or are not two-dimensional.
    """
    prediction, truth = as_masks(prediction, truth)
    radius = boundary_radius(prediction.shape[0], prediction.shape[1])
    window = window_of(prediction | truth)
    if window is None:
        return 1.0
    found, wanted = (places_of(mask_boundary(mask[window])) for mask in (prediction, truth))
    if len(found) == 0 or len(wanted) == 0:
        return 1.0 if len(found) == len(wanted) else 0.0
    beyond = math.sqrt(radius**2 + 0.5)  # the squares of distances are whole numbers
    precision = float(np.isfinite(nearest(found, wanted, beyond)).mean())
    recall = float(np.isfinite(nearest(wanted, found, beyond)).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def region_and_boundary(prediction: NDArray, truth: NDArray) -> tuple[float, float]:
    """(J, F) of two masks [H, W]; J&F is their mean."""
    return region_accuracy(prediction, truth), boundary_accuracy(prediction, truth)


def boundary_radius(height: int, width: int) -> int:
    """Radius in pixels within which two boundary pixels match, for an image of this size."""
    return math.ceil(BOUNDARY_TOLERANCE * float(np.linalg.norm((height, width))))


def mask_boundary(mask: Mask) -> Mask:
    """Boundary pixels [H, W] of a mask [H, W]: where it differs from its right, lower or lower-right
    neighbour.

    The last row is compared along the row only, the last column along the column only, and the last pixel
    never, so the edge of the image is no boundary.
    """
    boundary = np.zeros_like(mask)
    inner = mask[:-1, :-1]
    boundary[:-1, :-1] = (inner ^ mask[:-1, 1:]) | (inner ^ mask[1:, :-1]) | (inner ^ mask[1:, 1:])
    boundary[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    boundary[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return boundary


def as_masks(prediction: NDArray, truth: NDArray) -> tuple[Mask, Mask]:
    """Two masks bool [H, W] of one size; ValueError when they are not."""
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(f"two masks of one size [H, W] are needed, not {prediction.shape} and {truth.shape}")
    return prediction.astype(bool, copy=False), truth.astype(bool, copy=False)


def window_of(mask: Mask) -> tuple[slice, slice] | None:
    """The part of the image that holds every boundary pixel of a mask, None for an empty mask.

    One pixel beyond the mask's box on each side: the boundary lies up to one pixel before the mask, and the
    row and column after it keep the rule for the image's own last row and column from being applied inside
    the image.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def places_of(mask: Mask) -> NDArray[np.float64]:
    """x, y [K, 2] of the pixels of a mask [H, W]."""
    places = cv2.findNonZero(np.ascontiguousarray(mask).view(np.uint8))
    return np.zeros((0, 2)) if places is None else places.reshape(-1, 2).astype(np.float64)


def nearest(
    places: NDArray[np.float64], others: NDArray[np.float64], beyond: float = math.inf
) -> NDArray[np.float64]:
    """Distance [K] of each of the places [K, 2] to the nearest of some others, of which there is one; infinite where it
    is not below `beyond`."""
    return np.asarray(KDTree(others).query(places, distance_upper_bound=beyond)[0])
