"""Keeping time: when recorded messages are due, and how late they went out."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

NANOSECONDS = 1_000_000_000
BIN_NS = 10_000
BINS = 100_000  # up to a second


class Timeline:
    """Recorded time laid over two running clocks: one to sleep by, one for stamps.

    The distances of recorded stamps are kept to the nanosecond (by a rate that is not 1, in proportion), whatever goes
    out late.
    """

    def __init__(self, first_ns: int, start_ns: int, stamp_start_ns: int, rate: float = 1.0) -> None:
        """`first_ns`: the recorded stamp that is due at `start_ns` and then gets the stamp `stamp_start_ns`; `rate`: 2
        is twice as fast."""
        if not rate > 0:
            raise ValueError(f"the rate must be above 0, not {rate}")
        self.first_ns, self.start_ns, self.stamp_start_ns, self.rate = (
            first_ns,
            start_ns,
            stamp_start_ns,
            rate,
        )

    def due_ns(self, recorded_ns: int) -> int:
        """When a message with this recorded stamp is to be published, on the clock to sleep by."""
        return self.start_ns + self._passed_ns(recorded_ns)

    def stamp_ns(self, recorded_ns: int) -> int:
        """The new stamp of messages with this recorded one."""
        return self.stamp_start_ns + self._passed_ns(recorded_ns)

    def recorded_ns(self, now_ns: int) -> int:
        """The recorded time at a time of the clock to sleep by."""
        return self.first_ns + round((now_ns - self.start_ns) * self.rate)

    def _passed_ns(self, recorded_ns: int) -> int:
        return round((recorded_ns - self.first_ns) / self.rate)


class TimingError:
    """How late messages went out, in bins of 10 µs: the same memory for a minute and for a day."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS + 1, np.int64)
        self._most_ns = 0

    def add(self, late_ns: int) -> None:
        """Count one message; early is none."""
        self._most_ns = max(self._most_ns, late_ns)
        self._counts[min(max(late_ns, 0) // BIN_NS, BINS)] += 1

    def document(self) -> dict[str, float | int | None]:
        """Messages, median, 99th percentile and maximum in ms; None where nothing was counted."""
        total = int(self._counts.sum())
        found: dict[str, float | int | None] = {"messages": total}
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            place = int(np.searchsorted(np.cumsum(self._counts), share * total))
            found[name] = min((place + 1) * BIN_NS, max(self._most_ns, BIN_NS)) * 1e-6 if total else None
        return {**found, "max": self._most_ns * 1e-6 if total else None}


def sleep_until(due_ns: int, go_on: Callable[[], bool]) -> bool:
    """Sleep until `due_ns` of the monotonic clock; False as soon as `go_on` says so."""
    while go_on():
        left_ns = due_ns - time.monotonic_ns()
        if left_ns <= 0:
            return True
        time.sleep(min(left_ns / NANOSECONDS, 0.1))
    return False
