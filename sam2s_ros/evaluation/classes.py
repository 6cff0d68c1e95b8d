"""How often the class that a tracker gives an object is right, on frames that show the object.

An object takes part when its name in the ground truth, less a number as in "grasper 2", is one of the classes that the
tracker knows. A frame on which nothing is said counts as wrong. Chance is one of the K classes, whichever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam2s_ros.evaluation.scoring import ObjectScore


def class_of(name: str) -> str:
    """Class of an object by its name: "grasper 2" is a grasper."""
    head, _, tail = name.rpartition(" ")
    return head if head and tail.isdecimal() else name


def object_class_accuracy(score: ObjectScore, classes: Sequence[str]) -> float | None:
    """Share of the scored frames that show the object on which its class is right; None where that cannot be judged."""
    expected = class_of(score.name)
    scored = score.scored_frames(present_only=True)
    if expected not in classes or not scored.any():
        return None
    right = np.array([said == expected for said in score.said_classes])
    return float(right[scored].mean())
