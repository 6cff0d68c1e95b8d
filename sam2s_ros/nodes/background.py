"""A thread for what may take long and must not hold up anybody, such as a disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class BackgroundThread:
    """Runs what it is given, in turn. It ends with the process, whatever it is at: a disk may hang for ever."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, run: Callable[[], Answer]) -> Future[Answer]:
        """Have `run()` run after what was submitted before; the future is done once it has."""
        answer: Future[Answer] = Future()
        self._jobs.put((run, answer))
        return answer

    def stop(self) -> None:
        """End after what was submitted before, without waiting for it."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            run, answer = job
            try:
                answer.set_result(run())
            except Exception as error:
                answer.set_exception(error)
