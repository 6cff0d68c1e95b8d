"""Measures of a mask that a robot can use: where it is, where it points, where it ends.

Coordinates are image pixels, whole numbers being pixel centres. What cannot be told is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.masks import Window
from sam2s_ros.tracking.rle import column_runs

TIP_DEPTH_PX = 1.0
"""The tip is the mean of the contour within this distance of the outermost point along the axis."""
MIN_ELONGATION = 1.05
"""Ratio of the principal standard deviations below which a mask has no axis."""


@dataclass(frozen=True)
class MaskGeometry:
    """Measures of N masks, float32, all NaN for an empty mask.

    centroid [N, 2] x, y; box [N, 4] x0, y0, x1, y1, where the outermost pixels of a mask of those edges would have
    their centres; area [N] in px; axis [N, 2] unit vector along the mask, towards the tip (NaN for a mask about as wide
    as long); axis_length [N] px between the outermost pixel centres along it; tip [N, 2] x, y, the end of the mask
    along its axis that lies away from where it enters the image; spread [N, 2, 2] px^2, covariance of its pixels.

    How far the true values may be off (`geometry_uncertainty`): centroid_covariance and tip_covariance [N, 2, 2] px^2,
    box_variance [N, 4] px^2, axis_angle_variance [N] rad^2.
    """

    centroid: NDArray[np.float32]
    tip: NDArray[np.float32]
    axis: NDArray[np.float32]
    axis_length: NDArray[np.float32]
    box: NDArray[np.float32]
    area: NDArray[np.float32]
    spread: NDArray[np.float32]
    centroid_covariance: NDArray[np.float32]
    tip_covariance: NDArray[np.float32]
    box_variance: NDArray[np.float32]
    axis_angle_variance: NDArray[np.float32]

    @classmethod
    def unknown(cls, count: int) -> MaskGeometry:
        """All NaN."""
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(("centroid", "tip", "axis"), (count, 2)),
            **dict.fromkeys(("spread", "centroid_covariance", "tip_covariance"), (count, 2, 2)),
            **dict.fromkeys(("box", "box_variance"), (count, 4)),
            **dict.fromkeys(("area", "axis_length", "axis_angle_variance"), (count,)),
        }
        return cls(
            **{field.name: np.full(shapes[field.name], np.nan, dtype=np.float32) for field in fields(cls)}
        )


def measure(masks: NDArray[np.bool_], windows: Sequence[Window]) -> MaskGeometry:
    """Geometry of masks bool [N, H, W], each empty outside of its window; how sure it is stays unknown."""
    geometry = MaskGeometry.unknown(len(masks))
    for index, (mask, (y0, y1, x0, x1)) in enumerate(zip(masks, windows, strict=True)):
        crop = np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8)
        if crop.size and crop.any():
            _measure_one(geometry, index, crop, np.array([x0, y0], dtype=np.float64), mask.shape)
    return geometry


def _measure_one(
    geometry: MaskGeometry,
    index: int,
    crop: NDArray[np.uint8],
    origin: NDArray[np.float64],
    image_size: tuple[int, ...],
) -> None:
    x, top, bottom = column_runs(crop.view(np.bool_))
    length = (bottom - top).astype(np.float64)
    area = length.sum()
    middle = np.stack((x, (top + bottom - 1) / 2))
    # Sums, and no matrix products: those of a ragged mask are large enough for threads of the BLAS library, which then
    # wait actively beside the engine's.
    centre = (length * middle).sum(axis=1) / area
    aside = middle - centre[:, None]
    geometry.area[index] = area
    geometry.centroid[index] = centroid = centre + origin
    geometry.box[index] = [*(origin + (x[0], top.min())), *(origin + (x[-1], bottom.max() - 1))]
    xx, yy, xy = (length * aside[[0, 1, 0]] * aside[[0, 1, 1]]).sum(axis=1) / area
    yy += (length**3 - length).sum() / (12 * area)  # of a run's pixels about its own middle
    geometry.spread[index] = [[xx, xy], [xy, yy]]
    axis = principal_axis(xx, xy, yy)
    if axis is None:
        return
    outline = _outline(crop) + origin
    axis = point_away_from_entry(outline, centroid, axis, image_size)
    reach = (outline * axis).sum(axis=1)
    geometry.axis[index] = axis
    geometry.axis_length[index] = reach.max() - reach.min()
    geometry.tip[index] = outline[reach >= reach.max() - TIP_DEPTH_PX].mean(axis=0)


def principal_axis(variance_x: float, covariance: float, variance_y: float) -> NDArray[np.float64] | None:
    """Unit vector of the larger variance; None where the two hardly differ. A pixel's own extent counts
    too."""
    pixel = 1.0 / 12.0
    values, vectors = np.linalg.eigh([[variance_x + pixel, covariance], [covariance, variance_y + pixel]])
    if values[1] < MIN_ELONGATION**2 * values[0]:
        return None
    return np.asarray(vectors[:, 1])


def point_away_from_entry(
    outline: NDArray[np.float64],
    centroid: NDArray[np.float64],
    axis: NDArray[np.float64],
    image_size: tuple[int, ...],
) -> NDArray[np.float64]:
    """The axis turned so that it points from where the object enters the image towards its free end.

    Where the outline touches the border, it enters there. Where it does not touch, the end nearer to the
    border counts as the entry, as for an endoscope's round image.
    """
    bounds = np.array([image_size[1] - 1, image_size[0] - 1])
    to_border = np.minimum(outline, bounds - outline).min(axis=1)
    touching = to_border <= 0
    if touching.any():
        forward = (centroid - outline[touching].mean(axis=0)) @ axis
    else:
        reach = (outline * axis).sum(axis=1)
        forward = to_border[np.argmax(reach)] - to_border[np.argmin(reach)]
    return axis if forward >= 0 else -axis


def _outline(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Outer contour pixels of all components, [K, 2] x, y."""
    contours, _ = cv2.findContours(crop, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.concatenate([np.asarray(contour)[:, 0] for contour in contours]).astype(np.float64)
