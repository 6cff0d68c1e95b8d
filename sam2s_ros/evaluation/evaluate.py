"""Runs a tracker over a sequence with ground truth, one prompt per object, and measures every frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sam2s_ros.evaluation.ahead import ReadAhead, work_behind
from sam2s_ros.evaluation.frame_scorer import FollowedObject, FrameRun, FrameScorer
from sam2s_ros.evaluation.interface import MaskResult, MaskTracker, mask_of
from sam2s_ros.evaluation.prompts import Prompter, make_prompter, prompt_object
from sam2s_ros.evaluation.records import FrameRecord
from sam2s_ros.evaluation.sequences import LabelledFrame, Sequence

FrameObserver = Callable[[LabelledFrame, Mapping[int, NDArray[np.bool_]], tuple[FrameRecord, ...]], None]
"""Is given each frame, the predicted masks bool [H, W] by label, and the frame's records."""
Corrector = Callable[[MaskTracker, int, LabelledFrame, Mapping[int, int]], None]
"""Is given the tracker, the frame's index, the frame just stepped, and the ids of the objects by label value."""


def evaluate_sequence(
    make_tracker: Callable[[], MaskTracker],
    sequence: Sequence,
    prompt: str | Prompter = "mask",
    objects: Collection[int | str] | None = None,
    on_frame: FrameObserver | None = None,
    prompt_area: float = 0.0,
    name: str = "",
    nsd_tolerance_px: float | None = None,
    correct: Corrector | None = None,
) -> Iterator[tuple[FrameRecord, ...]]:
    """Follow each label value of a sequence as one object and measure it against the ground truth, frame by frame.

    An object is measured from the frame on which it is prompted; all objects share one tracker, made for this
    sequence. The tracker sees every frame, in order. Yields the records of each frame, one per object followed so far.
    Reading and measuring go on beside the tracker, on a thread each.

    Args:
        make_tracker: a fresh tracker, such as `lambda: sam2s_ros.load_tracker("nano")` or one of BASELINES.
        prompt: what says when and how objects are prompted, or one of `prompts.PROMPTS` for `prompts.FirstSight` with
            `objects` (label values or names; all but 0 when left out) and `prompt_area`.
        on_frame: is given each frame and the predicted masks by label value, for drawing.
        name: of the tracker, in the records.
        nsd_tolerance_px: of NSD; None for that of F.
        correct: may refine objects on each frame before it is measured.

    Raises:
        ValueError: the prompt is unknown, or none of the objects appears in the sequence.
    """
    tracker = make_tracker()
    prompter = make_prompter(prompt, objects, prompt_area) if isinstance(prompt, str) else prompt
    scorer = FrameScorer(name, sequence.name, nsd_tolerance_px)
    followed: dict[int, FollowedObject] = {}

    def tracked() -> Iterator[Callable[[], tuple[FrameRecord, ...]]]:
        """Steps the tracker; what it gives measures the frame."""
        with ReadAhead(with_progress(sequence)) as frames:
            for index, frame in enumerate(frames):
                begun = time.perf_counter()
                tracker.step(frame.image, frame.stamp_ns)
                new = prompter.due(frame, followed, sequence.label_names)
                for due in new:
                    followed[due.label] = FollowedObject(
                        due.label, prompt_object(tracker, frame, due), due.name
                    )
                if correct is not None:
                    correct(
                        tracker, index, frame, {label: item.object_id for label, item in followed.items()}
                    )
                latency_ms = 1000 * (time.perf_counter() - begun)
                items = [followed[label] for label in sorted(followed)]
                run = FrameRun(index, latency_ms, prompted=[due.label for due in new])
                yield partial(measured, frame, items, tracker.last_result, run)

    def measured(
        frame: LabelledFrame, items: list[FollowedObject], result: MaskResult | None, run: FrameRun
    ) -> tuple[FrameRecord, ...]:
        size = frame.image.shape[:2]
        predictions = {item.label: mask_of(result, item.object_id, size) for item in items}
        records = scorer.score(frame, items, predictions, result, run)
        if on_frame is not None:
            on_frame(frame, predictions, records)
        return records

    yield from work_behind(tracked())
    prompter.require_all_given(sequence.name, followed)


def with_progress(sequence: Sequence) -> Iterator[LabelledFrame]:
    """The frames of a sequence, with a progress bar on a terminal.

    Raises:
        ValueError: an image has another size than the first: objects cannot be followed from one to the other.
    """
    first: tuple[int, ...] | None = None
    for number, frame in enumerate(
        tqdm(sequence.frames(), sequence.name, unit=" frames", leave=False, disable=None), start=1
    ):
        size = frame.image.shape[1::-1]
        if size != (first := first or size):
            raise ValueError(
                f"{sequence.name}: image {number} has {size[0]} x {size[1]} pixels and those before it {first[0]} x "
                f"{first[1]}: cut the recording where the size changes, and evaluate the parts"
            )
        yield frame
