"""Replaying a bag: stamps become now, everything else stays."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from sam2s_ros.nodes.messages import stamp_to_ns  # noqa: E402
from sam2s_ros.nodes.replay import (  # noqa: E402
    LATCHED,
    STREAM,
    BagFile,
    ReplayNode,
    Restamper,
    read_stamp,
    wait_for_subscribers,
    write_stamp,
)

STORE = get_typestore(Stores.ROS2_HUMBLE)
PERIOD_NS = 40_000_000
FRAMES = 6


def header(stamp_ns: int):
    time_type, header_type = STORE.types["builtin_interfaces/msg/Time"], STORE.types["std_msgs/msg/Header"]
    return header_type(stamp=time_type(*divmod(stamp_ns, 1_000_000_000)), frame_id="endoscope")


def image(stamp_ns: int, number: int) -> bytes:
    kind = STORE.types["sensor_msgs/msg/CompressedImage"]
    message = kind(header=header(stamp_ns), format="jpeg", data=np.full(5, number, np.uint8))
    return bytes(STORE.serialize_cdr(message, kind.__msgtype__))


def labels(stamp_ns: int, number: int) -> bytes:
    kind = STORE.types["sensor_msgs/msg/Image"]
    pixels = np.full(12, number, np.uint8)
    message = kind(
        header=header(stamp_ns), height=3, width=4, encoding="mono8", is_bigendian=0, step=4, data=pixels
    )
    return bytes(STORE.serialize_cdr(message, kind.__msgtype__))


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Six images and label images with equal stamps, 40 ms apart, and one message without a header."""
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        names = writer.add_connection("/names", "std_msgs/msg/String", typestore=STORE)
        images = writer.add_connection("/camera", "sensor_msgs/msg/CompressedImage", typestore=STORE)
        truth = writer.add_connection("/truth", "sensor_msgs/msg/Image", typestore=STORE)
        text = STORE.types["std_msgs/msg/String"](data="names")
        writer.write(names, 0, bytes(STORE.serialize_cdr(text, "std_msgs/msg/String")))
        for number in range(FRAMES):
            stamp_ns = 5_000_000_000 + number * PERIOD_NS
            writer.write(images, stamp_ns, image(stamp_ns, number))
            writer.write(truth, stamp_ns, labels(stamp_ns, number))
    return tmp_path / "bag"


def test_restamping_changes_the_stamp_and_no_other_byte():
    data = image(5_123_456_789, 7)
    changed = write_stamp(data, 1_700_000_000_987_654_321)
    assert read_stamp(changed) == 1_700_000_000_987_654_321
    assert changed[12:] == data[12:] and changed[:4] == data[:4]


def test_due_times_follow_the_recorded_stamps_whatever_is_late():
    restamper = Restamper(start_ns=1000, rate=2.0)
    assert [restamper.due_ns(stamp) for stamp in (500, 700, 1500)] == [1000, 1100, 1500]


def test_messages_of_one_recorded_stamp_get_one_new_stamp():
    restamper = Restamper(start_ns=0)
    assert restamper.stamp_ns(500, now_ns=9000) == 9000
    assert restamper.stamp_ns(700, now_ns=9500) == 9500
    assert restamper.stamp_ns(500, now_ns=9900) == 9000


def test_a_rate_that_would_never_end_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        Restamper(start_ns=0, rate=0.0)


def test_a_bag_without_any_header_is_refused(tmp_path: Path):
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/names", "std_msgs/msg/String", typestore=STORE)
    with pytest.raises(ValueError, match="no topic has a header"):
        BagFile(tmp_path / "bag")


class Listener(Node):
    """Keeps what arrives on the topics of the bag."""

    def __init__(self) -> None:
        super().__init__("listener")
        self.images: list[CompressedImage] = []
        self.truth: list[Image] = []
        self.names: list[String] = []
        self.create_subscription(CompressedImage, "/camera", self.images.append, STREAM)
        self.create_subscription(Image, "/truth", self.truth.append, STREAM)
        self.create_subscription(String, "/names", self.names.append, LATCHED)


def test_replayed_over_dds_in_order_with_the_stamps_of_now_shared_with_the_ground_truth(ros, bag: Path):
    listener, player = Listener(), ReplayNode(BagFile(bag))
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        wait_for_subscribers(player.publishers_by_topic, {"/camera": 1, "/truth": 1, "/names": 1}, 20.0)
        begun_ns = time.time_ns()
        player.play_once(rate=1.0)
        deadline = time.monotonic() + 20.0
        while len(listener.truth) < FRAMES and time.monotonic() < deadline:
            time.sleep(0.02)
        ended_ns = time.time_ns()
    finally:
        executor.shutdown()
        thread.join(10.0)
        listener.destroy_node()
        player.destroy_node()
    stamps = [stamp_to_ns(message.header.stamp) for message in listener.images]
    assert [message.data[0] for message in listener.images] == list(range(FRAMES))
    assert stamps == sorted(stamps) and begun_ns <= stamps[0] and stamps[-1] <= ended_ns
    assert stamps[-1] - begun_ns >= (FRAMES - 1) * PERIOD_NS
    assert [stamp_to_ns(message.header.stamp) for message in listener.truth] == stamps
    assert [message.data for message in listener.names] == ["names"]


def test_waiting_for_subscribers_that_do_not_come_says_which(ros, bag: Path):
    player = ReplayNode(BagFile(bag))
    with pytest.raises(TimeoutError, match="0 on /camera"):
        wait_for_subscribers(player.publishers_by_topic, {"/camera": 1}, 0.2)
    player.destroy_node()
