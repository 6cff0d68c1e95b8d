"""How long the stages of the newest images took, as percentiles over a fixed window."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

PERCENTILES = (50, 90, 99, 100)


class StagePercentiles:
    """Durations of the last `window` images, by stage. Thread-safe; memory for the window is taken once per stage.

    Args:
        window: images that count.
        max_stages: stages that are kept at most; the names come from code, so more would be a mistake there.
    """

    def __init__(self, window: int = 500, max_stages: int = 32) -> None:
        self._window, self._max_stages = window, max_stages
        self._lock = threading.Lock()
        self._durations_s: dict[str, np.ndarray] = {}
        self._images = 0

    def add(self, stages_s: Mapping[str, float]) -> None:
        """Take the stages of one more image, name -> seconds; a stage it did not go through, or NaN, does not count."""
        with self._lock:
            at = self._images % self._window
            self._images += 1
            for durations in self._durations_s.values():
                durations[at] = np.nan
            for name, seconds in stages_s.items():
                if name not in self._durations_s and len(self._durations_s) < self._max_stages:
                    self._durations_s[name] = np.full(self._window, np.nan)
                if name in self._durations_s:
                    self._durations_s[name][at] = seconds

    def clear(self) -> None:
        """Forget all images."""
        with self._lock:
            self._durations_s.clear()
            self._images = 0

    def read(self) -> dict[str, tuple[int, np.ndarray]]:
        """Per stage, in order of first sight: images that count, and p50, p90, p99 and maximum in seconds [4]."""
        with self._lock:
            kept = {name: durations.copy() for name, durations in self._durations_s.items()}
        found = {}
        for name, durations in kept.items():
            known = durations[~np.isnan(durations)]
            if known.size:
                found[name] = (int(known.size), np.percentile(known, PERCENTILES))
        return found
