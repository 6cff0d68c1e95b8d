"""What a subscriber sees of a tracker that must not be trusted, over DDS: status, liveliness, deadline, no old tables.

Times are those set by the node's parameters plus a margin for a slow machine. Every test begins with a stream that is
well, which is the control: while it is, no liveliness is lost.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from node_harness import Camera, Client, NodeProcess, block_mask, isolated_ros, mask, scene
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from sam2s_msgs.msg import LabelTable, Prompt, TrackedObject, TrackedObjectArray

STALE_S, LEASE_S, DEADLINE_S = 1.0, 3.0, 2.0
MARGIN_S = 15.0
"""What a busy machine may add to the set times."""
TROUBLE_S = STALE_S + LEASE_S + 2 * MARGIN_S
RATE_HZ = 10.0
OK, STALE = TrackedObjectArray.OK, TrackedObjectArray.STALE


class Controller:
    """A consumer as docs/safety.md asks for: it is told when the node is silent."""

    def __init__(self, client: Client) -> None:
        self.lost, self.gained, self.missed = 0, 0, 0
        qos = QoSProfile(
            depth=5,
            deadline=Duration(seconds=DEADLINE_S),
            liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
            liveliness_lease_duration=Duration(seconds=LEASE_S),
        )
        events = SubscriptionEventCallbacks(liveliness=self._on_liveliness, deadline=self._on_deadline)
        self.arrays: list[TrackedObjectArray] = []
        client.node.create_subscription(
            TrackedObjectArray, "/tracker/objects", self.arrays.append, qos, event_callbacks=events
        )

    def _on_liveliness(self, event: Any) -> None:
        self.lost += max(0, event.not_alive_count_change)
        self.gained += max(0, event.alive_count_change)

    def _on_deadline(self, event: Any) -> None:
        self.missed += event.total_count_change


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file by which a test gets the engine into trouble."""
    return tmp_path_factory.mktemp("order") / "order"


@pytest.fixture(scope="module")
def stream(order: Path) -> Iterator[tuple[NodeProcess, Client, Camera, Controller]]:
    """An active node that can be got into trouble, a client, a camera and a consumer."""
    parameters = {
        "autostart": True,
        "threads": 1,
        "stale_after_s": STALE_S,
        "heartbeat_period_s": 0.2,
        "liveliness_lease_s": LEASE_S,
        "objects_deadline_s": DEADLINE_S,
    }
    program = (str(Path(__file__).parent / "troubled_tracker.py"), str(order))
    with isolated_ros():
        process = NodeProcess(parameters, program=program)
        client = Client()
        client.connect()
        controller, camera = Controller(client), Camera(client, RATE_HZ)
        yield process, client, camera, controller
        camera.stop()
        client.close()
        process.end()


@pytest.fixture
def healthy(stream: tuple[NodeProcess, Client, Camera, Controller]) -> Any:
    """A stream that has been well for longer than the lease: then the events are counted from 0."""
    process, client, camera, controller = stream
    camera.picture, camera.shift_s = scene, 0.0
    camera.on.set()
    assert client.call("reset").success
    client.wait(lambda: add_probe(client), "an image to mark the object on")
    client.wait(lambda: well(controller), "a stream that is well")
    controller.lost = 0
    time.sleep(LEASE_S + 1)
    assert well(controller) and controller.lost == 0, "no liveliness is lost while all is well"
    controller.missed = 0
    return process, client, camera, controller


def add_probe(client: Client) -> bool:
    return bool(client.call("add_object", name="probe", prompt=Prompt(**mask(block_mask()))).success)


def well(controller: Controller) -> bool:
    last = controller.arrays[-5:]
    return len(last) == 5 and all(one.status == OK and len(one.objects) == 1 for one in last)


def seen(client: Client, controller: Controller, status: int, words: str) -> TrackedObjectArray:
    """The first array from now on with this status and reason, within the set time and a margin."""
    begin = len(controller.arrays)

    def find() -> TrackedObjectArray | None:
        return next(
            (
                one
                for one in controller.arrays[begin:]
                if one.status == status and words in one.status_message
            ),
            None,
        )

    return client.wait(find, f"status {status} with '{words}'", STALE_S + MARGIN_S)


def test_images_that_stop_are_seen(healthy: Any) -> None:
    """STALE again and again, from a node that lives: no liveliness is lost."""
    _, client, camera, controller = healthy
    camera.on.clear()
    seen(client, controller, STALE, "no image tracked")
    time.sleep(LEASE_S)
    assert controller.lost == 0 and controller.arrays[-1].status == STALE


def test_images_that_freeze_are_seen(healthy: Any) -> None:
    """At once by state and condition, after the set time by status, though stamps go on."""
    _, client, camera, controller = healthy
    camera.picture = lambda number: scene(7)
    begin = len(controller.arrays)
    stale = seen(client, controller, STALE, "frozen")
    frozen = [
        one for one in controller.arrays[begin:] if one.image_condition == TrackedObjectArray.IMAGE_FROZEN
    ]
    assert stale.image_condition == TrackedObjectArray.IMAGE_FROZEN
    assert all(one.status_message for one in frozen)
    assert {item.state for one in frozen for item in one.objects}.isdisjoint({TrackedObject.TRACKING})
    assert "frozen" in frozen[0].objects[0].state_reason


def test_stamps_that_go_back_are_seen(healthy: Any) -> None:
    _, client, camera, controller = healthy
    camera.shift_s = -100.0
    seen(client, controller, STALE, "older than the one before")


def test_an_engine_that_sleeps_is_seen_by_status_and_by_liveliness(healthy: Any, order: Path) -> None:
    """The node still says STALE, once, and is then silent, so that its lease runs out; afterwards all is well again."""
    _, client, _, controller = healthy
    order.write_text(f"sleep {TROUBLE_S}")
    seen(client, controller, STALE, "engine")
    client.wait(lambda: controller.lost, "the loss of liveliness", LEASE_S + MARGIN_S)
    client.wait(lambda: controller.missed, "the missed deadline", DEADLINE_S + MARGIN_S)
    client.wait(lambda: well(controller), "a stream that is well again")


def test_a_worker_that_holds_the_interpreter_is_seen_by_liveliness(healthy: Any, order: Path) -> None:
    """No thread of the node can say anything: the middleware does."""
    _, client, _, controller = healthy
    order.write_text(f"hold {LEASE_S + MARGIN_S}")
    client.wait(lambda: not order.exists(), "the trouble to begin", MARGIN_S)
    client.wait(lambda: controller.lost, "the loss of liveliness", LEASE_S + MARGIN_S)
    client.wait(lambda: well(controller), "a stream that is well again")


def test_a_stopped_process_is_seen_by_liveliness_and_by_deadline(healthy: Any) -> None:
    process, client, _, controller = healthy
    os.kill(process.process.pid, signal.SIGSTOP)
    try:
        client.wait(lambda: controller.lost, "the loss of liveliness", LEASE_S + MARGIN_S)
        client.wait(lambda: controller.missed, "the missed deadline", DEADLINE_S + MARGIN_S)
    finally:
        os.kill(process.process.pid, signal.SIGCONT)
    client.wait(lambda: well(controller), "a stream that is well again")


def test_subscribers_with_default_qos_match(healthy: Any) -> None:
    """They ask for no deadline and automatic liveliness, which is less than what is offered."""
    _, client, _, _ = healthy
    arrived: list[TrackedObjectArray] = []
    subscription = client.node.create_subscription(TrackedObjectArray, "/tracker/objects", arrived.append, 10)
    client.wait(lambda: arrived, "an array", MARGIN_S)
    offered = client.node.get_publishers_info_by_topic("/tracker/objects")[0].qos_profile
    assert offered.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
    assert offered.deadline == Duration(seconds=DEADLINE_S)
    client.node.destroy_subscription(subscription)


def test_the_consumer_of_the_docs_acts_and_stops(healthy: Any, repository_root: Path) -> None:
    """The snippet of docs/safety.md, run as it stands: it acts while all is well, and stops when images do."""
    _, client, camera, _ = healthy
    code = (repository_root / "docs" / "safety.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    acted: list[int] = []
    stopped: list[str] = []
    consumer = names["Consumer"](max_age_s=3.0, lease_s=LEASE_S)
    consumer.act, consumer.stop = lambda objects: acted.append(len(objects)), stopped.append
    client.spin(consumer)
    client.wait(lambda: len(acted) > 5, "the consumer to act", MARGIN_S)
    assert not stopped, "the control"
    camera.on.clear()
    client.wait(lambda: stopped, "the consumer to stop", STALE_S + MARGIN_S)
    assert "no image tracked" in stopped[0]
    consumer.destroy_node()


def late_tables(client: Client) -> list[LabelTable]:
    """What somebody who subscribes now gets of the latched label table within 3 s."""
    tables: list[LabelTable] = []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = client.node.create_subscription(LabelTable, "/tracker/label_table", tables.append, latched)
    time.sleep(3)
    client.node.destroy_subscription(subscription)
    return tables


def test_a_deactivated_tracker_leaves_nothing_to_act_on(healthy: Any) -> None:
    """Its last array is STALE and has no objects, its latched label table is empty, its liveliness runs out."""
    _, client, _, controller = healthy
    assert [one.name for table in late_tables(client) for one in table.entries] == ["probe"], "the control"
    assert client.transition(Transition.TRANSITION_DEACTIVATE)
    try:
        last = seen_last(client, controller)
        assert (last.status, list(last.objects)) == (STALE, []) and "deactivated" in last.status_message
        assert [list(table.entries) for table in late_tables(client)] in ([], [[]])
        client.wait(lambda: controller.lost, "the loss of liveliness", LEASE_S + MARGIN_S)
    finally:
        assert client.transition(Transition.TRANSITION_ACTIVATE)


def seen_last(client: Client, controller: Controller) -> TrackedObjectArray:
    """The newest array once it says that the tracker was deactivated."""
    client.wait(lambda: "deactivated" in controller.arrays[-1].status_message, "the last array", MARGIN_S)
    return controller.arrays[-1]


def test_a_killed_tracker_leaves_nothing_latched(healthy: Any) -> None:
    """Nobody who comes later gets its label table, and its liveliness runs out. The last test, which ends the node."""
    process, client, _, controller = healthy
    assert [one.name for table in late_tables(client) for one in table.entries] == ["probe"], "the control"
    process.process.kill()
    client.wait(lambda: controller.lost, "the loss of liveliness", LEASE_S + MARGIN_S)
    assert late_tables(client) == []
