"""The thread that owns the tracker: a mailbox of one frame, and calls that run between two frames."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Frame = TypeVar("Frame")
Answer = TypeVar("Answer")


class WorkerTimeoutError(Exception):
    """The worker did not get to a call, or did not finish it, in time."""


class WorkerStoppedError(Exception):
    """The worker is not running, or stopped before it got to a call."""


@dataclass(frozen=True)
class _Call:
    run: Callable[[], Any]
    answer: Future[Any]


class FrameWorker(Generic[Frame]):
    """Runs `process(frame)` on its own thread, always for the newest frame offered; older ones are replaced.

    Calls (`call`) run on the same thread between two frames, so the tracker needs no lock. A call waits for
    at most one frame, and a frame for at most one call. What `process` raises goes to `on_error`, what a call
    raises to its caller.
    """

    def __init__(
        self, process: Callable[[Frame], None], on_error: Callable[[Exception], None], name: str
    ) -> None:
        self._process = process
        self._on_error = on_error
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._calls: deque[_Call] = deque()
        self._running = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._running = True
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Finish what is in work, refuse what waits, end the thread. False: still busy after `timeout_s`."""
        with self._changed:
            self._running = False
            self._newest = None
            waiting, self._calls = self._calls, deque()
            self._changed.notify_all()
        for call in waiting:
            call.answer.set_exception(WorkerStoppedError("the node was deactivated"))
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def offer(self, frame: Frame) -> bool:
        """Put the frame in the mailbox; True if it replaced one that had not been taken."""
        with self._changed:
            replaced = self._newest is not None
            self._newest = frame if self._running else None
            self._changed.notify()
        return replaced

    def call(self, run: Callable[[], Answer], timeout_s: float) -> Answer:
        """Run `run()` between two frames and return or raise what it does; at most `timeout_s` of waiting."""
        call = _Call(run, Future())
        with self._changed:
            if not self._running:
                raise WorkerStoppedError("the node is not active")
            self._calls.append(call)
            self._changed.notify()
        try:
            return call.answer.result(timeout_s)
        except FutureTimeoutError:
            dropped = call.answer.cancel()
            raise WorkerTimeoutError(
                f"no answer within {timeout_s:g} s: "
                + ("not begun, dropped" if dropped else "begun, may still be applied")
            ) from None

    def _run(self) -> None:
        after_call = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._running or self._calls or self._newest is not None)
                if not self._running:
                    return
                take_call = bool(self._calls) and not (after_call and self._newest is not None)
                call = self._calls.popleft() if take_call else None
                frame = None
                if call is None:
                    frame, self._newest = self._newest, None
            after_call = call is not None
            if call is not None:
                _answer(call)
            elif frame is not None:
                self._process_one(frame)

    def _process_one(self, frame: Frame) -> None:
        try:
            self._process(frame)
        except Exception as error:
            self._on_error(error)


def _answer(call: _Call) -> None:
    if not call.answer.set_running_or_notify_cancel():
        return
    try:
        call.answer.set_result(call.run())
    except Exception as error:
        call.answer.set_exception(error)
