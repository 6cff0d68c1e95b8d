"""The messages of a bag as bytes, with the header stamps that say when each is due."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2s_ros.evaluation.bag_messages import open_bag, raw_messages_of

NANOSECONDS = 1_000_000_000
STAMP_OFFSET = 4  # bytes of the CDR encapsulation before the header's seconds


@dataclass(frozen=True)
class RecordedMessage:
    """A serialized message of a bag; `stamp_ns` is its header stamp, None for a type without a header."""

    topic: str
    stamp_ns: int | None
    data: bytes


class BagFile:
    """The messages of a bag in recorded order, serialized, and the type of each topic."""

    def __init__(self, path: Path) -> None:
        """Read the topics of `path`, an .mcap or .db3 file or a bag folder.

        Raises:
            FileNotFoundError: there is no such bag.
            ValueError: it is damaged or empty, no ROS 2 bag, or no message in it has a header.
        """
        self.path = path
        with open_bag(path) as bag:
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
        """Every message in recorded order; ValueError where the file is damaged."""
        with open_bag(self.path) as bag:
            for connection, _, data in raw_messages_of(bag, self.path, bag.connections):
                stamp_ns = read_stamp(data) if connection.msgtype in self._stamped_types else None
                yield RecordedMessage(connection.topic, stamp_ns, bytes(data))


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


def _starts_with_header(typestore: Any, msgtype: str) -> bool:
    _, fields = typestore.fielddefs[msgtype]
    return bool(fields) and fields[0][1][1] == "std_msgs/msg/Header"
