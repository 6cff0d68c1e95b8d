"""What happens to an object that leaves the view: is a mask published while it is away, and is it found again?

An absence is a run of frames whose ground truth does not show the object; frames without ground truth are left
out, as if the video did not have them. A reappearance is the first frame that shows the object after an absence of
at least N frames. It counts as re-identified when the published mask reaches the IoU asked for within the first k
frames from there on, as long as the object stays: on frames where it has left again, nothing can be found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.scoring import ObjectScore


@dataclass(frozen=True)
class ReturnRule:
    """What counts as a reappearance, and as finding the object again. ValueError names a setting out of range."""

    absent_frames: int = 25
    """N: frames that an object is away at least, for its return to count."""
    return_frames: int = 25
    """k: frames from its return on within which its mask must be right once."""
    min_iou: float = 0.5

    def __post_init__(self) -> None:
        for name in ("absent_frames", "return_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.min_iou <= 1:
            raise ValueError(f"min_iou must be above 0 and at most 1, not {self.min_iou}")


@dataclass(frozen=True)
class AbsenceScore:
    """Counts for one object."""

    reappearances: int
    reidentified: int
    absent_frames: int
    false_positive_frames: int
    """Absent frames on which a mask was published."""
    false_positive_area: float
    """Share of the image that those masks cover, summed over the absent frames."""

    @property
    def reidentified_share(self) -> float | None:
        """In percent; None when the object never reappeared."""
        return 100 * self.reidentified / self.reappearances if self.reappearances else None

    @property
    def false_positive_share(self) -> float | None:
        """Percent of the absent frames; None when the object was never absent."""
        return 100 * self.false_positive_frames / self.absent_frames if self.absent_frames else None

    @property
    def mean_area(self) -> float | None:
        """Percent of the image that is wrongly covered, mean over the absent frames; None when there are none."""
        return 100 * self.false_positive_area / self.absent_frames if self.absent_frames else None


def reappearances(present: NDArray[np.bool_], absent_frames: int) -> list[int]:
    """Frames on which an object is there after at least `absent_frames` without it, given present [T].

    An absence counts only after the object was there once.
    """
    shown = np.flatnonzero(present)
    gaps = np.diff(shown) - 1
    return [int(frame) for frame in shown[1:][gaps >= absent_frames]]


def reidentified(iou: NDArray[np.float64], present: NDArray[np.bool_], start: int, rule: ReturnRule) -> bool:
    """Whether an object that reappears on frame `start` is found again, given IoU and presence [T]."""
    window = slice(start, start + rule.return_frames)
    here = np.logical_and.accumulate(present[window])
    return bool((iou[window][here] >= rule.min_iou).any())


def absence_score(score: ObjectScore, rule: ReturnRule) -> AbsenceScore:
    """Counts for one object, from the frame it was prompted on to the last."""
    known = np.isfinite(score.j)
    iou, present, area = score.j[known], score.present[known], score.predicted_area[known]
    returns = reappearances(present, rule.absent_frames)
    return AbsenceScore(
        reappearances=len(returns),
        reidentified=sum(reidentified(iou, present, start, rule) for start in returns),
        absent_frames=int((~present).sum()),
        false_positive_frames=int((area[~present] > 0).sum()),
        false_positive_area=float(area[~present].sum()),
    )
