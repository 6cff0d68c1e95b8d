"""Reading, tracking and measuring beside each other: a thread before and one behind, with a bound on what waits.

Results come in the order of their items, and what a thread raises is raised at its place in that order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
MOST = 2
"""Items that wait for the next stage at a time: whole images, so that memory has a bound."""


class ReadAhead(Generic[T]):
    """Gives items in their order, read by a thread of its own before they are asked for.

    Reading goes on while what waits is less than `most`, in items or in what `size` says of each. What it raises is
    raised where the item would have come.
    """

    def __init__(
        self, items: Iterable[T], most: int = MOST, size: Callable[[T], int] = lambda item: 1
    ) -> None:
        self._items, self._most, self._size = items, most, size
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque()
        self._held = 0
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="read ahead", daemon=True)

    def __enter__(self) -> ReadAhead[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._waiting.popleft()
                self._held -= self._size(item)
                self._changed.notify_all()
            yield item

    def _read(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._held < self._most)
                    if self._stopped:
                        break
                    self._waiting.append(item)
                    self._held += self._size(item)
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def work_behind(calls: Iterable[Callable[[], T]], most: int = MOST) -> Iterator[T]:
    """What the calls return, each made on one thread of its own while the next call is still being prepared."""
    with ThreadPoolExecutor(1, thread_name_prefix="measuring") as pool:
        waiting: deque[Future[T]] = deque()
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
