"""When the stream's status says not to act on the objects, on times made by hand; and who may say it again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from sam2s_msgs.msg import TrackedObject, TrackedObjectArray
from sam2s_ros.nodes.frame_worker import FrameWorker, WorkerStoppedError
from sam2s_ros.nodes.heartbeat import Heartbeat
from sam2s_ros.nodes.settings import NodeSettings, SettingsError, read_settings
from sam2s_ros.nodes.stream_watch import StreamWatch, stamp_trouble
from sam2s_ros.tracking import ImageCondition, TrackState

STALE_S = 0.5
USABLE, BLACK, FROZEN = ImageCondition.USABLE, ImageCondition.BLACK, ImageCondition.FROZEN


def result(stamp_ns: int, condition: ImageCondition = ImageCondition.USABLE, needs_reset: str = "") -> Any:
    return SimpleNamespace(stamp_ns=stamp_ns, condition=condition, needs_reset=needs_reset)


@pytest.fixture
def watch() -> StreamWatch:
    return StreamWatch("/image", STALE_S, now_s=0.0)


def test_conditions_and_states_have_the_numbers_of_the_messages() -> None:
    for condition in ImageCondition:
        assert getattr(TrackedObjectArray, f"IMAGE_{condition.name}") == condition
    for state in TrackState:
        assert getattr(TrackedObject, state.name) == state


def test_a_stream_in_order_has_no_trouble(watch: StreamWatch) -> None:
    for number in range(100):
        assert watch.tracked(result(number + 1), number * 0.04) == ""
        assert watch.status(number * 0.04 + 0.02) is None


def test_before_the_first_image_there_is_no_input(watch: StreamWatch) -> None:
    status = watch.status(0.01)
    assert status is not None and status[0] == TrackedObjectArray.NO_INPUT and "/image" in status[1]


def test_images_that_stop_are_stale_after_the_set_time(watch: StreamWatch) -> None:
    watch.tracked(result(1), 1.0)
    assert watch.status(1.0 + STALE_S) is None
    status = watch.status(1.01 + STALE_S)
    assert status is not None and status[0] == TrackedObjectArray.STALE and "0.5 s" in status[1]


@pytest.mark.parametrize("condition", [FROZEN, BLACK])
def test_images_that_show_nothing_are_stale_after_the_set_time(
    watch: StreamWatch, condition: ImageCondition
) -> None:
    """However regularly they come; and at once no longer when one shows something again."""
    watch.tracked(result(1), 0.0)
    troubles = [watch.tracked(result(number + 2, condition), 0.1 * (number + 1)) for number in range(20)]
    assert [bool(trouble) for trouble in troubles] == [False] * 5 + [True] * 15
    assert condition.reason in troubles[-1]
    assert watch.tracked(result(30), 2.2) == ""


def test_images_that_show_nothing_from_the_start_are_stale_after_the_set_time(watch: StreamWatch) -> None:
    troubles = [watch.tracked(result(number + 1, BLACK), 10 + 0.1 * number) for number in range(8)]
    assert [bool(trouble) for trouble in troubles] == [False] * 6 + [True] * 2


def test_stamps_that_go_back_are_stale_for_the_set_time(watch: StreamWatch) -> None:
    """Not for one array alone, which a subscriber may miss."""
    watch.tracked(result(3_000_000_000), 0.0)
    assert "2.000 s older" in watch.tracked(result(1_000_000_000), 0.1)
    assert "2.000 s older" in watch.tracked(result(1_100_000_000), 0.2)
    assert watch.tracked(result(1_600_000_000), 0.11 + STALE_S) == ""


def test_two_publishers_on_one_topic_are_stale_for_good(watch: StreamWatch) -> None:
    """Their stamps alternate."""
    watch.tracked(result(1_000), 0.0)
    troubles = [watch.tracked(result(stamp), 0.1 * n) for n, stamp in enumerate([5, 1_010, 15, 1_020] * 5)]
    assert all(troubles)


@pytest.mark.parametrize("turns", [1, 3, 20])
def test_two_publishers_that_take_turns_are_trouble_though_stamps_grow(
    watch: StreamWatch, turns: int
) -> None:
    """The second one's images from the first on, also where each sends for longer than the objects may be old."""
    troubles = []
    for number in range(60):
        watch.received_from("left" if number // turns % 2 else "right", 0.05 * number)
        trouble = watch.tracked(result(number + 1), 0.05 * number)
        assert trouble == "" or "two publishers on /image" in trouble
        troubles.append(bool(trouble))
    assert not any(troubles[:turns]) and all(troubles[turns : turns + 9]) and troubles[2 * turns]
    if turns < 20:
        assert all(troubles[turns:])


@pytest.mark.parametrize("period_s", [0.3, 2.0])
def test_an_image_of_a_second_publisher_is_trouble_however_seldom_it_sends(
    watch: StreamWatch, period_s: float
) -> None:
    strays = []
    for number in range(1, 200):
        now_s = 0.05 * number
        watch.received_from("camera", now_s)
        watch.tracked(result(2 * number), now_s)
        if number % round(period_s / 0.05) == 0:
            watch.received_from("stray", now_s + 0.01)
            strays.append(watch.tracked(result(2 * number + 1), now_s + 0.02))
    assert len(strays) >= 4 and all("two publishers" in trouble for trouble in strays)


def test_a_camera_that_is_started_anew_is_no_second_publisher(watch: StreamWatch) -> None:
    """Once the one before has been silent for as long as the objects may be old."""
    for number in range(60):
        now_s = 0.05 * number
        gone = number >= 15
        watch.received_from("after" if gone else "before", now_s)
        watch.received_from(None, now_s)
        trouble = watch.tracked(result(number + 1), now_s)
        assert (trouble != "") == (gone and now_s - 0.05 * 14 < STALE_S)


def test_a_camera_that_begins_after_a_silence_is_believed_at_once(watch: StreamWatch) -> None:
    watch.received_from("before", 0.0)
    watch.tracked(result(1), 0.0)
    watch.received_from("after", 0.0 + STALE_S)
    assert watch.tracked(result(2), STALE_S) == ""


def test_it_says_how_long_the_objects_may_still_be_believed(watch: StreamWatch) -> None:
    """From the newest image that shows something; nothing is to be waited for where it is said already."""
    assert watch.stale_in_s(0.0) == math.inf
    watch.tracked(result(1), 1.0)
    assert watch.stale_in_s(1.1) == pytest.approx(STALE_S - 0.1)
    watch.tracked(result(2, FROZEN), 1.2)
    assert watch.stale_in_s(1.2) == pytest.approx(STALE_S - 0.2)
    status = watch.status(1.01 + STALE_S)
    assert status is not None and status[0] == TrackedObjectArray.STALE and FROZEN.reason in status[1]
    assert watch.stale_in_s(1.6) == pytest.approx(-0.1)
    watch.tracked(result(3), 1.7)
    assert watch.stale_in_s(1.7) == pytest.approx(STALE_S) and watch.status(1.7) is None
    watch.failed("the device fell off the bus")
    assert watch.stale_in_s(9.0) == math.inf


def test_stamps_that_stand_still_are_trouble() -> None:
    """Nothing can be told by such stamps, least of all an age."""
    assert stamp_trouble(5, None) == "" and stamp_trouble(6, 5) == ""
    assert "stamp of the one before" in stamp_trouble(5, 5)


def test_after_a_reset_any_stamp_may_come(watch: StreamWatch) -> None:
    watch.tracked(result(1_000), 0.0)
    watch.forget()
    assert watch.tracked(result(5), 0.1) == ""


def test_a_change_of_size_is_trouble_until_the_reset(watch: StreamWatch) -> None:
    assert "~/reset" in watch.tracked(result(1, needs_reset="the size changed"), 0.0)
    status = watch.status(10.0)
    assert status is not None and "the size changed" in status[1]


def test_a_failure_is_told_until_an_image_is_tracked(watch: StreamWatch) -> None:
    watch.failed("the device fell off the bus")
    assert watch.status(0.1) == (TrackedObjectArray.ENGINE_FAILED, "the device fell off the bus")
    watch.tracked(result(1), 0.2)
    assert watch.status(0.3) is None


class Node:
    """A worker, what it is made to hang in, and what a heartbeat publishes."""

    def __init__(self) -> None:
        self.go_on = {"encode": threading.Event(), "track": threading.Event()}
        for event in self.go_on.values():
            event.set()
        self.said: list[tuple[int, str]] = []
        self.errors: list[Exception] = []
        self.worker: FrameWorker[int, int] = FrameWorker(
            self._encode, self._track, self.errors.append, "test"
        )
        self.watch = StreamWatch("/image", 0.2, time.monotonic())
        self.asserted = 0
        self.heartbeat = Heartbeat(self.worker, self.watch, self._repeat, self._assert, 0.2)
        self.worker.start()

    def _encode(self, frame: int) -> int:
        self.go_on["encode"].wait(30)
        return frame

    def _track(self, frame: int) -> None:
        self.go_on["track"].wait(30)
        self.watch.tracked(result(frame), time.monotonic())

    def _repeat(self, status: int, reason: str) -> None:
        self.said.append((status, reason))

    def _assert(self) -> None:
        self.asserted += 1

    def tick(self, seconds: float) -> None:
        """A timer of 20 ms for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.heartbeat.tick()
            time.sleep(0.02)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    for event in node.go_on.values():
        event.set()
    assert node.worker.stop(30)


def test_a_worker_that_comes_round_repeats_itself(node: Node) -> None:
    """The control: with nothing tracked NO_INPUT again and again, with an image tracked just now a sign of life."""
    node.tick(0.5)
    assert len(node.said) > 2 and {status for status, _ in node.said} == {TrackedObjectArray.NO_INPUT}
    node.worker.offer(1)
    node.tick(0.15)
    assert node.asserted > 0


@pytest.mark.parametrize("stage", ["encode", "track"])
def test_a_worker_that_hangs_is_reported_once_and_then_silent(node: Node, stage: str) -> None:
    """So the writer's lease runs out: a heartbeat that went on would keep it alive for ever."""
    node.worker.offer(1)
    node.tick(0.1)
    node.go_on[stage].clear()
    node.worker.offer(2)
    node.tick(1.0)
    reports = [
        reason for status, reason in node.said if status == TrackedObjectArray.STALE and "engine" in reason
    ]
    assert len(reports) == 1
    said, asserted = len(node.said), node.asserted
    node.tick(0.5)
    assert (len(node.said), node.asserted) == (said, asserted)
    node.go_on[stage].set()
    node.tick(0.3)
    assert len(node.said) > said or node.asserted > asserted, "alive again"


def test_objects_that_become_stale_are_not_left_until_the_next_beat(node: Node) -> None:
    """The checks alone, without a beat: each says when the next is due, and few are needed."""
    node.worker.offer(1)
    assert wait_until(lambda: node.watch.status(time.monotonic()) is None)
    checks = 0
    while not node.said:
        time.sleep(node.heartbeat.check())
        checks += 1
    assert node.said[0][0] == TrackedObjectArray.STALE and "no image tracked for 0.2" in node.said[0][1]
    assert checks <= 4
    time.sleep(node.heartbeat.check())
    said = len(node.said)
    assert node.heartbeat.check() == node.heartbeat.check() == 0.2 and len(node.said) <= said + 1


def test_a_worker_that_hangs_is_reported_as_soon_as_objects_are_stale(node: Node) -> None:
    node.worker.offer(1)
    assert wait_until(lambda: node.watch.status(time.monotonic()) is None)
    node.go_on["track"].clear()
    node.worker.offer(2)
    checks = 0
    while not node.said:
        time.sleep(node.heartbeat.check())
        checks += 1
    assert "the engine has been at work for too long" in node.said[0][1] and checks <= 5


def wait_until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_a_stopped_worker_refuses_what_is_posted() -> None:
    worker: FrameWorker[int, int] = FrameWorker(lambda frame: frame, lambda frame: None, print, "test")
    with pytest.raises(WorkerStoppedError):
        worker.post(lambda: None).result(0)


@pytest.mark.parametrize(("lease_s", "fits"), [(0.0, True), (0.3, False), (0.4, True)])
def test_a_lease_shorter_than_two_heartbeats_is_refused(lease_s: float, fits: bool) -> None:
    """It would run out between two of them; 0 is none."""
    values = {**asdict(NodeSettings()), "heartbeat_period_s": 0.2, "liveliness_lease_s": lease_s}
    node: Any = SimpleNamespace(get_parameter=lambda name: SimpleNamespace(value=values[name]))
    if fits:
        assert read_settings(node).liveliness_lease_s == lease_s
    else:
        with pytest.raises(SettingsError, match="liveliness_lease_s is 0.3 s: use at least twice"):
            read_settings(node)
