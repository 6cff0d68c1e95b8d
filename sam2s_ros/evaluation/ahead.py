"""Reading, tracking and measuring beside each other: a thread before and one behind, with a bound on what waits.

Results come in the order of their items, and what a thread raises is raised at its place in that order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 2
"""Items that wait for the next stage at a time: whole images, so that memory has a bound."""
_LOOK_S = 0.1
"""After how long a reader that waits looks whether anybody still wants its items."""
_END = object()


def read_ahead(items: Iterable[T], most: int = MOST) -> Iterator[T]:
    """The items, made by a thread of its own that is up to `most` ahead; it ends with this iterator."""
    waiting: Queue[Any] = Queue(most)
    unwanted = threading.Event()

    def put(item: Any) -> bool:
        while not unwanted.is_set():
            try:
                waiting.put(item, timeout=_LOOK_S)
                return True
            except Full:
                continue
        return False

    def read() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:
            put((_END, error))

    thread = threading.Thread(target=read, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        unwanted.set()
        thread.join()


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
