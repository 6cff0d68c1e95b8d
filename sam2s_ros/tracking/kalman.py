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
    seconds: NDArray[np.float64],
    points: NDArray[np.float64],
    covariance: NDArray[np.float64],
    acceleration: float,
    speed_deviation: float,
) -> PointStates:
    """The filters `seconds` [N] later, above 0, where the points [N, 2] with covariance [N, 2, 2] were measured.

    One whose point has jumped (`GATE`) begins anew. `acceleration`: px/s^2 over one second.
    """
    move = np.tile(np.eye(4), (len(seconds), 1, 1))
    move[:, [0, 1], [2, 3]] = seconds[:, None]
    noise = np.zeros_like(move)
    for axis in (0, 1):
        noise[:, axis, axis] = seconds**3 / 3
        noise[:, axis, axis + 2] = noise[:, axis + 2, axis] = seconds**2 / 2
        noise[:, axis + 2, axis + 2] = seconds
    predicted = np.einsum("nij,nj->ni", move, states.state)
    spread = move @ states.covariance @ move.transpose(0, 2, 1) + acceleration**2 * noise
    innovation = points - predicted[:, :2]
    expected = spread[:, :2, :2] + covariance
    precision = np.linalg.inv(expected)
    gain = spread[:, :, :2] @ precision
    distance = np.einsum("ni,nij,nj->n", innovation, precision, innovation)
    keep = np.eye(4) - np.concatenate([gain, np.zeros_like(gain)], axis=2)
    updated = keep @ spread @ keep.transpose(0, 2, 1) + gain @ covariance @ gain.transpose(0, 2, 1)
    state = predicted + np.einsum("nij,nj->ni", gain, innovation)
    fresh = begin(points, covariance, speed_deviation)
    jumped = distance > GATE
    return PointStates(
        np.where(jumped[:, None], fresh.state, state),
        np.where(jumped[:, None, None], fresh.covariance, updated),
        np.where(jumped, 1, states.updates + 1),
    )
