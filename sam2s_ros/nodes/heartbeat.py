"""What is said on ~/objects while no image is tracked, and by whom: only a worker that lives may repeat itself.

~/objects has liveliness MANUAL_BY_TOPIC, and whatever is published asserts it. So a heartbeat from a thread of its own
would keep a writer alive whose worker hangs for ever. Here the timer only asks: it posts each beat to the worker as a
job between two frames, and the worker publishes it, or, with nothing to say, asserts liveliness. Whoever hears the
writer therefore knows that the worker has come round since. A worker that does not come round within `stale_after_s`
is reported once, with status STALE, by the timer; then the writer falls silent, and its lease runs out. Where not even
the timer runs (the process is stopped, or something holds the interpreter's lock) there is no report, and the lease
runs out alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sam2s_msgs.msg import TrackedObjectArray
from sam2s_ros.nodes.frame_worker import FrameWorker
from sam2s_ros.nodes.stream_watch import StreamWatch

GRACE_S = 0.02
"""How long a worker may take to come round once the objects are stale, before that is said without it."""


class Heartbeat:
    """One stream's heartbeat, from activate to deactivate. `tick` and `check` are to be called by timers of one thread:
    `tick` every heartbeat period, `check` after the seconds that it gave the last time.

    Args:
        worker: what must come round.
        watch: knows what there is to say.
        repeat: publishes the newest objects with a status and a reason.
        assert_alive: asserts the liveliness of ~/objects.
        stale_after_s: how long the worker, or its encoding, may be at one job before the objects are stale.
    """

    def __init__(
        self,
        worker: FrameWorker[Any, Any],
        watch: StreamWatch,
        repeat: Callable[[int, str], None],
        assert_alive: Callable[[], None],
        stale_after_s: float,
    ) -> None:
        self._worker, self._watch = worker, watch
        self._repeat, self._assert_alive = repeat, assert_alive
        self._stale_after_s = stale_after_s
        self._beat: Future[None] | None = None
        self._reported = False
        self._pressed = 0

    def check(self) -> float:
        """Ask at once when the objects become stale, not with the next beat; seconds until the next check is due."""
        left_s = self._watch.stale_in_s(time.monotonic())
        if left_s > 0:
            self._pressed = 0
            return min(left_s, self._stale_after_s)  # or later, if an image comes meanwhile
        if self._pressed == 2:
            return self._stale_after_s
        self._pressed += 1
        self.tick()
        return GRACE_S

    def tick(self) -> None:
        """Ask the worker for a beat, unless it still owes one; report it, once, when it owes it for too long."""
        if self._beat is None or self._beat.done():
            self._beat = self._worker.post(self._on_worker)
        elif (stalled_s := self._watch.stalled_s(time.monotonic())) > self._stale_after_s:
            self._report(f"the engine has been at work for too long, no image tracked for {stalled_s:.1f} s")

    def _on_worker(self) -> None:
        """The worker has come round. If its other thread hangs in encoding, it is no more alive than that."""
        encoding_s = self._worker.preparing_s()
        if encoding_s > self._stale_after_s:
            self._report(f"the engine has been encoding an image for {encoding_s:.1f} s")
            return
        self._reported = False
        status = self._watch.status(time.monotonic())
        if status is None:
            self._assert_alive()
        else:
            self._repeat(*status)

    def _report(self, reason: str) -> None:
        if not self._reported:
            self._reported = True
            self._repeat(TrackedObjectArray.STALE, reason)
