"""The node's log lines about service calls: a few a second, and how many were left out.

rclpy looks up the caller of every line, which holds the interpreter for milliseconds: at a hundred calls a second the
lines alone would slow the stream. The audit log has every call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

LINES_PER_S = 5


class Logger(Protocol):
    """What is used of rclpy's logger."""

    def info(self, message: str) -> object: ...
    def warning(self, message: str) -> object: ...
    def error(self, message: str) -> object: ...


class CallLog:
    """Writes what became of calls, from any thread. Failures of the engine are always written."""

    def __init__(self, logger: Logger, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._clock_s = logger, clock_s
        self._lock = threading.Lock()
        self._second = float("-inf")
        self._written = self._left_out = 0

    def answered(self, text: str) -> None:
        """A call that was done."""
        if line := self._line(text):
            self._logger.info(line)

    def refused(self, text: str) -> None:
        """A call that changed nothing, for a reason that the client can mend."""
        if line := self._line(text):
            self._logger.warning(line)

    def failed(self, text: str) -> None:
        """A call that the node could not do."""
        self._logger.error(text)

    def _line(self, text: str) -> str:
        """The line to write; empty where there were enough in this second."""
        with self._lock:
            now_s = self._clock_s()
            if now_s - self._second >= 1.0:
                self._second, self._written = now_s, 0
            if self._written == LINES_PER_S:
                self._left_out += 1
                return ""
            self._written += 1
            left_out, self._left_out = self._left_out, 0
        return f"{text} (and {left_out} calls before without a line)" if left_out else text
