"""The node's executor: it works when there is work, and a waiting service call holds nothing up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from sam2s_ros.nodes.executor import QuickGroup, TrackerExecutor

MESSAGES = 40
CALLS = 40
THREADS = 2
PATIENCE_S = 30.0


class CountingExecutor(TrackerExecutor):
    """Counts its turns."""

    turns = 0

    def spin_once(self, timeout_sec: float | None = None) -> None:
        self.turns += 1
        super().spin_once(timeout_sec)


@pytest.fixture
def node(ros: None) -> Iterator[Node]:
    node = rclpy.create_node("spun")
    yield node
    node.destroy_node()


@pytest.fixture
def executor(node: Node) -> Iterator[CountingExecutor]:
    executor = CountingExecutor(THREADS)
    executor.add_node(node)
    spinner = threading.Thread(target=executor.spin)
    spinner.start()
    yield executor
    executor.shutdown()
    spinner.join()


def test_a_message_takes_few_turns_while_other_threads_compute(
    node: Node, executor: CountingExecutor
) -> None:
    """rclpy's own executor with threads takes several times as many, and the interpreter's lock with each."""
    arrived: list[Empty] = []
    more = threading.Semaphore(0)
    computing = threading.Event()
    computing.set()

    def compute() -> None:
        while computing.is_set():
            sum(range(1000))

    def take(message: Empty) -> None:
        arrived.append(message)
        more.release()

    node.create_subscription(Empty, "message", take, 10)
    publisher = node.create_publisher(Empty, "message", 10)
    rivals = [threading.Thread(target=compute) for _ in range(2)]
    for rival in rivals:
        rival.start()
    try:
        before = executor.turns
        for _ in range(MESSAGES):
            publisher.publish(Empty())
            assert more.acquire(timeout=PATIENCE_S), f"only {len(arrived)} messages came"
        turns = executor.turns - before
    finally:
        computing.clear()
        for rival in rivals:
            rival.join()
    assert turns <= 2 * MESSAGES + 10


def test_messages_are_taken_while_a_service_call_waits(node: Node, executor: CountingExecutor) -> None:
    """A prompt may wait for the tracker for seconds; images and heartbeat go on, and so does a second call."""
    may_end, begun, arrived = threading.Event(), threading.Semaphore(0), threading.Event()
    group = ReentrantCallbackGroup()

    def wait(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        begun.release()
        response.success = may_end.wait(PATIENCE_S)
        return response

    node.create_service(Trigger, "wait", wait, callback_group=group)
    client = node.create_client(Trigger, "wait", callback_group=group)
    node.create_subscription(Empty, "message", lambda _: arrived.set(), 10)
    publisher = node.create_publisher(Empty, "message", 10)
    assert client.wait_for_service(PATIENCE_S)
    calls = [client.call_async(Trigger.Request()) for _ in range(2)]
    answered = threading.Semaphore(0)
    for call in calls:
        call.add_done_callback(lambda _: answered.release())
    try:
        assert begun.acquire(timeout=PATIENCE_S) and begun.acquire(timeout=PATIENCE_S), "both calls run"
        publisher.publish(Empty())
        assert arrived.wait(PATIENCE_S), "a message is taken meanwhile"
        assert not any(call.done() for call in calls)
    finally:
        may_end.set()
    for _ in calls:
        assert answered.acquire(timeout=PATIENCE_S), "both calls are answered"
    results = [call.result() for call in calls]
    assert all(result is not None and result.success for result in results)


def test_quick_calls_go_on_while_all_threads_of_the_others_wait(
    node: Node, executor: CountingExecutor
) -> None:
    """Each of many at once is answered, though rclpy would take one in a turn."""
    may_end, begun, answered = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def wait(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        begun.release()
        may_end.wait(PATIENCE_S)
        return response

    def count(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        return response

    group, depth = ReentrantCallbackGroup(), QoSProfile(depth=CALLS)
    node.create_service(Trigger, "wait", wait, callback_group=group)
    node.create_service(Trigger, "count", count, callback_group=QuickGroup(), qos_profile=depth)
    slow = node.create_client(Trigger, "wait", callback_group=group)
    quick = node.create_client(Trigger, "count", callback_group=group, qos_profile=depth)
    assert slow.wait_for_service(PATIENCE_S) and quick.wait_for_service(PATIENCE_S)
    try:
        for _ in range(THREADS):
            slow.call_async(Trigger.Request())
            assert begun.acquire(timeout=PATIENCE_S)
        calls = [quick.call_async(Trigger.Request()) for _ in range(CALLS)]
        for call in calls:
            call.add_done_callback(lambda _: answered.release())
        for number in range(CALLS):
            assert answered.acquire(timeout=PATIENCE_S), f"{number} of {CALLS} are answered"
        assert all(call.result().success for call in calls)
    finally:
        may_end.set()


@pytest.mark.parametrize("group", [QuickGroup, ReentrantCallbackGroup])
def test_what_a_service_raises_is_logged_and_the_next_call_is_answered(
    node: Node, executor: CountingExecutor, group: type, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its client gets no answer, as with rclpy's own executor, but the reason is said."""
    calls, answered = [0], threading.Event()

    def fail_first(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        calls[0] += 1
        if calls[0] == 1:
            raise RuntimeError("of the service")
        return response

    node.create_service(Trigger, "failing", fail_first, callback_group=group())
    client = node.create_client(Trigger, "failing")
    assert client.wait_for_service(PATIENCE_S)
    client.call_async(Trigger.Request())
    client.call_async(Trigger.Request()).add_done_callback(lambda _: answered.set())
    assert answered.wait(PATIENCE_S)
    logged, limit = "", time.monotonic() + PATIENCE_S  # by another thread than the one that answered
    while "RuntimeError: of the service" not in logged and time.monotonic() < limit:
        logged += capfd.readouterr().err
        time.sleep(0.01)
    assert "RuntimeError: of the service" in logged


def test_what_a_callback_raises_ends_the_spinning(node: Node) -> None:
    """Nothing is caught to be ignored."""

    def fail(_: Empty) -> None:
        raise RuntimeError("of the callback")

    executor = TrackerExecutor(1)
    executor.add_node(node)
    node.create_subscription(Empty, "message", fail, 10)
    node.create_publisher(Empty, "message", 10).publish(Empty())
    with pytest.raises(RuntimeError, match="of the callback"):
        executor.spin()
    executor.shutdown()
