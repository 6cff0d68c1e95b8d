"""Reading, tracking and measuring beside each other: in order, bounded, and with every error at its place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from sam2s_ros.evaluation.ahead import ReadAhead, work_behind

PATIENCE_S = 30.0


def test_items_come_in_order_and_few_wait() -> None:
    made = []
    more = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            more.release()
            yield number

    with ReadAhead(items(), 2) as reading:
        ahead = iter(reading)
        assert next(ahead) == 0
        for _ in range(4):  # the one taken, two that wait, one in the reader's hand
            assert more.acquire(timeout=PATIENCE_S)
        assert not more.acquire(timeout=0.3) and len(made) == 4
        assert list(ahead) == list(range(1, 20))


def test_an_item_is_read_while_the_one_before_is_worked_on() -> None:
    read = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        read.set()
        yield 1

    with ReadAhead(items()) as ahead:
        assert next(iter(ahead)) == 0 and read.wait(PATIENCE_S)


def test_what_the_reader_raises_is_raised_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise ValueError("frame 2 is cut")

    taken = []
    with pytest.raises(ValueError, match="frame 2 is cut"), ReadAhead(items()) as ahead:
        for item in ahead:
            taken.append(item)
    assert taken == [0, 1]


def test_a_reader_ends_with_its_context() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    with ReadAhead(endless()) as ahead:
        next(iter(ahead))
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    del ahead
    assert closed.wait(PATIENCE_S)


def test_calls_are_made_beside_the_next_and_give_their_results_in_order() -> None:
    """The first cannot end before the second is asked for."""
    second = threading.Event()

    def calls() -> Iterator[Callable[[], int]]:
        yield lambda: 0 if second.wait(PATIENCE_S) else -1
        second.set()
        for number in range(1, 9):
            yield lambda number=number: number  # type: ignore[misc]

    assert list(work_behind(calls())) == list(range(9))


def test_few_calls_wait_at_a_time() -> None:
    asked, done = [], []

    def calls() -> Iterator[Callable[[], int]]:
        for number in range(10):
            asked.append(number)
            yield lambda number=number: done.append(number) or number  # type: ignore[misc,func-returns-value]

    for result in work_behind(calls(), 2):
        assert len(asked) <= result + 3
    assert done == list(range(10))


def test_what_a_call_raises_is_raised_in_its_place() -> None:
    def fail() -> int:
        raise RuntimeError("no such mask")

    results = work_behind(iter([lambda: 1, fail, lambda: 3]))
    assert next(results) == 1
    with pytest.raises(RuntimeError, match="no such mask"):
        next(results)
