"""Runs a tracker over a sequence with ground truth, one prompt per object, and scores every frame."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sam2s_ros.evaluation.classes import said_class
from sam2s_ros.evaluation.interface import MaskTracker, mask_of
from sam2s_ros.evaluation.metrics import region_and_boundary
from sam2s_ros.evaluation.prompts import prompt_object
from sam2s_ros.evaluation.scoring import ObjectScore, SequenceScore
from sam2s_ros.evaluation.sequences import LabelledFrame, Sequence

FrameObserver = Callable[[LabelledFrame, Mapping[int, NDArray[np.bool_]]], None]


def evaluate_sequence(
    make_tracker: Callable[[], MaskTracker],
    sequence: Sequence,
    prompt: str = "mask",
    objects: Collection[int | str] | None = None,
    on_frame: FrameObserver | None = None,
    prompt_area: float = 0.0,
) -> SequenceScore:
    """Follow each label value of a sequence as one object and score it against the ground truth.

    An object is prompted on the first frame that shows enough of it and scored from there on; all objects share one
    tracker, made for this sequence. The tracker sees every frame, in order.

    Args:
        make_tracker: a fresh tracker, such as `lambda: sam2s_ros.load_tracker("nano")` or one of BASELINES.
        prompt: one of `prompts.PROMPTS`.
        objects: label values or names to follow; all but 0 when left out.
        prompt_area: share of the image that an object covers when it is prompted; 0 is one pixel. An object that
            comes into view shows its first few pixels first, on which nobody would prompt it.
        on_frame: is given each frame and the predicted masks by label value, for drawing.

    Raises:
        ValueError: the prompt is unknown, or none of the objects appears in the sequence.
    """
    tracker = make_tracker()
    followed: dict[int, _FollowedObject] = {}
    frames = tqdm(
        sequence.frames(), sequence.name, unit=" frames", leave=False, disable=None
    )  # on a terminal only
    for index, frame in enumerate(frames):
        tracker.step(frame.image, frame.stamp_ns)
        for label in new_labels(frame, followed, sequence.label_names, objects, prompt_area):
            name = sequence.label_names.get(label, f"label {label}")
            object_id = prompt_object(tracker, frame.image, np.asarray(frame.labels == label), prompt, name)
            followed[label] = _FollowedObject(object_id, name, label, index)
        size = frame.image.shape[:2]
        predictions = {
            label: mask_of(tracker.last_result, item.object_id, size) for label, item in followed.items()
        }
        for label, item in followed.items():
            item.score(predictions[label], frame.labels, said_class(tracker.last_result, item.object_id))
        if on_frame is not None:
            on_frame(frame, predictions)
    if not followed:
        wanted = "no object" if objects is None else f"none of the objects {', '.join(map(str, objects))}"
        raise ValueError(f"{sequence.name}: {wanted} appears in the ground truth")
    classes = tuple(getattr(tracker.last_result, "classes", ()))
    return SequenceScore(
        sequence.name, tuple(followed[label].result() for label in sorted(followed)), classes
    )


@dataclass
class _FollowedObject:
    object_id: int
    name: str
    label: int
    first_frame: int
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)
    present: list[bool] = field(default_factory=list)
    predicted_area: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def score(self, prediction: NDArray[np.bool_], labels: NDArray[np.uint8] | None, said_class: str) -> None:
        truth = labels == self.label if labels is not None else None
        j, f = region_and_boundary(prediction, truth) if truth is not None else (np.nan, np.nan)
        self.j.append(j)
        self.f.append(f)
        self.predicted_area.append(float(prediction.mean()))
        self.present.append(truth is not None and bool(truth.any()))
        self.said.append(said_class)

    def result(self) -> ObjectScore:
        return ObjectScore(
            self.name,
            self.label,
            self.first_frame,
            np.array(self.j),
            np.array(self.f),
            np.array(self.present),
            np.array(self.predicted_area),
            tuple(self.said),
        )


def new_labels(
    frame: LabelledFrame,
    known: Collection[int],
    names: Mapping[int, str],
    objects: Collection[int | str] | None,
    prompt_area: float,
) -> list[int]:
    """Label values to be followed that appear on this frame for the first time, in increasing order."""
    if frame.labels is None:
        return []
    pixels = np.bincount(frame.labels.reshape(-1), minlength=256)
    seen = np.flatnonzero(pixels >= max(1.0, prompt_area * frame.labels.size)).tolist()
    return [
        label
        for label in seen
        if label != 0
        and label not in known
        and (objects is None or label in objects or names.get(label) in objects)
    ]
