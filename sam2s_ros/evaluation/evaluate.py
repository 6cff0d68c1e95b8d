"""Runs a tracker over a sequence with ground truth, one prompt per object, and measures every frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sam2s_ros.evaluation.frame_scorer import FollowedObject, FrameRun, FrameScorer
from sam2s_ros.evaluation.interface import MaskTracker, mask_of
from sam2s_ros.evaluation.prompts import prompt_object
from sam2s_ros.evaluation.records import FrameRecord
from sam2s_ros.evaluation.sequences import LabelledFrame, Sequence

FrameObserver = Callable[[LabelledFrame, Mapping[int, NDArray[np.bool_]], tuple[FrameRecord, ...]], None]
"""Is given each frame, the predicted masks bool [H, W] by label, and the frame's records."""


def evaluate_sequence(
    make_tracker: Callable[[], MaskTracker],
    sequence: Sequence,
    prompt: str = "mask",
    objects: Collection[int | str] | None = None,
    on_frame: FrameObserver | None = None,
    prompt_area: float = 0.0,
    name: str = "",
    nsd_tolerance_px: float | None = None,
) -> Iterator[tuple[FrameRecord, ...]]:
    """Follow each label value of a sequence as one object and measure it against the ground truth, frame by frame.

    An object is prompted on the first frame that shows enough of it and measured from there on; all objects share one
    tracker, made for this sequence. The tracker sees every frame, in order. Yields the records of each frame, one per
    object followed so far.

    Args:
        make_tracker: a fresh tracker, such as `lambda: sam2s_ros.load_tracker("nano")` or one of BASELINES.
        prompt: one of `prompts.PROMPTS`.
        objects: label values or names to follow; all but 0 when left out.
        on_frame: is given each frame and the predicted masks by label value, for drawing.
        prompt_area: share of the image that an object covers when it is prompted; 0 is one pixel. An object that
            comes into view shows its first few pixels first, on which nobody would prompt it.
        name: of the tracker, in the records.
        nsd_tolerance_px: of NSD; None for that of F.

    Raises:
        ValueError: the prompt is unknown, or none of the objects appears in the sequence.
    """
    tracker = make_tracker()
    scorer = FrameScorer(name, sequence.name, nsd_tolerance_px)
    followed: dict[int, FollowedObject] = {}
    frames = tqdm(
        sequence.frames(), sequence.name, unit=" frames", leave=False, disable=None
    )  # on a terminal only
    for index, frame in enumerate(frames):
        begun = time.perf_counter()
        tracker.step(frame.image, frame.stamp_ns)
        new = new_labels(frame, followed, sequence.label_names, objects, prompt_area)
        for label in new:
            title = sequence.label_names.get(label, f"label {label}")
            object_id = prompt_object(tracker, frame.image, np.asarray(frame.labels == label), prompt, title)
            followed[label] = FollowedObject(label, object_id, title)
        latency_ms = 1000 * (time.perf_counter() - begun)
        items = [followed[label] for label in sorted(followed)]
        size = frame.image.shape[:2]
        predictions = {item.label: mask_of(tracker.last_result, item.object_id, size) for item in items}
        run = FrameRun(index, latency_ms, prompted=new)
        records = scorer.score(frame, items, predictions, tracker.last_result, run)
        if on_frame is not None:
            on_frame(frame, predictions, records)
        yield records
    if not followed:
        wanted = "no object" if objects is None else f"none of the objects {', '.join(map(str, objects))}"
        raise ValueError(f"{sequence.name}: {wanted} appears in the ground truth")


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
