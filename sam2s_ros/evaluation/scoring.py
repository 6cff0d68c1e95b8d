"""Accuracy per frame, object and sequence, in percent.

An object is scored from the frame on which it was prompted to the last frame of its sequence. `prompted and
last frame left out` follows the semi-supervised convention of DAVIS 2017 and SA-V; both readings are kept.
Means are over frames per object, then over objects, whichever sequence they are from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Accuracy:
    """Region J, boundary F and their mean, each in percent."""

    j: float
    f: float

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2


@dataclass(frozen=True)
class ObjectScore:
    """One object of one sequence: fractions J and F [T], presence [T], the share of the image that its predicted mask
    covers [T] and the class it was given [T] ("" where none), from its first frame to the last of all.

    `j` and `f` are NaN on frames without ground truth.
    """

    name: str
    label: int
    first_frame: int
    j: NDArray[np.float64]
    f: NDArray[np.float64]
    present: NDArray[np.bool_]
    predicted_area: NDArray[np.float64]
    said_classes: tuple[str, ...] = ()

    def accuracy(self, *, present_only: bool, with_ends: bool = False) -> Accuracy | None:
        """Mean over the scored frames, None where there are none.

        present_only: only frames where the ground truth shows the object. with_ends: the prompted frame and
        the last one count too.
        """
        scored = self.scored_frames(present_only=present_only, with_ends=with_ends)
        if not scored.any():
            return None
        return Accuracy(100 * float(self.j[scored].mean()), 100 * float(self.f[scored].mean()))

    def scored_frames(self, *, present_only: bool, with_ends: bool = False) -> NDArray[np.bool_]:
        """Which of the T frames count, bool [T]."""
        scored = np.isfinite(self.j)
        if not with_ends:
            scored[[0, -1]] = False
        return scored & self.present if present_only else scored


@dataclass(frozen=True)
class SequenceScore:
    """The objects of one sequence as one tracker followed them."""

    sequence: str
    objects: tuple[ObjectScore, ...]
    classes: tuple[str, ...] = ()
    """Those that the tracker knows."""

    def accuracy(self, *, present_only: bool, with_ends: bool = False) -> Accuracy | None:
        """Mean over the objects that have such frames, None where no object has."""
        return mean_accuracy([self], present_only=present_only, with_ends=with_ends)


def mean_accuracy(
    scores: Iterable[SequenceScore], *, present_only: bool, with_ends: bool = False
) -> Accuracy | None:
    """Mean over all objects of all sequences, None where there is nothing to score."""
    objects = [score for sequence in scores for score in sequence.objects]
    found = [score.accuracy(present_only=present_only, with_ends=with_ends) for score in objects]
    values = [accuracy for accuracy in found if accuracy is not None]
    if not values:
        return None
    return Accuracy(
        float(np.mean([value.j for value in values])), float(np.mean([value.f for value in values]))
    )
