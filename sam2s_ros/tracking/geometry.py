"""Measures of a mask that a robot can use: where it is, where it points, where it ends.

Coordinates are image pixels, whole numbers being pixel centres. What cannot be told is NaN, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.runs import MaskRuns

TIP_DEPTH_PX = 1.0
"""The tip is the mean of the pixels within this distance of the outermost one along the axis."""
ROUNDING_PX = 1e-9
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


def measure(runs: MaskRuns) -> MaskGeometry:
    """Geometry of N masks; how sure it is stays unknown."""
    geometry = MaskGeometry.unknown(runs.count)
    known = np.flatnonzero(np.diff(runs.starts))
    if len(known) == 0:
        return geometry
    pixels = _Pixels(runs, known)
    x, y, length = pixels.x, pixels.middle, pixels.length
    area, *first_moments = pixels.totals(length, length * x, length * y)
    centre = np.stack(first_moments, axis=1) / area[:, None]
    dx, dy = x - centre[pixels.of, 0], y - centre[pixels.of, 1]
    within = (length**3 - length) / 12  # of a run's pixels about its own middle
    xx, xy, yy = pixels.totals(length * dx * dx, length * dx * dy, length * dy * dy + within) / area
    geometry.area[known], geometry.centroid[known] = area, centre
    geometry.box[known] = pixels.box()
    geometry.spread[known] = np.stack((xx, xy, xy, yy), axis=1).reshape(-1, 2, 2)
    axis = pixels.towards_tip(principal_axes(xx, xy, yy), centre)
    geometry.axis[known] = axis
    geometry.axis_length[known], geometry.tip[known] = pixels.ends(axis)
    return geometry


def principal_axes(
    variance_x: NDArray[np.float64], covariance: NDArray[np.float64], variance_y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Unit vectors [N, 2] of the larger variance; NaN where the two hardly differ. A pixel's own extent counts
    too."""
    pixel = 1.0 / 12.0
    matrices = np.stack((variance_x + pixel, covariance, covariance, variance_y + pixel), axis=1)
    values, vectors = np.linalg.eigh(matrices.reshape(-1, 2, 2))
    long = values[:, 1] >= MIN_ELONGATION**2 * values[:, 0]
    return np.where(long[:, None], vectors[:, :, 1], np.nan)


class _Pixels:
    """The pixels of N masks that are not empty, as K runs: sums, and least and most of each mask.

    Sums, and no matrix products: those of ragged masks are large enough for threads of the BLAS library, which then
    wait actively beside the engine's.
    """

    def __init__(self, runs: MaskRuns, known: NDArray[np.intp]) -> None:
        """`known` [N]: those of the runs' masks that are not empty."""
        self._size, self._begins = runs.image_size, runs.starts[known]
        self.of = np.repeat(np.arange(len(known)), np.diff(runs.starts)[known])
        """[K] which mask."""
        self.x = runs.x.astype(np.float64)
        self._top, self._last = runs.top.astype(np.float64), runs.bottom - 1.0
        self.length = self._last - self._top + 1
        self.middle = (self._top + self._last) / 2

    def totals(self, *values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums [V, N] of values [K] over the runs of each mask."""
        return np.asarray(np.add.reduceat(np.stack(values), self._begins, axis=1))

    def box(self) -> NDArray[np.float64]:
        """x0, y0, x1, y1 [N, 4] of the outermost pixels."""
        least = np.minimum.reduceat(np.stack((self.x, self._top)), self._begins, axis=1)
        most = np.maximum.reduceat(np.stack((self.x, self._last)), self._begins, axis=1)
        return np.concatenate((least, most)).T

    def towards_tip(self, axis: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
        """The axes [N, 2] turned so that they point from where the object enters the image towards its free end.

        Where its pixels touch the border, it enters there. Where none does, the end nearer to the border counts as the
        entry, as for an endoscope's round image.
        """
        height, width = self._size
        side = (self.x == 0) | (self.x == width - 1)
        above, below = ~side & (self._top == 0), ~side & (self._last == height - 1)
        pixels = np.where(side, self.length, above.astype(np.float64) + below)
        rows = np.where(side, self.length * self.middle, below * self._last)
        touching, x, y = self.totals(pixels, pixels * self.x, rows)
        entry = np.stack((x, y), axis=1) / np.maximum(touching, 1)[:, None]
        forward = ((centre - entry) * axis).sum(axis=1)
        if not touching.all():
            with np.errstate(invalid="ignore"):  # of masks without an axis
                free = self._end_to_border(axis) - self._end_to_border(-axis)
            forward = np.where(touching > 0, forward, free)
        return np.where((forward >= 0)[:, None], axis, -axis)

    def ends(self, axis: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Length [N] between the outermost pixel centres along the axes [N, 2], and the tip [N, 2] at their end."""
        reach = self._reach(axis)
        far = self._most(reach)
        along_x, along_y = axis[self.of].T
        least = far[self.of] - TIP_DEPTH_PX - ROUNDING_PX - along_x * self.x
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = least / along_y
        first = np.where(along_y > 0, np.clip(np.ceil(bound), self._top, self._last + 1), self._top)
        last = np.where(along_y < 0, np.clip(np.floor(bound), self._top - 1, self._last), self._last)
        pixels = np.where((along_y == 0) & (least > 0), 0, last - first + 1)
        count, x, y = self.totals(pixels, pixels * self.x, pixels * (first + last) / 2)
        tip = np.where(np.isfinite(axis), np.stack((x, y), axis=1) / count[:, None], np.nan)
        return far + self._most(-reach), tip

    def _reach(self, axis: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far the first and the last pixel of each run lie along the axes [N, 2]: [2, K]."""
        along_x, along_y = axis[self.of].T
        return along_x * self.x + along_y * np.stack((self._top, self._last))

    def _most(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Largest [N] of the values [2, K] of each mask."""
        return np.asarray(np.maximum.reduceat(values.max(axis=0), self._begins))

    def _end_to_border(self, axis: NDArray[np.float64]) -> NDArray[np.float64]:
        """How near to the border [N] the outermost pixel along each axis [N, 2] lies."""
        reach = self._reach(axis)
        y, (height, width) = np.stack((self._top, self._last)), self._size
        to_border = np.minimum(np.minimum(y, height - 1 - y), np.minimum(self.x, width - 1 - self.x))
        return -self._most(np.where(reach == self._most(reach)[self.of], -to_border, -np.inf))
