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
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from sam2s_ros.evaluation.ahead import ReadAhead  # noqa: E402
from sam2s_ros.nodes.bag_file import BagFile, RecordedMessage, read_stamp, write_stamp  # noqa: E402
from sam2s_ros.nodes.messages import stamp_to_ns  # noqa: E402
from sam2s_ros.nodes.playback import Timeline, TimingError  # noqa: E402
from sam2s_ros.nodes.replay import (  # noqa: E402
    AHEAD_BYTES,
    CLOCK,
    LATCHED,
    STREAM,
    ReplayNode,
    data_bytes,
    main,
    wait_for_subscribers,
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


def test_due_times_and_stamps_keep_the_recorded_distances():
    timeline = Timeline(first_ns=500, start_ns=1000, stamp_start_ns=9000, rate=2.0)
    assert [timeline.due_ns(stamp) for stamp in (500, 700, 1500)] == [1000, 1100, 1500]
    assert [timeline.stamp_ns(stamp) for stamp in (500, 700, 1500)] == [9000, 9100, 9500]
    assert timeline.recorded_ns(1100) == 700


def test_a_rate_that_would_never_end_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        Timeline(0, 0, 0, rate=0.0)


def test_timing_errors_are_counted_in_the_same_memory():
    late = TimingError()
    assert late.document() == {"messages": 0, "p50": None, "p99": None, "max": None}
    for number in range(1000):
        late.add(-5 if number < 900 else 1_500_000 if number < 995 else 7_123_456_789)
    found = late.document()
    assert found["messages"] == 1000 and found["p50"] <= 0.01
    assert found["p99"] == pytest.approx(1.5, abs=0.02) and found["max"] == pytest.approx(7123.456789)


def numbered(count: int, size: int = 1000):
    return (RecordedMessage("t", number, bytes(size)) for number in range(count))


def test_reading_ahead_keeps_the_order_and_holds_no_more_than_it_may():
    taken = []

    def source():
        for item in numbered(50):
            taken.append(item.stamp_ns)
            yield item

    with ReadAhead(source(), 3000, data_bytes) as ahead:
        items = iter(ahead)
        assert next(items).stamp_ns == 0
        time.sleep(0.05)
        assert len(taken) <= 6
        assert [one.stamp_ns for one in items] == list(range(1, 50))


def test_an_error_of_reading_comes_in_its_place():
    def source():
        yield from numbered(3)
        raise ValueError("the bag is damaged")

    seen = []
    with (
        pytest.raises(ValueError, match="the bag is damaged"),
        ReadAhead(source(), AHEAD_BYTES, data_bytes) as ahead,
    ):
        for item in ahead:
            seen.append(item.stamp_ns)
    assert seen == [0, 1, 2]


def test_a_bag_without_any_header_is_refused(tmp_path: Path):
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        names = writer.add_connection("/names", "std_msgs/msg/String", typestore=STORE)
        text = STORE.types["std_msgs/msg/String"](data="names")
        writer.write(names, 0, bytes(STORE.serialize_cdr(text, "std_msgs/msg/String")))
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
        self.clock: list[int] = []
        self.create_subscription(
            Clock, "/clock", lambda message: self.clock.append(stamp_to_ns(message.clock)), CLOCK
        )


def replayed(bag: Path, clock_hz: float | None = None) -> tuple[Listener, ReplayNode]:
    """What a listener in the same process has got of the bag at the recorded pace; both nodes are destroyed."""
    listener, player = Listener(), ReplayNode(BagFile(bag), clock_hz)
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    try:
        wait_for_subscribers(player.publishers_by_topic, {"/camera": 1, "/truth": 1, "/names": 1}, 20.0)
        player.play_once(rate=1.0)
        deadline = time.monotonic() + 20.0
        while len(listener.truth) < FRAMES and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        executor.shutdown()
        thread.join(10.0)
        listener.destroy_node()
        player.destroy_node()
    return listener, player


def test_replayed_over_dds_in_order_with_the_stamps_of_now_shared_with_the_ground_truth(ros, bag: Path):
    begun_ns = time.time_ns()
    listener, player = replayed(bag)
    ended_ns = time.time_ns()
    stamps = [stamp_to_ns(message.header.stamp) for message in listener.images]
    assert [message.data[0] for message in listener.images] == list(range(FRAMES))
    assert begun_ns <= stamps[0] and stamps[-1] <= ended_ns
    assert np.diff(stamps).tolist() == [PERIOD_NS] * (FRAMES - 1)
    assert [stamp_to_ns(message.header.stamp) for message in listener.truth] == stamps
    assert [message.data for message in listener.names] == ["names"] and not listener.clock
    document = player.document()
    assert document["first_stamp_ns"] == {"recorded": 5_000_000_000, "published": stamps[0]}
    assert document["published"] == {"/names": 1, "/camera": FRAMES, "/truth": FRAMES}
    assert document["late_ms"]["messages"] == 2 * FRAMES and document["late_ms"]["max"] >= 0


def test_on_sim_time_nothing_is_changed_and_the_clock_runs_ahead_of_no_message(ros, bag: Path):
    listener, _ = replayed(bag, clock_hz=200.0)
    stamps = [stamp_to_ns(message.header.stamp) for message in listener.images]
    assert stamps == [5_000_000_000 + number * PERIOD_NS for number in range(FRAMES)]
    assert listener.clock == sorted(listener.clock) and len(listener.clock) > 2 * FRAMES
    assert listener.clock[0] < stamps[0] and listener.clock[-1] == stamps[-1]


def test_a_clock_that_would_go_back_is_refused(bag: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([str(bag), "--clock", "--loop"])
    assert "--loop would make /clock go back" in capsys.readouterr().err


def test_waiting_for_subscribers_that_do_not_come_says_which(ros, bag: Path):
    player = ReplayNode(BagFile(bag))
    with pytest.raises(TimeoutError, match="0 on /camera"):
        wait_for_subscribers(player.publishers_by_topic, {"/camera": 1}, 0.2)
    player.destroy_node()
