"""Sets of messages of one time: the exact and the approximate policy, in any order of arrival, with bounded memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")

from sam2s_ros.nodes.time_synchronizer import (  # noqa: E402
    ApproximateTimeSynchronizer,
    SimpleFilter,
    TimeSynchronizer,
)


def message(seconds: float, name: str = "") -> Any:
    nanoseconds = round(seconds * 1e9)
    stamp = SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp), name=name)


class Sets:
    def __init__(self, slop: float = 0.0, queue: int = 4, topics: int = 2) -> None:
        self.filters = [SimpleFilter() for _ in range(topics)]
        self.found: list[tuple[str, ...]] = []
        policy = (
            ApproximateTimeSynchronizer(self.filters, queue, slop)
            if slop
            else TimeSynchronizer(self.filters, queue)
        )
        policy.registerCallback(lambda *messages: self.found.append(tuple(one.name for one in messages)))
        self.policy = policy

    def put(self, topic: int, seconds: float, name: str) -> None:
        self.filters[topic].signalMessage(message(seconds, name))


def test_equal_stamps_make_a_set_in_any_order() -> None:
    sets = Sets(topics=3)
    sets.put(2, 1.0, "c1")
    sets.put(0, 1.0, "a1")
    sets.put(0, 2.0, "a2")
    assert sets.found == []
    sets.put(1, 1.0, "b1")
    assert sets.found == [("a1", "b1", "c1")]


def test_a_message_is_in_one_set_only() -> None:
    sets = Sets()
    for name in ("b1", "again"):
        sets.put(1, 1.0, name)
    sets.put(0, 1.0, "a1")
    sets.put(0, 1.0, "a1 again")
    assert sets.found == [("a1", "again")]


def test_a_stamp_one_nanosecond_off_is_another_time() -> None:
    sets = Sets()
    sets.put(0, 1.0, "a")
    sets.put(1, 1.000000001, "b")
    assert sets.found == []


def test_within_the_slop_the_nearest_is_taken() -> None:
    sets = Sets(slop=0.02)
    sets.put(1, 0.99, "far")
    sets.put(1, 1.005, "near")
    sets.put(0, 1.0, "a")
    assert sets.found == [("a", "near")]
    sets.put(0, 1.5, "alone")
    sets.put(1, 1.53, "too late")
    assert len(sets.found) == 1


def test_three_topics_are_all_within_the_slop_of_each_other() -> None:
    """0.98 and 1.015 are each near 1.0, but not near each other."""
    sets = Sets(slop=0.03, topics=3)
    sets.put(1, 0.98, "b")
    sets.put(2, 1.015, "c")
    sets.put(0, 1.0, "a")
    assert sets.found == []
    sets.put(2, 1.0, "c2")
    assert sets.found == [("a", "b", "c2")]


@pytest.mark.parametrize("slop", [0.0, 0.01])
def test_what_waits_does_not_grow(slop: float) -> None:
    """A topic that is alone keeps its newest messages."""
    sets = Sets(slop=slop)
    for number in range(100):
        sets.put(0, float(number), f"a{number}")
    assert [len(one) for one in sets.policy._queues] == [4, 0]
    sets.put(1, 98.0, "b98")
    assert sets.found == [("a98", "b98")]
