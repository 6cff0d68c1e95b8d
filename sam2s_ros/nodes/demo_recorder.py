"""Records topics into a bag with the bytes as they came over DDS: no message is decoded and encoded again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from sam2s_ros.nodes.shares import message_definitions


@dataclass(frozen=True)
class RecordedTopic:
    """What to subscribe to; `listener(receipt_ns, data)` is called with each serialized message after it is written, or
    without that where it is not `kept`.
    """

    name: str
    message_class: Any
    qos: QoSProfile
    listener: Callable[[int, bytes], None] | None = None
    kept: bool = True


class BagRecorder:
    """Writes topics to a new MCAP bag folder, log times being the times of receipt; use it as a context
    manager.

    The callbacks must all run on one thread (a SingleThreadedExecutor); remove the node from it before
    leaving.
    """

    def __init__(self, node: Node, folder: Path, topics: Sequence[RecordedTopic]) -> None:
        """`folder` must not exist; topic names are resolved by `node`."""
        self._node = node
        self._topics = topics
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._subscriptions: list[Any] = []
        self.counts: dict[str, int] = {topic.name: 0 for topic in topics}

    def __enter__(self) -> BagRecorder:
        """Open the bag and subscribe."""
        self._writer.open()
        typestore = recording_typestore()
        for topic in self._topics:
            name = self._node.resolve_topic_name(topic.name)
            connection = None
            if topic.kept:
                connection = self._writer.add_connection(
                    name, type_name(topic.message_class), typestore=typestore
                )
            callback = self._make_callback(topic, connection)
            subscription = self._node.create_subscription(
                topic.message_class, topic.name, callback, topic.qos, raw=True
            )
            self._subscriptions.append(subscription)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unsubscribe and finish the bag."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._writer.close()

    def _make_callback(self, topic: RecordedTopic, connection: Any) -> Callable[[bytes], None]:
        def record(data: bytes) -> None:
            receipt_ns = time.time_ns()
            if connection is not None:
                self._writer.write(connection, receipt_ns, data)
            self.counts[topic.name] += 1
            if topic.listener is not None:
                topic.listener(receipt_ns, data)

        return record


def type_name(message_class: Any) -> str:
    """Name of a message class, for example sensor_msgs/msg/Image."""
    return f"{message_class.__module__.split('.')[0]}/msg/{message_class.__name__}"


def recording_typestore() -> Typestore:
    """The standard message types and those of sam2s_msgs, as installed."""
    typestore = get_typestore(Stores.ROS2_KILTED)
    types: dict[str, Any] = {}
    for path in message_definitions("sam2s_msgs"):
        types.update(get_types_from_msg(path.read_text(), f"sam2s_msgs/msg/{path.stem}"))
    typestore.register(types)
    return typestore
