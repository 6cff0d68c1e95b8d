"""Velocities of the objects of a stream, kept from frame to frame by id."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.kalman import PointStates, advance, begin
from sam2s_ros.tracking.result import FrameResult

MAX_SPEED = 2.0
"""Standard deviation of the speed with which an object comes into view; image diagonals per second."""


@dataclass(frozen=True)
class _Followed:
    """The filters of centroids and tips, N of each, after the frame of `stamp_ns`."""

    stamp_ns: int
    ids: NDArray[np.uint32]
    points: NDArray[np.float64]
    """[N, 2, 2] centroid and tip as measured; NaN where there was none."""
    filters: PointStates
    """2N, centroid and tip of each object."""


class Kinematics:
    """Follows centroids and tips through a stream; what it keeps does not grow with it.

    The filter gives velocities. Centroid and tip stay those of the mask unless `config.smooth_geometry` is set. A
    filter begins anew, and the velocity is NaN for one frame, where an object comes into view or was corrected by a
    prompt, where its centroid jumps (`kalman.GATE`), after a gap of more than `velocity_gap_s`, and where stamps go
    back or stand still. On an image that shows nothing to learn from no velocity is known: a frozen one would say that
    all stands still.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self._config = config
        self._last: _Followed | None = None
        self._before: _Followed | None = None

    def reset(self) -> None:
        """Forget all objects."""
        self._last = self._before = None

    def follow(self, result: FrameResult) -> FrameResult:
        """The result with velocities. The same frame may come again, as after a prompt: it is then judged from the
        frame before it."""
        last = self._last
        before = self._before if last is not None and result.stamp_ns == last.stamp_ns else last
        self._before, self._last = before, None
        if not result.condition.usable or result.needs_reset:
            return result
        now = self._followed(result, before, last)
        self._last = now
        velocity, covariance = now.filters.velocity()
        result = replace(
            result,
            velocity=velocity[::2].astype(np.float32),
            velocity_covariance=covariance[::2].astype(np.float32),
        )
        return self._smoothed(result, now.filters) if self._config.smooth_geometry else result

    def _followed(self, result: FrameResult, before: _Followed | None, last: _Followed | None) -> _Followed:
        geometry = result.geometry
        points = np.stack([geometry.centroid, geometry.tip], axis=1).astype(np.float64)
        spread = np.stack([geometry.centroid_covariance, geometry.tip_covariance], axis=1).astype(np.float64)
        flat, covariance = points.reshape(-1, 2), spread.reshape(-1, 2, 2)
        diagonal = float(np.hypot(*result.image_size))
        fresh = begin(flat, covariance, MAX_SPEED * diagonal)
        if before is None or len(result.ids) == 0 or len(before.ids) == 0:
            return _Followed(result.stamp_ns, result.ids, points, fresh)
        where = np.minimum(np.searchsorted(before.ids, result.ids), len(before.ids) - 1)
        goes_on = before.ids[where] == result.ids
        seconds = (result.stamp_ns - before.stamp_ns) * 1e-9
        goes_on &= 0 < seconds <= self._config.velocity_gap_s
        if last is not None and last is not before and last.stamp_ns == result.stamp_ns:
            goes_on &= ~_corrected(result.ids, points, last)
        rows = (2 * where[:, None] + np.arange(2)).ravel()
        old = PointStates(
            *(getattr(before.filters, name)[rows] for name in ("state", "covariance", "updates"))
        )
        acceleration = self._config.acceleration * diagonal
        moved = advance(old, max(seconds, 1e-9), flat, covariance, acceleration, fresh)
        usable = np.repeat(goes_on, 2) & np.isfinite(old.state).all(axis=1)
        mixed = PointStates(
            np.where(usable[:, None], moved.state, fresh.state),
            np.where(usable[:, None, None], moved.covariance, fresh.covariance),
            np.where(usable, moved.updates, 1),
        )
        return _Followed(result.stamp_ns, result.ids, points, mixed)

    def _smoothed(self, result: FrameResult, filters: PointStates) -> FrameResult:
        places = filters.state[:, :2].astype(np.float32)
        spread = filters.covariance[:, :2, :2].astype(np.float32)
        geometry = replace(
            result.geometry,
            centroid=places[::2],
            tip=places[1::2],
            centroid_covariance=spread[::2],
            tip_covariance=spread[1::2],
        )
        return replace(result, geometry=geometry)


def _corrected(ids: NDArray[np.uint32], points: NDArray[np.float64], shown: _Followed) -> NDArray[np.bool_]:
    """Which objects [N] are elsewhere on the same frame than when it was shown before."""
    if len(shown.ids) == 0:
        return np.ones(len(ids), dtype=np.bool_)
    where = np.minimum(np.searchsorted(shown.ids, ids), len(shown.ids) - 1)
    same = np.isclose(points[:, 0], shown.points[where][:, 0], equal_nan=True).all(axis=1)
    return np.asarray(~same | (shown.ids[where] != ids))
