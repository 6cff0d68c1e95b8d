"""Sets of messages of one time: `message_filters` where a ROS distribution brings it, else the same policies here.

The part of the interface that is used: `SimpleFilter` with `registerCallback` and `signalMessage`, and the two
synchronizers, whose callback gets one message of each filter. No more than `queue_size` messages of each are kept.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from sam2s_ros.nodes.messages import stamp_to_ns


class SimpleFilter:
    """Something that messages come from."""

    def __init__(self) -> None:
        self._callbacks: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def registerCallback(self, callback: Callable[..., None], *arguments: Any) -> int:  # noqa: N802
        """Call `callback` with each message and these arguments after it."""
        self._callbacks.append((callback, arguments))
        return len(self._callbacks) - 1

    def signalMessage(self, *messages: Any) -> None:  # noqa: N802
        """Hand messages on."""
        for callback, arguments in self._callbacks:
            callback(*messages, *arguments)


class TimeSynchronizer(SimpleFilter):
    """Sets of messages with the same stamp."""

    def __init__(self, filters: Sequence[SimpleFilter], queue_size: int) -> None:
        super().__init__()
        self._queue_size = queue_size
        self._lock = threading.Lock()
        self._queues: list[dict[int, Any]] = [{} for _ in filters]
        for index, one in enumerate(filters):
            one.registerCallback(self._add, index)

    def _add(self, message: Any, index: int) -> None:
        with self._lock:
            stamp = stamp_to_ns(message.header.stamp)
            queue = self._queues[index]
            queue[stamp] = message
            while len(queue) > self._queue_size:
                del queue[min(queue)]
            chosen = self._choose(stamp, index)
            if chosen is not None:
                self.signalMessage(*(queue.pop(key) for queue, key in zip(self._queues, chosen, strict=True)))

    def _choose(self, stamp: int, index: int) -> list[int] | None:
        """The stamps of a set that the message of `stamp` completes."""
        return [stamp] * len(self._queues) if all(stamp in queue for queue in self._queues) else None


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Sets of messages whose stamps lie within less than `slop` seconds, the nearest to the newest message first."""

    def __init__(self, filters: Sequence[SimpleFilter], queue_size: int, slop: float) -> None:
        super().__init__(filters, queue_size)
        self._slop_ns = round(slop * 1e9)

    def _choose(self, stamp: int, index: int) -> list[int] | None:
        candidates = [
            [stamp]
            if place == index
            else sorted(
                (key for key in queue if abs(key - stamp) <= self._slop_ns), key=lambda key: abs(key - stamp)
            )
            for place, queue in enumerate(self._queues)
        ]
        for chosen in itertools.product(*candidates):
            if max(chosen) - min(chosen) < self._slop_ns:
                return list(chosen)
        return None


def new_filter() -> Any:
    """A filter to put messages into by `signalMessage`."""
    package = _message_filters()
    return SimpleFilter() if package is None else package.SimpleFilter()


def synchronize(filters: Sequence[Any], queue_size: int, slop_s: float, callback: Callable[..., None]) -> Any:
    """Call `callback` with one message of each filter, of stamps that are equal (`slop_s` 0) or nearer than that."""
    package = _message_filters()
    exact = TimeSynchronizer if package is None else package.TimeSynchronizer
    near = ApproximateTimeSynchronizer if package is None else package.ApproximateTimeSynchronizer
    synchronizer = near(filters, queue_size, slop_s) if slop_s > 0 else exact(filters, queue_size)
    synchronizer.registerCallback(callback)
    return synchronizer


def _message_filters() -> Any:
    if importlib.util.find_spec("message_filters") is None:
        return None
    return importlib.import_module("message_filters")
