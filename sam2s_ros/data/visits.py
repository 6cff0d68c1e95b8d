"""Instruments that come and go: each visit is an instrument whose path starts and ends outside the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam2s_ros.data.arrays import FloatArray
from sam2s_ros.data.instrument_parts import InstrumentDesign
from sam2s_ros.data.instruments import (
    LOG_SCALE,
    OPENING,
    PITCH,
    ROLL,
    TIP_X,
    TIP_Y,
    Instrument,
    random_shadow,
)
from sam2s_ros.data.motion import Trajectory
from sam2s_ros.data.schedule import Visit


@dataclass(frozen=True)
class VisitingInstrument:
    """One instrument of a long surgery, the same body in each of its visits."""

    name: str
    visits: tuple[tuple[Visit, Instrument], ...]  # in temporal order

    def at(self, time: float) -> Instrument | None:
        """The instrument as it moves in the visit at a time, None between visits."""
        for visit, instrument in self.visits:
            if visit.start <= time <= visit.end:
                return instrument
        return None


@dataclass(frozen=True)
class Trocar:
    """Where instruments come in: a direction from the image's centre, and how far outside they turn about."""

    angle: float  # radians
    depth: float  # world units behind the place where a retracted instrument rests


def visiting_instrument(
    rng: np.random.Generator,
    design: InstrumentDesign,
    visits: list[Visit],
    trocars: tuple[Trocar, ...],
    aspect: float,
    diameter: float,
    pace: float,
) -> VisitingInstrument:
    """An instrument that works in the image during its visits and is outside at other times.

    diameter: of the shaft, world units. pace: 1 is normal, more is faster.
    """
    taper = float(rng.uniform(0.0, 0.6))
    shadow = random_shadow(rng, diameter) if rng.random() < 0.75 else None
    blur_s = float(rng.choice([0.0, rng.uniform(0.005, 0.03)]))
    parts = []
    for visit in visits:
        trocar = trocars[visit.port]
        outside, pivot = _rest_and_pivot(trocar, design, aspect, diameter)
        path = _visit_path(rng, visit, outside, aspect, pace)
        parts.append((visit, Instrument(design, path, pivot, diameter, taper, shadow, blur_s, False)))
    return VisitingInstrument(design.kind, tuple(parts))


def _rest_and_pivot(
    trocar: Trocar, design: InstrumentDesign, aspect: float, diameter: float
) -> tuple[FloatArray, FloatArray]:
    """Where the wrist's base is when the tip is just out of view, and the pivot behind it, world points [2]."""
    direction = np.array([np.cos(trocar.angle), np.sin(trocar.angle)], np.float32)
    to_border = float(np.min(np.array([aspect / 2, 0.5]) / np.maximum(np.abs(direction), 1e-6)))
    reach = (sum(design.wrist_lengths) + design.jaw_length + 0.6) * diameter * 1.5
    centre = np.array([aspect / 2, 0.5], np.float32)
    # A tip that leaves aslant needs more room than its length along the trocar's direction.
    outside = centre + (to_border + 1.15 * reach) * direction
    return outside, (outside + trocar.depth * direction).astype(np.float32)


def _visit_path(
    rng: np.random.Generator, visit: Visit, outside: FloatArray, aspect: float, pace: float
) -> Trajectory:
    """Come in, work, rest, cross over now and then, and go, as a path [7]."""
    centre = np.array([aspect / 2, 0.5], np.float32)
    first = np.zeros(7, np.float32)
    first[:2] = outside
    first[ROLL:OPENING] = rng.uniform([-np.pi, -1.0, -1.0], [np.pi, 1.0, 1.0])
    values, times = [first], [visit.start]
    work = first.copy()
    home = centre + 0.25 * (outside - centre) + rng.normal(0.0, 0.1, 2)
    work[:2] = _inside(home, aspect)
    work[LOG_SCALE] = rng.normal(0.0, 0.12)
    work[OPENING] = rng.random()
    values.append(work)
    times.append(visit.start + float(rng.uniform(0.5, 1.2)))
    retreat = float(rng.uniform(0.4, 1.0))
    while True:
        step_s = float(rng.uniform(0.3, 1.8)) / pace
        if times[-1] + step_s > visit.end - retreat:
            break
        values.append(_next_move(rng, values[-1], home, centre, aspect))
        times.append(times[-1] + step_s)
    last = values[-1].copy()
    last[:2] = outside
    last[OPENING] = 0.0
    values.extend([values[-1], last])
    times.extend([max(visit.end - retreat, times[-1] + 0.05), visit.end])
    amplitude = np.array([0.004, 0.004, 0.01, 0.03, 0.05, 0.05, 0.02]) * rng.uniform(0.0, 1.0, (2, 7))
    return Trajectory(
        times=np.asarray(times, np.float32),
        values=np.stack(values).astype(np.float32),
        wobble=amplitude.astype(np.float32),
        frequency=rng.uniform(0.5, 8.0, (2, 7)).astype(np.float32),
        phase=rng.uniform(0.0, 2.0 * np.pi, (2, 7)).astype(np.float32),
    )


def _next_move(
    rng: np.random.Generator, previous: FloatArray, home: FloatArray, centre: FloatArray, aspect: float
) -> FloatArray:
    value = previous.copy()
    if rng.random() < 0.3:  # rest, but for the jaws
        value[OPENING] = rng.choice([0.0, 1.0])
        return value
    around = home
    if rng.random() < 0.2:  # reach over to the other side
        around = centre - 0.6 * (home - centre)
    elif rng.random() < 0.3:  # where the others work
        around = centre
    value[:2] = _inside(around + rng.normal(0.0, 0.11, 2), aspect)
    value[LOG_SCALE] = np.clip(0.7 * previous[LOG_SCALE] + rng.normal(0.0, 0.12), -0.4, 0.4)
    value[ROLL] = previous[ROLL] + rng.normal(0.0, 0.5)
    value[PITCH:OPENING] = np.clip(0.5 * previous[PITCH:OPENING] + rng.normal(0.0, 0.5, 2), -1, 1)
    value[OPENING] = rng.choice([0.0, 1.0, rng.random()], p=[0.4, 0.2, 0.4])
    return value


def _inside(point: FloatArray, aspect: float) -> FloatArray:
    low, high = np.array([0.12 * aspect, 0.12]), np.array([0.88 * aspect, 0.88])
    return np.clip(point[[TIP_X, TIP_Y]], low, high).astype(np.float32)
