"""Replays a bag over DDS as if it happened now: at the recorded rate, stamps rewritten to now, no pauses.

Messages whose first field is a header get the new stamp, all of one recorded stamp the same one, so that an
image and its ground truth still belong together. Everything else in a message stays as recorded, byte for
byte. Topics keep their names; remap them as usual (`--ros-args -r /recorded/name:=/other/name`). Ends with
one line of JSON on standard output.
"""

from __future__ import annotations

import argparse
import importlib
import json
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

NANOSECONDS = 1_000_000_000
STAMP_OFFSET = 4  # bytes of the CDR encapsulation before the header's seconds
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
STREAM = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True)
class RecordedMessage:
    """A serialized message of a bag; `stamp_ns` is its header stamp, None for a type without a header."""

    topic: str
    stamp_ns: int | None
    data: bytes


def read_stamp(data: bytes | memoryview) -> int:
    """Header stamp in ns of a CDR message that starts with a header; ValueError for a shorter message."""
    if len(data) < STAMP_OFFSET + 8:
        raise ValueError(f"a serialized message of {len(data)} bytes holds no header")
    seconds, nanoseconds = struct.unpack_from(_stamp_format(data), data, STAMP_OFFSET)
    return int(seconds) * NANOSECONDS + int(nanoseconds)


def write_stamp(data: bytes, stamp_ns: int) -> bytes:
    """The same CDR message with another header stamp."""
    restamped = bytearray(data)
    struct.pack_into(_stamp_format(data), restamped, STAMP_OFFSET, *divmod(stamp_ns, NANOSECONDS))
    return bytes(restamped)


def _stamp_format(data: bytes | memoryview) -> str:
    return "<iI" if data[1] & 1 else ">iI"  # second byte of the encapsulation: CDR_BE 0, CDR_LE 1


class Restamper:
    """When to publish recorded messages, and with which stamp, on a clock that starts with the first."""

    def __init__(self, start_ns: int, rate: float = 1.0) -> None:
        """`start_ns`: when the first stamped message is due, any clock; `rate`: 2.0 is twice as fast."""
        if not rate > 0:
            raise ValueError(f"the rate must be above 0, not {rate}")
        self._start_ns = start_ns
        self._rate = rate
        self._first_ns: int | None = None
        self._stamps: dict[int, int] = {}

    def due_ns(self, recorded_ns: int) -> int:
        """When a message with this recorded stamp is to be published."""
        if self._first_ns is None:
            self._first_ns = recorded_ns
        return self._start_ns + round((recorded_ns - self._first_ns) / self._rate)

    def stamp_ns(self, recorded_ns: int, now_ns: int) -> int:
        """The new stamp: `now_ns` where this recorded stamp is new, else the one given before."""
        if len(self._stamps) > 1000:
            self._stamps.pop(next(iter(self._stamps)))
        return self._stamps.setdefault(recorded_ns, now_ns)


class BagFile:
    """The messages of a bag in recorded order, serialized, and the type of each topic."""

    def __init__(self, path: Path) -> None:
        """Read the topics of `path`, an .mcap or .db3 file or a bag folder.

        Raises:
            FileNotFoundError: there is no such bag.
            ValueError: it is no readable ROS 2 bag, or no message in it has a header.
        """
        if not path.exists():
            raise FileNotFoundError(f"there is no bag {path}")
        self.path = path
        with self._open() as bag:
            self.types = {connection.topic: connection.msgtype for connection in bag.connections}
            self._stamped_types = {
                msgtype for msgtype in set(self.types.values()) if _starts_with_header(bag.typestore, msgtype)
            }
        if not self._stamped_types:
            raise ValueError(f"{path}: no topic has a header, so nothing says when its messages are due")

    def is_stamped(self, topic: str) -> bool:
        """Whether the messages of a topic start with a header."""
        return self.types[topic] in self._stamped_types

    def messages(self) -> Iterator[RecordedMessage]:
        """Every message in recorded order."""
        with self._open() as bag:
            for connection, _, data in bag.messages():
                stamp_ns = read_stamp(data) if connection.msgtype in self._stamped_types else None
                yield RecordedMessage(connection.topic, stamp_ns, bytes(data))

    def _open(self) -> AnyReader:
        try:
            return AnyReader([self.path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        except AnyReaderError as error:
            raise ValueError(f"{self.path} is no readable ROS 2 bag: {error}") from error


def _starts_with_header(typestore: Any, msgtype: str) -> bool:
    _, fields = typestore.fielddefs[msgtype]
    return bool(fields) and fields[0][1][1] == "std_msgs/msg/Header"


def message_class(msgtype: str) -> type:
    """The class of a message type such as sensor_msgs/msg/Image; ValueError if it is not installed."""
    package, _, name = msgtype.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"message type {msgtype} is not installed: {error}") from error


class ReplayNode(Node):
    """Publishes a bag's messages, with its own publisher for each recorded topic."""

    def __init__(self, bag: BagFile) -> None:
        """Create a publisher for each topic: reliable; latched where the type has no header."""
        super().__init__("replay")
        self._bag = bag
        self.publishers_by_topic: dict[str, Publisher] = {
            topic: self.create_publisher(
                message_class(msgtype), topic, STREAM if bag.is_stamped(topic) else LATCHED
            )
            for topic, msgtype in bag.types.items()
        }
        self.published = dict.fromkeys(bag.types, 0)

    def play_once(self, rate: float, messages: Iterable[RecordedMessage] | None = None) -> None:
        """Publish every message when it is due; a late one goes out at once and delays nothing after it."""
        restamper = Restamper(time.monotonic_ns(), rate)
        for message in self._bag.messages() if messages is None else messages:
            data = message.data
            if message.stamp_ns is not None:
                if not sleep_until(restamper.due_ns(message.stamp_ns), rclpy.ok):
                    return
                now_ns = self.get_clock().now().nanoseconds
                data = write_stamp(data, restamper.stamp_ns(message.stamp_ns, now_ns))
            self.publishers_by_topic[message.topic].publish(data)
            self.published[message.topic] += 1


def sleep_until(due_ns: int, go_on: Callable[[], bool]) -> bool:
    """Sleep until `due_ns` of the monotonic clock; False as soon as `go_on` says so."""
    while go_on():
        left_ns = due_ns - time.monotonic_ns()
        if left_ns <= 0:
            return True
        time.sleep(min(left_ns / NANOSECONDS, 0.1))
    return False


def wait_for_subscribers(publishers: dict[str, Publisher], wanted: dict[str, int], timeout_s: float) -> None:
    """Block until each topic in `wanted` has that many subscribers, and a moment more for them to know us.

    Raises:
        ValueError: a topic is not published here.
        TimeoutError: they did not come in time.
    """
    for topic in wanted:
        if topic not in publishers:
            raise ValueError(f"no topic {topic} to wait for; published here: {', '.join(sorted(publishers))}")
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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the executable `replay`; 0 when the bag was played to its end or it was told to stop."""
    arguments = list(sys.argv if argv is None else ["replay", *argv])
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    parser.add_argument("bag", type=Path, help=".mcap or .db3 file, or bag folder")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="2.0 plays twice as fast (default: %(default)s)"
    )
    parser.add_argument(
        "--loop", action="store_true", help="start again at the end, for as long as the node lives"
    )
    add_waiting_arguments(parser)
    args = parser.parse_args(remove_ros_args(arguments)[1:])
    rclpy.init(args=arguments)
    try:
        node = ReplayNode(BagFile(args.bag))
        wait_for_subscribers(node.publishers_by_topic, parse_wanted(args.wait_for), args.timeout)
        node.play_once(args.rate)
        while args.loop and rclpy.ok():
            time.sleep(0.1 / args.rate)
            node.play_once(args.rate)
        time.sleep(
            0.5 if rclpy.ok() else 0.0
        )  # let the last samples reach their readers before the writers vanish
        print(json.dumps({"published": node.published}), flush=True)
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
