"""Why nobody should act on the newest objects: what the stream of images and the engine did, against the clock.

Times are seconds of a monotonic clock, given by the caller. Holds a few numbers, nothing that grows.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timezone

from sam2s_msgs.msg import TrackedObjectArray
from sam2s_ros.tracking import FrameResult

PAUSED = "tracking was paused"
"""Why objects are in doubt during a pause and after it."""


@dataclass(frozen=True)
class Pause:
    """A pause of tracking: the client's name and reason, and when it began by the node's and a monotonic clock."""

    client: str
    reason: str
    since_ns: int
    since_s: float

    def describe(self, now_s: float) -> str:
        """Who paused, since when and why, and what ends it; `now_s` of the monotonic clock."""
        who = f"'{self.client}'" if self.client else "a client that gave no name"
        since = datetime.fromtimestamp(self.since_ns * 1e-9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        why = f": {self.reason}" if self.reason else ""
        return (
            f"tracking is paused by {who} since {since} UTC, {now_s - self.since_s:.1f} s ago{why} (~/resume)"
        )


class StreamWatch:
    """Status of one stream, from activate to deactivate. `tracked` is called by the worker, the rest by any thread.

    Args:
        topic: where images are expected.
        stale_after_s: after how long without a tracked image, or without a usable one, the objects are stale; and for
            how long they are after stamps have gone back.
        now_s: the time of activation.
    """

    def __init__(self, topic: str, stale_after_s: float, now_s: float) -> None:
        self._topic, self._stale_after_s = topic, stale_after_s
        self._lock = threading.Lock()
        self._begun_s = now_s
        self._tracked_s: float | None = None
        self._usable_s: float | None = None
        self._useless = ""
        self._stamp_ns: int | None = None
        self._back_s: float | None = None
        self._back = ""
        self._failure = ""
        self._unreadable = ""
        self._needs_reset = ""
        self._pause: Pause | None = None
        self._publisher: Hashable = None
        self._displaced: Hashable = None
        self._heard_s = self._mixed_s = -math.inf

    @property
    def pause(self) -> Pause | None:
        """The pause that lasts; None while images are tracked."""
        return self._pause

    def begin_pause(self, pause: Pause) -> Pause:
        """From now on nothing is current; the pause that lasts, which may have begun before this one."""
        with self._lock:
            self._pause = self._pause or pause
            return self._pause

    def end_pause(self) -> Pause | None:
        """The pause that has lasted until now; None if there was none."""
        with self._lock:
            pause, self._pause = self._pause, None
            return pause

    def tracked(self, result: FrameResult, now_s: float) -> str:
        """Take the result of one more image; why nobody should act on it, empty if the stream is in order."""
        with self._lock:
            self._tracked_s = now_s
            self._useless = result.condition.reason
            if result.condition.usable or self._usable_s is None:
                self._usable_s = now_s
            if back := stamp_trouble(result.stamp_ns, self._stamp_ns):
                self._back_s, self._back = now_s, back
            self._stamp_ns = result.stamp_ns
            self._failure = self._unreadable = ""
            self._needs_reset = result.needs_reset
            return self._trouble(result, now_s)

    def failed(self, reason: str) -> None:
        """The engine raised an error on the newest image."""
        with self._lock:
            self._failure = reason

    def unreadable(self, reason: str) -> None:
        """The newest image could not be read."""
        with self._lock:
            self._unreadable = f"{self._topic}: {reason}"

    def received_from(self, publisher: Hashable, now_s: float) -> None:
        """An image has come from this publisher, None where that is not known.

        One that begins once another has been silent is a camera that was started anew. One that comes in between,
        however seldom, or comes back, is a second one, and nobody knows whose picture is the right one.
        """
        with self._lock:
            if publisher is None:
                return
            if publisher != self._publisher:
                silent = now_s - self._heard_s >= self._stale_after_s
                if not silent or publisher == self._displaced:
                    self._mixed_s = now_s
                else:
                    self._mixed_s = -math.inf
                if not silent:
                    return
                self._displaced, self._publisher = self._publisher, publisher
            self._heard_s = now_s

    def forget(self) -> None:
        """After a reset any stamp may come next."""
        with self._lock:
            self._stamp_ns = self._back_s = None
            self._needs_reset = ""

    def status(self, now_s: float) -> tuple[int, str] | None:
        """Status and reason of a heartbeat; None while what was said with the newest image still holds."""
        with self._lock:
            hint = f"; last image left out: {self._unreadable}" if self._unreadable else ""
            if self._needs_reset:
                hint += f"; {self._needs_reset} (~/reset)"
            if self._pause is not None:
                before = f"; before that {self._failure}" if self._failure else ""
                return TrackedObjectArray.STALE, self._pause.describe(now_s) + before + hint
            if self._failure:
                return TrackedObjectArray.ENGINE_FAILED, self._failure
            if self._tracked_s is None:
                reason = f"no image tracked since activation, expected on {self._topic}{hint}"
                return TrackedObjectArray.NO_INPUT, reason
            if (age_s := now_s - self._tracked_s) > self._stale_after_s:
                return TrackedObjectArray.STALE, f"no image tracked for {age_s:.1f} s{hint}"
            if self._useless and (trouble := self._no_usable_image(now_s)):
                return TrackedObjectArray.STALE, trouble + hint
            return None

    def stale_in_s(self, now_s: float) -> float:
        """Seconds until the objects are stale unless an image comes, negative once they are; inf while none was
        tracked, and where a heartbeat says something else anyway."""
        with self._lock:
            if self._tracked_s is None or self._pause is not None or self._failure:
                return math.inf
            since_s = self._tracked_s
            if self._useless and self._usable_s is not None:
                since_s = min(since_s, self._usable_s)
            return since_s + self._stale_after_s - now_s

    def stalled_s(self, now_s: float) -> float:
        """Seconds since the last tracked image, or since activation."""
        with self._lock:
            return now_s - (self._begun_s if self._tracked_s is None else self._tracked_s)

    def _trouble(self, result: FrameResult, now_s: float) -> str:
        if result.needs_reset:
            return f"{result.needs_reset} (~/reset)"
        if now_s - self._mixed_s < self._stale_after_s:
            return f"two publishers on {self._topic}: leave one"
        if self._back_s is not None and now_s - self._back_s < self._stale_after_s:
            return self._back
        return self._no_usable_image(now_s)

    def _no_usable_image(self, now_s: float) -> str:
        if self._usable_s is not None and (age_s := now_s - self._usable_s) > self._stale_after_s:
            return f"no usable image for {age_s:.1f} s: {self._useless}"
        return ""


def stamp_trouble(stamp_ns: int, before_ns: int | None) -> str:
    """What is wrong with the stamp of an image after that of the image before; empty if it is later."""
    if before_ns is None or stamp_ns > before_ns:
        return ""
    if stamp_ns == before_ns:
        return (
            "the image has the stamp of the one before: a camera that does not stamp, or an image sent twice"
        )
    return (
        f"the image is {(before_ns - stamp_ns) * 1e-9:.3f} s older than the one before: two publishers on one topic, "
        "or a recording that began anew; ~/reset if it is another scene"
    )
