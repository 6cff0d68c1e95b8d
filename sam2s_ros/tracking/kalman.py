"""Velocities of points: a Kalman filter of constant velocity for each, batched, fed by stamps.

The acceleration is white noise (Bar-Shalom, Li, Kirubarajan, "Estimation with Applications to Tracking and
Navigation", section 6.2.2), of a standard deviation over one second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GATE = 25.0
"""Squared Mahalanobis distance of a point from its prediction above which the point has jumped and the filter begins
anew: 4e-6 of the chi-squared distribution of 2 degrees of freedom."""

_PLACE, _RATE = np.diag([1.0, 1.0, 0.0, 0.0]), np.diag([0.0, 0.0, 1.0, 1.0])
_BOTH = np.eye(4, k=2) + np.eye(4, k=-2)
"""Where in the noise [4, 4] the variances of places and rates and their covariances stand."""


@dataclass(frozen=True)
class PointStates:
    """N points: `state` [N, 4] x, y px and their rates px/s; `covariance` [N, 4, 4]; `updates` [N] measurements."""

    state: NDArray[np.float64]
    covariance: NDArray[np.float64]
    updates: NDArray[np.int64]

    def velocity(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Velocity [N, 2] and covariance [N, 2, 2]; NaN before the second measurement."""
        unknown = self.updates < 2
        velocity, covariance = self.state[:, 2:].copy(), self.covariance[:, 2:, 2:].copy()
        velocity[unknown], covariance[unknown] = np.nan, np.nan
        return velocity, covariance


def begin(
    points: NDArray[np.float64], covariance: NDArray[np.float64], speed_deviation: float
) -> PointStates:
    """Filters that begin at points [N, 2] with covariance [N, 2, 2], of unknown velocity; `speed_deviation` px/s."""
    state = np.concatenate([points, np.zeros_like(points)], axis=1)
    spread = np.zeros((len(points), 4, 4))
    spread[:, :2, :2] = covariance
    spread[:, 2:, 2:] = speed_deviation**2 * np.eye(2)
    return PointStates(state, spread, np.ones(len(points), dtype=np.int64))


def advance(
    states: PointStates,
    seconds: float,
    points: NDArray[np.float64],
    covariance: NDArray[np.float64],
    acceleration: float,
    fresh: PointStates,
) -> PointStates:
    """The filters `seconds` later, above 0, where the points [N, 2] with covariance [N, 2, 2] were measured.

    One whose point has jumped (`GATE`) begins anew, as in `fresh`. `acceleration`: px/s^2 over one second.
    """
    move = np.eye(4)
    move[[0, 1], [2, 3]] = seconds
    noise = acceleration**2 * (seconds**3 / 3 * _PLACE + seconds**2 / 2 * _BOTH + seconds * _RATE)
    predicted = states.state @ move.T
    spread = move @ states.covariance @ move.T + noise
    innovation = (points - predicted[:, :2])[:, :, None]
    precision = np.linalg.inv(spread[:, :2, :2] + covariance)
    gain = spread[:, :, :2] @ precision
    distance = (innovation * (precision @ innovation)).sum(axis=(1, 2))
    keep = np.tile(np.eye(4), (len(points), 1, 1))
    keep[:, :, :2] -= gain
    updated = keep @ spread @ keep.transpose(0, 2, 1) + gain @ covariance @ gain.transpose(0, 2, 1)
    state = predicted + (gain @ innovation)[:, :, 0]
    jumped = distance > GATE
    return PointStates(
        np.where(jumped[:, None], fresh.state, state),
        np.where(jumped[:, None, None], fresh.covariance, updated),
        np.where(jumped, 1, states.updates + 1),
    )
