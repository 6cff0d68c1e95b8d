"""Opens ROS 2 bags and reads their messages, without a ROS installation: MCAP and SQLite3, single files and folders,
split, and compressed by file, by message or by chunk.

Whatever is wrong with a file is a ValueError of one line that names it; nothing is skipped over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from sam2s_ros.evaluation.mcap_checks import check_mcap

BAG_SUFFIXES = (".mcap", ".db3")


def is_bag(path: Path) -> bool:
    """Whether a path looks like a ROS 2 bag: an .mcap or .db3 file, or a folder with metadata.yaml or such files."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(_storage_files(path))
    return path.suffix in BAG_SUFFIXES


def unchecked_part(path: Path) -> str:
    """What of a bag no checksum protects, as a line for people; empty where all of it is protected.

    Raises:
        FileNotFoundError: there is no such bag.
        ValueError: an MCAP file was cut or its index is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no bag {path}")
    files = sorted(_storage_files(path)) if path.is_dir() else [path]
    checks = [check_mcap(file) for file in files if file.suffix == ".mcap"]
    records, unchecked = sum(one.records for one in checks), sum(one.unchecked for one in checks)
    if unchecked:
        return (
            f"{path}: {unchecked} of {records} records have no checksum; damage inside of them is not noticed"
        )
    if not checks and any(file.suffix == ".db3" for file in files):
        return f"{path}: SQLite3 bags have no checksums; damage inside of a message is not noticed"
    return ""


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """A bag to read from.

    Raises:
        FileNotFoundError: there is no such bag.
        ValueError: it is damaged, no bag, or empty.
    """
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise ValueError(
            f"{path} has no metadata.yaml, so its recording was not ended in order: "
            f"`ros2 bag reindex {path}` writes one, or give the file in it"
        )
    unchecked_part(path)
    reader = None
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
    except Exception as error:  # of rosbags, zstd, lz4, apsw, struct: a damaged file gets any of them
        raise ValueError(f"{path} is no readable ROS 2 bag: {_words(error)}") from error
    try:
        if reader.message_count == 0:
            raise ValueError(f"{path} is empty: it holds no message")
        yield reader
    finally:
        reader.close()


def connections_of(bag: AnyReader, path: Path, topic: str, types: Collection[str]) -> list[Connection]:
    """The connections (one for each recorded publisher) of a topic.

    Raises:
        ValueError: there is no such topic, or its type is none of `types`.
    """
    found = [connection for connection in bag.connections if connection.topic == topic]
    if not found:
        topics = ", ".join(sorted({connection.topic for connection in bag.connections})) or "none"
        raise ValueError(f"{path} has no topic {topic}; topics there: {topics}")
    for connection in found:
        if connection.msgtype not in types:
            raise ValueError(
                f"{path}: {topic} has messages of type {connection.msgtype}; needed: {' or '.join(sorted(types))}"
            )
    return found


def messages_of(bag: AnyReader, path: Path, connections: Collection[Connection]) -> Iterator[Any]:
    """The messages of these connections in recorded order, each read when it is asked for.

    Raises:
        ValueError: a part of the file is damaged, or holds fewer messages than its index says.
    """
    for number, (connection, _, data) in enumerate(raw_messages_of(bag, path, connections), start=1):
        yield message_of(bag, path, connection, data, number)


def message_of(bag: AnyReader, path: Path, connection: Connection, data: bytes, number: int) -> Any:
    """The message with these bytes; ValueError names its number where it is damaged."""
    try:
        return bag.deserialize(data, connection.msgtype)
    except Exception as error:  # as in open_bag
        raise ValueError(
            f"{path} is damaged at message {number} of {connection.topic}: {_words(error)}"
        ) from error


def raw_messages_of(
    bag: AnyReader, path: Path, connections: Collection[Connection]
) -> Iterator[tuple[Connection, int, bytes]]:
    """The messages of these connections as bytes, each with its connection and the time of its recording in ns.

    Raises:
        ValueError: as `messages_of`.
    """
    recorded = bag.messages(list(connections))
    promised = sum(connection.msgcount for connection in connections)
    topics = ", ".join(sorted({connection.topic for connection in connections}))
    count = 0
    while True:
        try:
            found = next(recorded)
        except StopIteration:
            break
        except Exception as error:  # as in open_bag
            raise ValueError(
                f"{path} is damaged at message {count + 1} of {topics}: {_words(error)}"
            ) from error
        count += 1
        yield found
    if count != promised:
        raise ValueError(
            f"{path} is damaged: its index has {promised} messages of {topics}, the file {count}"
        )


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _storage_files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if file.suffix in BAG_SUFFIXES)
