"""Runs of frames on which an object's published mask was wrong: what a reader should look at first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WRONG_IOU = 0.5
"""A mask of an object in view is wrong below this IoU."""
MIN_FRAMES = 3
"""A failure lasts at least so many scored frames."""
KINDS = {
    "wrong": "in view, and the mask's IoU is below 0.5",
    "missing": "in view, and there is no mask",
    "false mask": "out of view, and there is a mask",
}


@dataclass(frozen=True)
class Failure:
    """One run of frames of one object."""

    kind: str
    """One of KINDS."""
    first_frame: int
    last_frame: int
    frames: int
    """Scored frames of the run; those without ground truth are left out."""
    mean_j: float
    said_tracking: int | None
    """Frames of the run on which the state was TRACKING: it failed and did not say so. None without states."""
    states: dict[str, int]


def find_failures(
    frame: NDArray[np.int64],
    j: NDArray[np.float64],
    present: NDArray[np.bool_],
    predicted_px: NDArray[np.int64],
    states: NDArray[np.object_],
) -> Iterator[Failure]:
    """Failures of one object in the order of frames, given its scored frames [T]."""
    masked = predicted_px > 0
    kinds = np.select(
        [present & ~masked, present & (j < WRONG_IOU), ~present & masked],
        ["missing", "wrong", "false mask"],
        "",
    )
    edges = np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
    for begin, end in zip([0, *edges], [*edges, len(kinds)], strict=True):
        if end - begin < MIN_FRAMES or kinds[begin] == "":
            continue
        said = Counter(str(state) for state in states[begin:end] if state)
        yield Failure(
            kind=str(kinds[begin]),
            first_frame=int(frame[begin]),
            last_frame=int(frame[end - 1]),
            frames=int(end - begin),
            mean_j=float(j[begin:end].mean()),
            said_tracking=said["TRACKING"] if said else None,
            states=dict(sorted(said.items())),
        )
