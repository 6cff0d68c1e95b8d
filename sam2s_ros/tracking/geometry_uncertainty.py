"""How far the measures of a mask may be off: from how sure its boundary is, and from its predicted IoU.

Two errors are propagated, independent of each other.

Boundary: each place of the boundary lies off by a deviation of its own, across it, that of the logistic distribution
whose scale the slope of the logits gives (`Boundary.deviations`). Neighbouring places err together,
`boundary_correlation` of the image's diagonal long. An offset e(s) moves a moment by the integral of its integrand
times e along the boundary: the centroid c of a mask of area A by (1 / A) * integral of (r - c) e ds, the axis by
1 / (A (l1 - l2)) * integral of u v e ds, u and v being along and across the axis, l1 and l2 the variances of the mask's
pixels along them. A box's side and the tip are off by what the boundary is where they lie.

Part: a mask of predicted IoU q lacks, or has too much, a part of the share (1 - q) / q of its area. That part lies
anywhere in the object, so it moves the centroid by that share times a distance drawn from the mask's own spread. Ends
are off by a multiple of the same, the axis by the angle that this makes across the mask's length.

The factors are calibrated on rendered scenes, test/benchmarks/geometry_coverage.py: docs/geometry.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.boundary import Boundary
from sam2s_ros.tracking.geometry import TIP_DEPTH_PX, MaskGeometry

PIXEL_VARIANCE = 1.0 / 12.0
"""Of a place rounded to whole pixels, px^2."""
LEAST_IOU = 0.05


@dataclass(frozen=True)
class GeometryModel:
    """The calibrated factors of the model above. The bundled weights' own; recalibrate for others."""

    scale: float = 1.0
    """On all standard deviations."""
    boundary_correlation: float = 0.6
    """Length of boundary that errs together; image diagonals."""
    centroid_part: float = 2.0
    tip_part: float = 8.0
    box_part: float = 4.5
    axis_part: float = 1.0
    """On the deviation that the part in doubt gives each measure."""


def with_uncertainty(
    geometry: MaskGeometry,
    boundary: Boundary,
    iou: NDArray[np.float32],
    image_size: tuple[int, int],
    model: GeometryModel,
) -> MaskGeometry:
    """The measures of N masks with their (co)variances; `boundary` of their logits, `iou` [N] as predicted.

    NaN where the measure is, or where the mask has no boundary in the image.
    """
    share = 1 / np.clip(iou.astype(np.float64), LEAST_IOU, 1.0) - 1
    part = (share**2)[:, None, None] * geometry.spread.astype(np.float64)
    known = (np.bincount(boundary.rows, minlength=boundary.count) > 0) & np.isfinite(geometry.area)
    length = model.boundary_correlation * float(np.hypot(*image_size))
    area = np.where(known, geometry.area, np.nan).astype(np.float64)
    variances, factor = boundary.deviations**2, model.scale**2

    centred = boundary.points - geometry.centroid[boundary.rows]
    weights = boundary.lengths * variances
    moved = boundary.moments(weights, centred) * (length / area**2)[:, None, None]
    centroid = factor * (moved + model.centroid_part**2 * part)

    tip = factor * (_at_tip(geometry, boundary, variances) + model.tip_part**2 * part)
    sides = _at_sides(geometry, boundary, variances, image_size)
    across_sides = np.diagonal(part, axis1=1, axis2=2)[:, [0, 1, 0, 1]]
    box = factor * (sides + model.box_part**2 * across_sides)
    angle = factor * _of_angle(geometry, boundary, centred, weights, length, share * model.axis_part)
    return replace(
        geometry,
        centroid_covariance=centroid.astype(np.float32),
        tip_covariance=np.where(known[:, None, None], tip, np.nan).astype(np.float32),
        box_variance=np.where(known[:, None], box, np.nan).astype(np.float32),
        axis_angle_variance=np.where(known, angle, np.nan).astype(np.float32),
    )


def with_subpixel_box(
    geometry: MaskGeometry, boundary: Boundary, image_size: tuple[int, int], given: NDArray[np.bool_]
) -> MaskGeometry:
    """The boxes [N, 4] moved, by at most half a pixel, to where the logits change sign.

    Half a pixel outside of the outermost pixels' centres the mask ends: there a box made of pixels and one made of
    logits agree. Sides at the image's border, and boxes of masks that were `given` [N], stay.
    """
    box = geometry.box.astype(np.float64)
    for side, sign in enumerate((-1, -1, 1, 1)):
        outermost = np.full(boundary.count, -np.inf)
        np.maximum.at(outermost, boundary.rows, sign * boundary.points[:, side % 2])
        moved = np.clip(sign * outermost - sign * 0.5, box[:, side] - 0.5, box[:, side] + 0.5)
        stays = given | ~np.isfinite(outermost) | _at_border(box, side, image_size)
        box[:, side] = np.where(stays, box[:, side], moved)
    return replace(geometry, box=box.astype(np.float32))


def _at_border(box: NDArray[np.float64], side: int, image_size: tuple[int, int]) -> NDArray[np.bool_]:
    last = (image_size[1] - 1, image_size[0] - 1)[side % 2]
    return np.asarray(box[:, side] <= 0 if side < 2 else box[:, side] >= last)


def _at_tip(
    geometry: MaskGeometry, boundary: Boundary, variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covariance [N, 2, 2] of the tip: of the boundary there, and of which place of it is the outermost."""
    axis = geometry.axis.astype(np.float64)[boundary.rows]
    offsets = boundary.points - geometry.tip[boundary.rows]
    behind = -np.einsum("ki,ki->k", offsets, axis)
    near = behind <= TIP_DEPTH_PX + np.sqrt(variances)
    weights = np.where(near & np.isfinite(behind), boundary.lengths, 0.0)
    total = np.maximum(boundary.total(weights), 1e-9)
    offsets = np.where(np.isfinite(offsets), offsets, 0.0)
    mean = np.stack([boundary.total(weights * one) / total for one in offsets.T], axis=1)
    spread = boundary.moments(weights / total[boundary.rows], offsets - mean[boundary.rows])
    of_place = boundary.total(weights * variances) / total
    known = np.where(np.isfinite(geometry.tip[:, 0]), PIXEL_VARIANCE + of_place, np.nan)
    return np.asarray(spread + known[:, None, None] * np.eye(2))


def _at_sides(
    geometry: MaskGeometry, boundary: Boundary, variances: NDArray[np.float64], image_size: tuple[int, int]
) -> NDArray[np.float64]:
    """Variance [N, 4] of each side of the box: of the boundary within a deviation of it."""
    box = geometry.box.astype(np.float64)
    result = np.empty((boundary.count, 4))
    for side, sign in enumerate((-1, -1, 1, 1)):
        inside = sign * (box[boundary.rows, side] - boundary.points[:, side % 2])
        weights = np.where(inside <= 1 + np.sqrt(variances), boundary.lengths, 0.0)
        weights[_at_border(box, side, image_size)[boundary.rows]] = 0.0
        total = np.maximum(boundary.total(weights), 1e-9)
        result[:, side] = PIXEL_VARIANCE + boundary.total(weights * variances) / total
    return result


def _of_angle(
    geometry: MaskGeometry,
    boundary: Boundary,
    centred: NDArray[np.float64],
    weights: NDArray[np.float64],
    length: float,
    share: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Variance [N] of the axis's direction; no more than that of one that may point anywhere."""
    axis = geometry.axis.astype(np.float64)
    spread = geometry.spread.astype(np.float64)
    along = np.einsum("ni,nij,nj->n", axis, spread, axis)
    across = np.trace(spread, axis1=1, axis2=2) - along
    u, v = (np.einsum("ki,ki->k", centred, one[boundary.rows]) for one in (axis, axis[:, ::-1] * (-1, 1)))
    moved = boundary.total(np.nan_to_num(weights * u**2 * v**2))
    difference = geometry.area.astype(np.float64) * np.maximum(along - across, 1e-9)
    variance = length * moved / difference**2 + share**2 * across / np.maximum(along, 1e-9)
    return np.asarray(np.minimum(variance, np.pi**2 / 12))
