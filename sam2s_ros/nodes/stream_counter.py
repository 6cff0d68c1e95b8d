"""Counts of one image stream, and how many of its images were lost before they reached the node."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

_GAPS_FOR_PERIOD = 8  # fewer gaps than this say nothing about a period
_REGULAR_SHARE = 0.6  # of the recent gaps lie within 30 % of their median where a camera runs at a fixed rate
_REGULAR_BAND = 0.3


@dataclass(frozen=True)
class StreamCounts:
    """Images since activation. received = tracked + skipped + unreadable + failed + those in work."""

    received: int = 0
    tracked: int = 0
    skipped: int = 0
    unreadable: int = 0
    failed: int = 0
    lost: int = 0


class StampGapCounter:
    """Estimates missing images from gaps between stamps, against the running median period.

    A stream that is not regular (a sparse recording, a paused one) has no period, and nothing is counted in
    it.
    """

    def __init__(self, window: int = 60) -> None:
        self._gaps_ns: deque[int] = deque(maxlen=window)
        self._last_ns: int | None = None
        self.missing = 0

    def add(self, stamp_ns: int) -> int:
        """Take the stamp of one received image; return how many are missing before it."""
        last, self._last_ns = self._last_ns, stamp_ns
        if last is None or stamp_ns <= last:
            return 0
        gap = stamp_ns - last
        period = self._period_ns()
        self._gaps_ns.append(gap)
        missing = max(0, round(gap / period) - 1) if period > 0 else 0
        self.missing += missing
        return missing

    def _period_ns(self) -> float:
        if len(self._gaps_ns) < _GAPS_FOR_PERIOD:
            return 0.0
        gaps = np.array(self._gaps_ns, np.float64)
        period = float(np.median(gaps))
        regular = np.abs(gaps - period) <= _REGULAR_BAND * period
        return period if regular.mean() >= _REGULAR_SHARE else 0.0


class SequenceGapCounter:
    """Counts the numbers missing between the samples of each publisher."""

    def __init__(self, publishers: int = 16) -> None:
        self._publishers = publishers
        self._last: dict[Hashable, int] = {}
        self.missing = 0

    def add(self, publisher: Hashable, number: int) -> None:
        """Take the number of one sample; a publisher's numbers rise by 1, and what is not above the last is ignored."""
        last = self._last.pop(publisher, None)
        if last is not None and number > last:
            self.missing += number - last - 1
        self._last[publisher] = number
        while len(self._last) > self._publishers:
            del self._last[next(iter(self._last))]


class StreamCounter:
    """Thread-safe counts of a stream.

    `lost` is what the middleware reports (samples that never arrived, exact), or, with one that reports nothing, an
    estimate from the gaps between stamps, which cannot tell a loss from a camera that stuttered. A sample missing in
    the publisher's numbers that the middleware does not report as lost has arrived and was replaced in the reader's
    queue of one before the node could take it: it counts as received and skipped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gaps = StampGapCounter()
        self._numbers = SequenceGapCounter()
        self._counts = {"received": 0, "tracked": 0, "skipped": 0, "unreadable": 0, "failed": 0}
        self._lost_in_transport: int | None = None

    def add_received(self, stamp_ns: int, publisher: Hashable = None, number: int = 0) -> None:
        """Count one image; `number` is its publisher's sequence number, 0 where the middleware gives none."""
        with self._lock:
            self._counts["received"] += 1
            if self._lost_in_transport is None:
                self._gaps.add(stamp_ns)
            if number > 0:
                self._numbers.add(publisher, number)

    def add(self, kind: str) -> None:
        """Count one image as "tracked", "skipped", "unreadable" or "failed"."""
        with self._lock:
            self._counts[kind] += 1

    def set_lost_in_transport(self, total: int) -> None:
        """Take the middleware's own total of lost samples; 0 at first says that it will report them."""
        with self._lock:
            self._lost_in_transport = total

    def counts(self) -> StreamCounts:
        with self._lock:
            reported = self._lost_in_transport
            if reported is None:
                return StreamCounts(**self._counts, lost=self._gaps.missing)
            replaced = max(0, self._numbers.missing - reported)
            counts = {
                kind: count + (replaced if kind in ("received", "skipped") else 0)
                for kind, count in self._counts.items()
            }
            return StreamCounts(**counts, lost=reported)
