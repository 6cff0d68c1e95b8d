"""Interactive correction: after each pass over a video, one click on the worst frame of each object, then another pass.

The worst frame is the one with the lowest J&F that has no click of an earlier round; the click goes to the centre of
the larger error region there. Clicks of earlier rounds are given again as they were. Every pass goes over the whole
video with a fresh tracker, so memory does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sam2s_ros.evaluation.interface import MaskTracker, mask_of
from sam2s_ros.evaluation.prompts import correction_click
from sam2s_ros.evaluation.records import RecordReader
from sam2s_ros.evaluation.sequences import LabelledFrame

MAX_ROUNDS = 8


class Corrections:
    """The clicks given so far on one sequence, by frame and label value; None for one that is still to be placed."""

    def __init__(self, clicks: list[list[float]] | None = None) -> None:
        """`clicks`: as `document` gave them."""
        self._clicks: dict[tuple[int, int], tuple[Any, Any] | None] = {}
        for frame, label, x, y, sign in clicks or []:
            self._clicks[int(frame), int(label)] = (
                np.array([[x, y]], np.float32),
                np.array([sign], np.int32),
            )

    def document(self) -> list[list[float]]:
        """Frame, label value, x, y and sign (1 on the object, 0 beside it) of each click that was placed."""
        return [
            [frame, label, *click[0][0].tolist(), int(click[1][0])]
            for (frame, label), click in self._clicks.items()
            if click is not None
        ]

    def plan(self, records: Path) -> None:
        """Choose the worst frame of each object for its next click, from the records of the pass before."""
        reader = RecordReader(records)
        for item in reader.objects:
            columns = reader.columns(item, "frame", "j", "f")
            frame = self._worst_frame(item.label, columns["frame"], columns["j"] + columns["f"])
            if frame is not None:
                self._clicks[frame, item.label] = None

    def __call__(
        self, tracker: MaskTracker, index: int, frame: LabelledFrame, object_ids: Mapping[int, int]
    ) -> None:
        """Give the clicks of this frame."""
        for label, object_id in object_ids.items():
            if (index, label) not in self._clicks:
                continue
            click = self._clicks[index, label]
            if click is None:
                truth = np.asarray(frame.labels == label)
                prediction = mask_of(tracker.last_result, object_id, truth.shape)
                if (prediction == truth).all():  # a click on an earlier frame has put it right
                    continue
                click = self._clicks[index, label] = correction_click(truth, prediction)
            tracker.refine_object(object_id, frame.image, points=click[0], labels=click[1])

    def _worst_frame(self, label: int, frames: np.ndarray, accuracy: np.ndarray) -> int | None:
        """None where all that has no click yet is right, or has no ground truth."""
        for place in np.argsort(np.where(np.isfinite(accuracy), accuracy, np.inf), kind="stable"):
            if not accuracy[place] < 2:
                return None
            if (int(frames[place]), label) not in self._clicks:
                return int(frames[place])
        return None
