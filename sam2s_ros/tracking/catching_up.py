"""Objects that were prompted on an older frame, on their way to the newest through the kept frames, frame by frame.

They come there without the others, which do not notice; those that have the same frame before them, together. What an
object gets on a frame depends on that frame and its own memory alone, so not on when its turn comes, up to how an
engine rounds in batches of another size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.kept_frames import KeptFrame, KeptFrames, Lag
from sam2s_ros.tracking.object_table import ObjectRecord, ObjectTable
from sam2s_ros.tracking.propagation import Propagator
from sam2s_ros.tracking.stopwatch import Stopwatch

Judge = Callable[[KeptFrame, list[ObjectRecord]], object]
"""Judges objects on a frame: their states follow from all frames, however they came through them."""


class CatchingUp:
    """Keeps `ObjectRecord.lag` of the objects of a table."""

    def __init__(
        self, frames: KeptFrames, table: ObjectTable, propagator: Propagator, judge: Judge, most_behind: int
    ) -> None:
        self._frames, self._table, self._propagator, self._judge = frames, table, propagator, judge
        self._most_behind = most_behind

    def begin(self, record: ObjectRecord, frame: KeptFrame) -> None:
        """The object has just been prompted on a frame; what it was tracked on afterwards no longer counts."""
        self._arrive([record], frame)

    def behind(self, record: ObjectRecord, frame: KeptFrame | None) -> int:
        """How many frames an object has yet to come through before it has been on this one."""
        return 0 if record.lag is None or frame is None else self._frames.between(record.lag.reached, frame)

    def all_behind(self, records: Sequence[ObjectRecord], frame: KeptFrame | None) -> NDArray[np.int64]:
        """`behind` [N] of several objects."""
        return np.array([self.behind(record, frame) for record in records], dtype=np.int64)

    def furthest(self, records: Sequence[ObjectRecord]) -> int:
        """How many frames behind the newest the last of these objects is; 0 when none lags."""
        return max((self.behind(record, self._frames.newest) for record in records), default=0)

    def make_room(self) -> None:
        """Bring objects so far that one more frame can be kept: no frame is lost that they still need.

        For whoever prompts late and does not call `advance`, or too seldom; raises what the engine does.
        """
        while (lagging := self._table.lagging) and self.furthest(lagging) >= self._most_behind:
            self.advance(lagging, Stopwatch())

    def go_on(self, frames: int, show: Callable[[Stopwatch], object]) -> None:
        """Advance all objects that lag, by at most so many frames, and `show` the newest frame if any came to it."""
        watch, arrived = Stopwatch(), False
        try:
            for _ in range(frames):
                if not (lagging := self._table.lagging):
                    break
                arrived |= self.advance(lagging, watch)
        finally:
            if arrived:
                show(watch)

    def bring(self, record: ObjectRecord, frame: KeptFrame | None, watch: Stopwatch) -> None:
        """Advance one object until it has been on a frame. It leaves out those on which the engine fails; the first
        failure is raised in the end."""
        failure = None
        while self.behind(record, frame):
            try:
                self.advance([record], watch)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def advance(self, records: Sequence[ObjectRecord], watch: Stopwatch) -> bool:
        """Take those of these lagging objects that are furthest behind through one frame; whether any is there now.

        A frame on which the engine fails is left out, for these objects, as it is in the stream; the error is raised.
        """
        reached = min((record.lag.reached for record in records if record.lag), key=lambda frame: frame.index)
        frame = self._frames.after(reached)[0]
        group = [one for one in records if one.lag and self._frames.after(one.lag.reached)[0] is frame]
        previous = self._frames.usable_until(reached)
        try:
            self._propagator.catch_up(group, frame, previous, watch)
        finally:
            self._arrive(group, frame)
            self._frames.let_go(self._table.lags)
        self._judge(frame, group)
        return any(record.lag is None for record in group)

    def newest_dropped(self) -> None:
        """The newest frame was forgotten: objects that had only this one before them are there."""
        for record in self._table.lagging:
            if record.lag is not None and record.lag.reached is self._frames.newest:
                record.lag = None

    def _arrive(self, records: list[ObjectRecord], frame: KeptFrame) -> None:
        lag = None if frame is self._frames.newest else Lag(frame, self._frames.usable_until(frame))
        for record in records:
            record.lag = lag
