"""Wall time per stage of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up milliseconds per named stage, from its creation on."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside; a stage may be entered more than once."""
        start = time.perf_counter()
        yield
        self._stages_ms[name] = self._stages_ms.get(name, 0.0) + 1e3 * (time.perf_counter() - start)

    def include(self, other: Stopwatch) -> None:
        """Add the stages of another watch; the total remains this one's own."""
        for name, duration_ms in other._stages_ms.items():
            self._stages_ms[name] = self._stages_ms.get(name, 0.0) + duration_ms

    def timings_ms(self) -> dict[str, float]:
        """Milliseconds by stage, and their `total` since creation."""
        return {**self._stages_ms, "total": 1e3 * (time.perf_counter() - self._start)}
