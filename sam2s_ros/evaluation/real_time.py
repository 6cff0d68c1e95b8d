"""Real time without a clock: a stream in the bag's own time, in which frames that come too fast are skipped as the node
skips them.

The model is that of the node's worker: a mailbox of one, in which the newest frame wins; a thread that prepares
(decodes, encodes ahead) the newest frame while the one before is processed, and keeps what it has prepared until that
is taken; a thread that steps the tracker and runs the operator's calls between two frames. A step is published when
it ends. The operator sees what is published: an object is prompted on the first tracked frame that is due, by a call
which waits for the step that has begun meanwhile. It is published from the step on with which it has caught up: the
frames that came since are made up for as the node does, two for each image, or more where nothing waits.

Ground truth of time t is compared with the newest masks published at or before t (plus an allowance, 0 by default);
where none has been published, with an empty one. An object counts from the frame on which it is due, prompted or not.

What is left out: transport, and that the two threads of the node share the processor, when times are measured.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.evaluate import FrameObserver, with_progress
from sam2s_ros.evaluation.frame_scorer import FollowedObject, FrameRun, FrameScorer
from sam2s_ros.evaluation.interface import MaskResult, StreamTracker, mask_of
from sam2s_ros.evaluation.prompts import ObjectPrompt, Prompter, correction_click
from sam2s_ros.evaluation.records import NAN, FrameRecord
from sam2s_ros.evaluation.sequences import LabelledFrame, Sequence

CALLS_IN_A_ROW = 4
"""How many calls a prepared frame waits for, as in the node's worker."""
LATE_FRAMES_PER_IMAGE = 2
"""Kept frames through which objects that were prompted late are brought for each image, as in the node."""
END_NS = 2**63 - 1
MAX_ALLOWANCE_S = 1.0
"""So long, at most, are images and masks kept until they are measured."""


@dataclass(frozen=True)
class StreamTimes:
    """How long each part takes in the stream's time, in seconds; None: as long as it takes here.

    `step_s` is for a step of the tracker, each of the operator's calls and each frame that an object makes up for;
    `prepare_s` for what runs ahead.
    """

    step_s: float | None = None
    prepare_s: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("step", self.step_s), ("prepare", self.prepare_s)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"the time of a {name} must be 0 or more seconds, not {value}")


@dataclass(frozen=True, eq=False)
class Published:
    """The masks that the newest publication holds, and the tracker's ids of its objects by label value."""

    result: MaskResult | None
    object_ids: Mapping[int, int]

    def mask(self, label: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Mask bool [H, W] of the object with this label value, empty where it is not known yet."""
        object_id = self.object_ids.get(label)
        return np.zeros(size, bool) if object_id is None else mask_of(self.result, object_id, size)


def evaluate_real_time(
    make_tracker: Callable[[], StreamTracker],
    sequence: Sequence,
    prompter: Prompter,
    times: StreamTimes | None = None,
    allowance_s: float = 0.0,
    on_frame: FrameObserver | None = None,
    name: str = "",
    nsd_tolerance_px: float | None = None,
) -> Iterator[tuple[FrameRecord, ...]]:
    """Measure a sequence as a stream that does not wait, frame by frame; the same times give the same records.

    The latency in the records is from the image's stamp to the publication of its masks; NaN for a skipped frame.
    Other arguments are those of `evaluate_sequence`.

    Raises:
        ValueError: stamps go back, an object is never due, or the allowance is out of range.
    """
    if not 0 <= allowance_s <= MAX_ALLOWANCE_S:
        raise ValueError(f"the allowance must be 0 to {MAX_ALLOWANCE_S:g} seconds, not {allowance_s}")
    stream = _Stream(make_tracker(), prompter, times or StreamTimes(), sequence.label_names)
    scorer = StreamScorer(
        FrameScorer(name, sequence.name, nsd_tolerance_px), prompter, sequence.label_names, on_frame
    )
    allowance_ns = round(1e9 * allowance_s)
    waiting: deque[tuple[int, int, LabelledFrame]] = deque()

    def run_until(end_ns: int) -> Iterator[tuple[FrameRecord, ...]]:
        """Let the stream run up to a time, this one included, and measure the frames whose time is before it."""
        while True:
            event_ns = stream.next_event_ns
            while waiting and waiting[0][0] < min(event_ns, end_ns):
                _, index, frame = waiting.popleft()
                scorer.measure(index, frame, stream.published)
            yield from scorer.settled(stream.fates)
            if event_ns > end_ns:
                return
            stream.run_next_event()

    before_ns = -END_NS
    for index, frame in enumerate(with_progress(sequence)):
        if frame.stamp_ns < before_ns:
            raise ValueError(
                f"{sequence.name}: the stamp of frame {index + 1} goes back; real time needs them in order"
            )
        before_ns = frame.stamp_ns
        yield from run_until(frame.stamp_ns)
        stream.offer(index, frame)
        waiting.append((frame.stamp_ns + allowance_ns, index, frame))
        yield from run_until(frame.stamp_ns)
    yield from run_until(END_NS - 1)
    prompter.require_all_given(sequence.name, scorer.followed)


class StreamScorer:
    """Measures frames against what was published by their time, and hands the records out once it is known what became
    of the frame: tracked after some time, or skipped."""

    def __init__(
        self,
        scorer: FrameScorer,
        prompter: Prompter,
        names: Mapping[int, str],
        on_frame: FrameObserver | None = None,
    ) -> None:
        self.followed: dict[int, str] = {}
        """Names by label value of the objects that were due so far."""
        self._scorer, self._prompter, self._names, self._on_frame = scorer, prompter, names, on_frame
        self._unsettled: deque[
            tuple[int, LabelledFrame, dict[int, NDArray[np.bool_]], tuple[FrameRecord, ...]]
        ] = deque()

    def measure(self, index: int, frame: LabelledFrame, published: Published) -> None:
        """Compare a frame with what was published; frames come in their order."""
        due = self._prompter.due(frame, self.followed, self._names)
        self.followed |= {one.label: one.name for one in due}
        items = [
            FollowedObject(label, published.object_ids.get(label, 0), self.followed[label])
            for label in sorted(self.followed)
        ]
        size = (frame.image.shape[0], frame.image.shape[1])
        predictions = {item.label: published.mask(item.label, size) for item in items}
        run = FrameRun(index, NAN, prompted=[one.label for one in due])
        records = self._scorer.score(frame, items, predictions, published.result, run)
        self._unsettled.append((index, frame, predictions, records))

    def settled(self, fates: dict[int, float]) -> Iterator[tuple[FrameRecord, ...]]:
        """The records of the frames whose fate (latency in ms, NaN if skipped) is known, in order; takes the fates."""
        while self._unsettled and self._unsettled[0][0] in fates:
            index, frame, predictions, records = self._unsettled.popleft()
            latency_ms = fates.pop(index)
            tracked = not math.isnan(latency_ms)
            records = tuple(replace(one, tracked=tracked, latency_ms=latency_ms) for one in records)
            if self._on_frame is not None:
                self._on_frame(frame, predictions, records)
            yield records


_Arrival = tuple[int, LabelledFrame]
"""A frame with its index."""


@dataclass(frozen=True, eq=False)
class _Call:
    """One of the operator's calls on an image that was tracked: a new object, or a click on one that was added."""

    prompt: ObjectPrompt
    frame: LabelledFrame
    object_id: int | None = None
    corrections_left: int = 0


class _Stream:
    """The node's worker and its operator in the stream's time."""

    def __init__(
        self, tracker: StreamTracker, prompter: Prompter, times: StreamTimes, names: Mapping[int, str]
    ) -> None:
        self.fates: dict[int, float] = {}
        """Of each frame that was published its latency in ms, of each that was skipped NaN; for others to take."""
        self.published = Published(None, {})
        self._tracker, self._prompter, self._times, self._names = tracker, prompter, times, names
        self._object_ids: dict[int, int] = {}
        self._asked: set[int] = set()
        self._newest: _Arrival | None = None
        self._preparing: tuple[int, _Arrival] | None = None
        self._prepared: _Arrival | None = None
        self._working: tuple[int, Iterator[int]] | None = None
        self._calls: deque[_Call] = deque()
        self._asked_now: list[_Call] = []
        self._in_a_row = 0
        self._owed = 0
        self._now_ns = 0

    @property
    def next_event_ns(self) -> int:
        """When the next thing that has begun will end."""
        ends = [one[0] for one in (self._preparing, self._working) if one is not None]
        return min(ends, default=END_NS)

    def offer(self, index: int, frame: LabelledFrame) -> None:
        """A frame arrives: it lies in the mailbox in place of the one that lay there."""
        self._now_ns = frame.stamp_ns
        if self._newest is not None:
            self.fates[self._newest[0]] = NAN
        self._newest = (index, frame)
        self._begin()

    def run_next_event(self) -> None:
        """End what ends next, and begin what can begin then."""
        self._now_ns = self.next_event_ns
        if self._working is not None and self._working[0] == self._now_ns:
            work, self._working = self._working[1], None
            self._work(work)
            self._begin()  # the worker goes on before anybody has seen what it published
            self._calls.extend(self._asked_now)
            self._asked_now.clear()
        elif self._preparing is not None:
            self._prepared, self._preparing = self._preparing[1], None
        self._begin()

    def _begin(self) -> None:
        if self._working is None:
            if self._calls and (self._in_a_row < CALLS_IN_A_ROW or self._prepared is None):
                self._in_a_row += 1
                self._work(self._call(self._calls.popleft()))
            elif self._prepared is not None:
                self._in_a_row = 0
                arrival, self._prepared = self._prepared, None
                self._work(self._step(*arrival))
            elif self._tracker.advance(0):
                self._work(self._spare())
        if self._preparing is None and self._prepared is None and self._newest is not None:
            arrival, self._newest = self._newest, None
            image = arrival[1].image
            took_s = _timed(lambda: self._tracker.encode_ahead(image))
            self._preparing = (self._end_ns(self._times.prepare_s, took_s), arrival)

    def _work(self, work: Iterator[int]) -> None:
        """Begin a piece of work, or what comes next of one; it yields of how many steps that consists."""
        steps: list[int] = []
        took_s = _timed(lambda: steps.extend(itertools.islice(work, 1)))
        if steps:
            self._working = (self._end_ns(self._times.step_s, took_s, steps[0]), work)

    def _end_ns(self, given_s: float | None, took_s: float, times: int = 1) -> int:
        return self._now_ns + round(1e9 * (took_s if given_s is None else times * given_s))

    def _step(self, index: int, frame: LabelledFrame) -> Iterator[int]:
        """Track a frame; when that has ended, publish it and let the operator look, and bring late objects nearer."""
        result = self._tracker.step(frame.image, frame.stamp_ns)
        object_ids = dict(self._object_ids)
        yield 1
        self.published = Published(result, object_ids)
        self.fates[index] = (self._now_ns - frame.stamp_ns) * 1e-6
        for due in self._prompter.due(frame, self._asked, self._names):
            self._asked.add(due.label)
            self._asked_now.append(_Call(due, frame, corrections_left=due.corrections))
        owed, self._owed = self._owed, LATE_FRAMES_PER_IMAGE
        if behind := self._tracker.advance(0):
            self._tracker.advance(owed)
            yield min(owed, behind)

    def _spare(self) -> Iterator[int]:
        """Bring objects that were prompted late through one frame, while nothing waits."""
        self._owed = max(0, self._owed - 1)
        self._tracker.advance(1)
        yield 1

    def _call(self, call: _Call) -> Iterator[int]:
        """Answer one call; then, when it has ended, let the operator see the answer and correct it."""
        from sam2s_ros.tracking.errors import UnknownStampError

        prompt, stamp_ns, object_id = call.prompt, call.frame.stamp_ns, call.object_id
        try:
            if object_id is None:
                arguments = {**prompt.arguments, "name": prompt.name, "stamp_ns": stamp_ns}
                object_id = self._tracker.add_object(None, **arguments, catch_up=False)
            else:
                arguments = {**prompt.arguments, "stamp_ns": stamp_ns}
                self._tracker.refine_object(object_id, None, **arguments, catch_up=False)
        except (
            UnknownStampError
        ):  # the image is no longer kept: the operator takes a later one, as in the demo
            yield 1
            if object_id is None:
                self._asked.discard(prompt.label)
            return
        self._object_ids[prompt.label] = object_id
        prediction = self._tracker.last_prompted
        yield 1
        if call.corrections_left and call.frame.labels is not None:
            truth = np.asarray(call.frame.labels == prompt.label)
            shown = mask_of(prediction, object_id, truth.shape)
            if (shown != truth).any():
                points, labels = correction_click(truth, shown)
                click = ObjectPrompt(prompt.label, prompt.name, {"points": points, "labels": labels})
                self._asked_now.append(_Call(click, call.frame, object_id, call.corrections_left - 1))


def _timed(run: Callable[[], Any]) -> float:
    """Run it and say how long it took, in seconds."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
