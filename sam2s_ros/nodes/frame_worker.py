"""The threads that own the tracker: one prepares a frame while the other processes the one before it.

Both together are the only threads of the node that compute with torch, the model is loaded on one of them. GNU OpenMP
counts the threads of all teams that it has made; with more of them than cores it stops to wait actively, and every
step takes twice as long. OpenCV is kept from threads of its own: both cores have work, and a stage would wait for a
thread that waits for a core, at times for 0.2 s.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cv2

CALLS_IN_A_ROW = 4
QUICK_CALLS_IN_A_ROW = 32
Frame = TypeVar("Frame")
Prepared = TypeVar("Prepared")
Answer = TypeVar("Answer")


class WorkerTimeoutError(Exception):
    """The worker did not get to a call, or did not finish it, in time."""


class WorkerStoppedError(Exception):
    """The worker is not running, or stopped before it got to a call."""


@dataclass(frozen=True)
class _Call:
    run: Callable[[], Any]
    answer: Future[Any]


class FrameWorker(Generic[Frame, Prepared]):
    """Runs `prepare(frame)`, then `process(prepared)`, always for the newest frame offered; older ones are replaced.

    The next frame is prepared on a thread of its own while one is processed, and waits there if it must: a frame that
    has been prepared is never replaced. Calls (`call`) run on the processing thread between two frames, so only what
    `prepare` touches needs a lock. A frame waits for at most `CALLS_IN_A_ROW` calls, so that objects that are prompted
    together are all on the next frame, and for `QUICK_CALLS_IN_A_ROW` of those that take next to no time. What
    `prepare`, `process` and `spare` raise goes to `on_error`, what a call raises to its caller. `prepare` may return
    None for a frame that is to be left out.

    While neither a frame nor a call waits, `spare` runs on the processing thread, after a frame or a call, as long as
    it returns True. It may be set at any time.
    """

    def __init__(
        self,
        prepare: Callable[[Frame], Prepared | None],
        process: Callable[[Prepared], None],
        on_error: Callable[[Exception], None],
        name: str,
    ) -> None:
        self._prepare, self._process, self._on_error = prepare, process, on_error
        self.spare: Callable[[], bool] = lambda: False
        self._has_spare_work = False
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._prepared: Prepared | None = None
        self._flushes = 0
        self._preparing_since_s: float | None = None
        self._calls: deque[_Call] = deque()
        self._quick_calls: deque[_Call] = deque()
        self._in_a_row = self._quick_in_a_row = 0
        self._running = False
        self._threads = [
            threading.Thread(target=self._run_prepare, name=f"{name} encoder", daemon=True),
            threading.Thread(target=self._run_process, name=name, daemon=True),
        ]

    def start(self) -> None:
        cv2.setNumThreads(1)
        self._running = True
        for thread in self._threads:
            thread.start()

    def flush(self) -> None:
        """Forget the frames that wait and refuse the waiting calls."""
        with self._changed:
            self._newest = self._prepared = None
            self._flushes += 1
            waiting = [*self._quick_calls, *self._calls]
            self._quick_calls.clear()
            self._calls.clear()
        for call in waiting:
            if call.answer.set_running_or_notify_cancel():  # else nobody waits for it any more
                call.answer.set_exception(WorkerStoppedError("the node was deactivated"))

    def stop(self, timeout_s: float) -> bool:
        """Finish what is in work, refuse what waits, end the threads. False: still busy after `timeout_s`."""
        with self._changed:
            self._running = False
            self._changed.notify_all()
        self.flush()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def offer(self, frame: Frame) -> bool:
        """Put the frame in the mailbox; True if one is never taken: the one that lay there, or this, after `stop`."""
        with self._changed:
            replaced = self._newest is not None or not self._running
            self._newest = frame if self._running else None
            self._changed.notify_all()
        return replaced

    def call(self, run: Callable[[], Answer], timeout_s: float | None, quick: bool = False) -> Answer:
        """Run `run()` between two frames and return or raise what it does; at most `timeout_s` of waiting, if given."""
        answer = self.post(run, quick)
        try:
            return answer.result(timeout_s)
        except FutureTimeoutError:
            dropped = answer.cancel()
            raise WorkerTimeoutError(
                f"no answer within {timeout_s:g} s: "
                + ("not begun, dropped" if dropped else "begun, may still be applied")
            ) from None

    def post(self, run: Callable[[], Answer], quick: bool = False) -> Future[Answer]:
        """Have `run()` run between two frames, as `call` does, without waiting for it.

        `quick`: it takes next to no time, so it overtakes calls that are not, and more of its kind run in a row.
        The future is done once it has run, or was refused.
        """
        call = _Call(run, Future())
        with self._changed:
            if not self._running:
                call.answer.set_exception(WorkerStoppedError("the node is not active"))
                return call.answer
            (self._quick_calls if quick else self._calls).append(call)
            self._changed.notify_all()
        return call.answer

    def preparing_s(self) -> float:
        """For how many seconds the frame that is in preparation has been; 0 if none is."""
        since_s = self._preparing_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def _run_prepare(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: not self._running or (self._newest is not None and self._prepared is None)
                )
                if not self._running:
                    return
                frame, self._newest = self._newest, None
                flushes = self._flushes
            assert frame is not None
            self._preparing_since_s = time.monotonic()
            prepared = self._guarded(self._prepare, frame)
            self._preparing_since_s = None
            with self._changed:
                if flushes == self._flushes:
                    self._prepared = prepared
                self._changed.notify_all()

    def _run_process(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: not self._running or self._has_spare_work or self._something_waits()
                )
                if not self._running:
                    return
                call = self._next_call() if self._something_waits() else None
                prepared = None
                if call is None:
                    prepared, self._prepared = self._prepared, None
                    self._changed.notify_all()
            if call is not None:
                _answer(call)
            elif prepared is not None:
                self._guarded(self._process, prepared)
            else:
                self._has_spare_work = bool(self._guarded(self.spare))
                continue
            self._has_spare_work = True  # what has just run may have left something to do

    def _something_waits(self) -> bool:
        """With the lock held."""
        return bool(self._calls or self._quick_calls) or self._prepared is not None

    def _next_call(self) -> _Call | None:
        """The call whose turn it is, None if it is the frame's. With the lock held, and something waiting."""
        frame_waits = self._prepared is not None
        if self._quick_calls and self._quick_in_a_row < QUICK_CALLS_IN_A_ROW:
            self._quick_in_a_row += 1
            return self._quick_calls.popleft()
        if self._calls and (self._in_a_row < CALLS_IN_A_ROW or not frame_waits):
            self._in_a_row += 1
            return self._calls.popleft()
        self._in_a_row = self._quick_in_a_row = 0
        return None if frame_waits else self._quick_calls.popleft()

    def _guarded(self, run: Callable[..., Answer], *arguments: Any) -> Answer | None:
        try:
            return run(*arguments)
        except Exception as error:
            self._on_error(error)
            return None


def _answer(call: _Call) -> None:
    if not call.answer.set_running_or_notify_cancel():
        return
    try:
        call.answer.set_result(call.run())
    except Exception as error:
        call.answer.set_exception(error)
