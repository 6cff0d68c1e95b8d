"""Replays a bag over DDS at the recorded pace, as if it happened now or, with --clock, in its own time.

As now: messages whose first field is a header get a new stamp, all of one recorded stamp the same one, at the recorded
distances, so that an image and its ground truth still belong together. With --clock every byte stays as recorded and
/clock tells the recorded time, for nodes with use_sim_time. Topics keep their names; remap them as usual (`--ros-args
-r /recorded/name:=/other/name`). Ends with one line of JSON on standard output: what was published, how late, and the
stamp that the first recorded one became, with --loop in the last round.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock

from sam2s_ros.evaluation.ahead import ReadAhead
from sam2s_ros.nodes.bag_file import NANOSECONDS, BagFile, RecordedMessage, write_stamp
from sam2s_ros.nodes.messages import ns_to_stamp
from sam2s_ros.nodes.playback import Timeline, TimingError, sleep_until

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
STREAM = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)
CLOCK = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CLOCK_TOPIC = "/clock"
LEAD_NS = 200_000_000
"""Between the start and the first message, for reading ahead."""
AHEAD_BYTES = 64 * 2**20
"""Of messages that wait for their time."""
SWITCH_INTERVAL_S = 0.0005
"""So long may the thread that reads keep the one that publishes from the interpreter."""


@dataclass(frozen=True)
class DueMessage:
    """A message as it is to be published; `due_ns` by the monotonic clock, None for right after the one before."""

    topic: str
    due_ns: int | None
    data: bytes


def data_bytes(message: RecordedMessage | DueMessage) -> int:
    """What a message counts among those that wait."""
    return len(message.data)


def message_class(msgtype: str) -> type:
    """The class of a message type such as sensor_msgs/msg/Image; ValueError if it is not installed."""
    package, _, name = msgtype.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"message type {msgtype} is not installed: {error}") from error


class ReplayNode(Node):
    """Publishes a bag's messages, with its own publisher for each recorded topic."""

    def __init__(self, bag: BagFile, clock_hz: float | None = None) -> None:
        """Create a publisher for each topic: reliable; latched where the type has no header.

        clock_hz: keep the recorded stamps, and publish /clock so often, and right before each message; one that was
            recorded is left out.
        """
        super().__init__("replay")
        if clock_hz is not None and not 0 < clock_hz <= 10_000:
            raise ValueError(f"--clock {clock_hz:g}: give a rate above 0 and at most 10000 Hz")
        self._bag = bag
        self.publishers_by_topic: dict[str, Publisher] = {
            topic: self.create_publisher(
                message_class(msgtype), topic, STREAM if bag.is_stamped(topic) else LATCHED
            )
            for topic, msgtype in bag.types.items()
            if clock_hz is None or topic != CLOCK_TOPIC
        }
        self._clock_period_ns = None if clock_hz is None else round(NANOSECONDS / clock_hz)
        self._clock_publisher = None if clock_hz is None else self.create_publisher(Clock, CLOCK_TOPIC, CLOCK)
        self.published = dict.fromkeys(self.publishers_by_topic, 0)
        self.late = TimingError()
        self.timeline: Timeline | None = None
        """Of the newest `play_once`."""

    def play_once(self, rate: float, messages: Iterable[RecordedMessage] | None = None) -> None:
        """Publish every message when it is due; a late one goes out at once and delays nothing after it."""
        recorded = iter(self._bag.messages() if messages is None else messages)
        head: list[RecordedMessage] = []
        for message in recorded:
            head.append(message)
            if message.stamp_ns is not None:
                break
        first_ns = next((one.stamp_ns for one in head if one.stamp_ns is not None), 0)
        start_ns = time.monotonic_ns() + LEAD_NS
        stamp_start_ns = time.time_ns() + LEAD_NS if self._clock_publisher is None else first_ns
        self.timeline = timeline = Timeline(first_ns, start_ns, stamp_start_ns, rate)
        with ReadAhead(
            self._due(itertools.chain(head, recorded), timeline), AHEAD_BYTES, data_bytes
        ) as ahead:
            for due in ahead:
                if due.due_ns is not None:
                    if not self._wait_until(due.due_ns, timeline):
                        return
                    self.late.add(time.monotonic_ns() - due.due_ns)
                self.publishers_by_topic[due.topic].publish(due.data)
                self.published[due.topic] += 1

    def _due(self, messages: Iterable[RecordedMessage], timeline: Timeline) -> Iterator[DueMessage]:
        for message in messages:
            if message.topic not in self.publishers_by_topic:
                continue
            if message.stamp_ns is None:
                yield DueMessage(message.topic, None, message.data)
                continue
            data = message.data
            if self._clock_publisher is None:
                data = write_stamp(data, timeline.stamp_ns(message.stamp_ns))
            yield DueMessage(message.topic, timeline.due_ns(message.stamp_ns), data)

    def _wait_until(self, due_ns: int, timeline: Timeline) -> bool:
        """Sleep until a time of the monotonic clock, telling the time meanwhile; False when told to stop."""
        period_ns = self._clock_period_ns
        if period_ns is not None:
            tick_ns = time.monotonic_ns()
            while tick_ns < due_ns:
                if not sleep_until(tick_ns, rclpy.ok):
                    return False
                self._tell_time(timeline.recorded_ns(tick_ns))
                tick_ns += period_ns
        if not sleep_until(due_ns, rclpy.ok):
            return False
        if period_ns is not None:
            self._tell_time(timeline.recorded_ns(due_ns))
        return True

    def _tell_time(self, recorded_ns: int) -> None:
        if self._clock_publisher is not None and recorded_ns > 0:
            self._clock_publisher.publish(Clock(clock=ns_to_stamp(recorded_ns)))

    def document(self) -> dict[str, Any]:
        """What the last line says."""
        line = self.timeline
        stamps = None if line is None else {"recorded": line.first_ns, "published": line.stamp_start_ns}
        return {"published": self.published, "late_ms": self.late.document(), "first_stamp_ns": stamps}


def wait_for_subscribers(publishers: dict[str, Publisher], wanted: dict[str, int], timeout_s: float) -> None:
    """Block until each topic in `wanted` has that many subscribers, and a moment more for them to know us.

    A topic may be named with or without the slash that it begins with.

    Raises:
        ValueError: a topic is not published here.
        TimeoutError: they did not come in time.
    """
    known = {topic.lstrip("/"): topic for topic in publishers}
    for topic in wanted:
        if topic.lstrip("/") not in known:
            raise ValueError(f"no topic {topic} to wait for; published here: {', '.join(sorted(publishers))}")
    wanted = {known[topic.lstrip("/")]: count for topic, count in wanted.items()}
    deadline = time.monotonic() + timeout_s
    while rclpy.ok():
        missing = [
            topic for topic, count in wanted.items() if publishers[topic].get_subscription_count() < count
        ]
        if not missing:
            break
        if time.monotonic() > deadline:
            found = ", ".join(f"{publishers[topic].get_subscription_count()} on {topic}" for topic in missing)
            raise TimeoutError(
                f"after {timeout_s:g} s too few subscribers: {found}; is the tracker node active?"
            )
        time.sleep(0.05)
    if wanted:
        time.sleep(0.3)


def parse_wanted(entries: Sequence[str]) -> dict[str, int]:
    """Turn `TOPIC=COUNT` entries into a table; raises ValueError for one in another form."""
    wanted = {}
    for entry in entries:
        topic, separator, count = entry.partition("=")
        if not separator or not count.isdecimal():
            raise ValueError(f"--wait-for needs TOPIC=COUNT, not {entry!r}")
        wanted[topic] = int(count)
    return wanted


def add_waiting_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `wait_for_subscribers` needs."""
    parser.add_argument(
        "--wait-for",
        action="append",
        default=[],
        metavar="TOPIC=COUNT",
        help="start only when TOPIC has COUNT subscribers; may be given several times",
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds to wait for them (default: %(default)s)"
    )


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of `replay`, without ROS arguments."""
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    parser.add_argument("bag", type=Path, help=".mcap or .db3 file, or bag folder")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="2.0 plays twice as fast (default: %(default)s)"
    )
    parser.add_argument(
        "--loop", action="store_true", help="start again at the end, for as long as the node lives"
    )
    parser.add_argument(
        "--clock",
        type=float,
        nargs="?",
        const=100.0,
        metavar="HZ",
        help="keep the recorded stamps and publish /clock at so many Hz (default of HZ: %(const)g)",
    )
    add_waiting_arguments(parser)
    parsed = parser.parse_args(arguments)
    if parsed.loop and parsed.clock is not None:
        parser.error("--loop would make /clock go back: give one of --loop and --clock")
    return parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the executable `replay`; 0 when the bag was played to its end or it was told to stop."""
    arguments = list(sys.argv if argv is None else ["replay", *argv])
    args = parse_arguments(remove_ros_args(arguments)[1:])
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    rclpy.init(args=arguments)
    try:
        node = ReplayNode(BagFile(args.bag), args.clock)
        wait_for_subscribers(node.publishers_by_topic, parse_wanted(args.wait_for), args.timeout)
        node.play_once(args.rate)
        while args.loop and rclpy.ok():
            time.sleep(0.1 / args.rate)
            node.play_once(args.rate)
        time.sleep(
            0.5 if rclpy.ok() else 0.0
        )  # let the last samples reach their readers before the writers vanish
        print(json.dumps(node.document()), flush=True)
    except (OSError, ValueError) as error:
        print(f"replay: error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException, RCLError):
        if rclpy.ok():  # else a signal shut the context down between two messages
            raise
    finally:
        if rclpy.ok():
            rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
