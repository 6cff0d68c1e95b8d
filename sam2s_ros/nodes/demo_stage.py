"""One part of the demo while it runs: the tracker node, the publisher and the recorder, from start to clean
end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from sam2s_msgs.msg import LabelTable, TrackedObjectArray
from sam2s_ros.nodes.bag_file import read_stamp
from sam2s_ros.nodes.client import Sam2sClient
from sam2s_ros.nodes.client_results import TrackerError
from sam2s_ros.nodes.demo_processes import ChildFailed, ChildProcess
from sam2s_ros.nodes.demo_prompting import (
    FirstAppearance,
    PromptedObject,
    bring_to_active,
    prompt_waiting,
)
from sam2s_ros.nodes.demo_recorder import BagRecorder, RecordedTopic
from sam2s_ros.nodes.replay import LATCHED
from sam2s_ros.nodes.ros_domain import own_domain

TRACKER = "tracker"
OBJECTS_TOPIC = f"/{TRACKER}/objects"
LABELS_TOPIC = f"/{TRACKER}/labels"
LABEL_TABLE_TOPIC = f"/{TRACKER}/label_table"
RECORDED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=200,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
NODE_UP_TIMEOUT_S = 120.0
TRANSITION_TIMEOUT_S = 120.0
DRAIN_S = 1.0  # for the answer to the last image


@dataclass(frozen=True)
class Stage:
    """What a part of the demo consists of; topics and names as the child processes see them."""

    name: str
    bag_folder: Path
    log_folder: Path
    environment: Mapping[str, str]
    tracker_arguments: Sequence[str]
    publisher_module: str
    publisher_arguments: Sequence[str]
    topics: Sequence[RecordedTopic]
    prompter: FirstAppearance
    object_names: Mapping[int, str]
    timeout_s: float
    tracker_module: str = "sam2s_ros.nodes.tracker_node"
    protocol: str = "mask"
    """How objects are prompted: mask, box or click (`evaluation.prompts`)."""


@dataclass(frozen=True)
class StageResult:
    """What happened: the objects that were added, and the last line that the publisher wrote."""

    prompted: tuple[PromptedObject, ...]
    publisher_line: str
    tracker_exit_status: int


def tracker_topics(prompter: FirstAppearance, labels: RecordedTopic | None = None) -> list[RecordedTopic]:
    """The tracker's topics to record; its objects messages tell `prompter` which images were tracked."""

    def tell(receipt_ns: int, data: bytes) -> None:
        prompter.image_tracked(read_stamp(data))

    topics = [
        RecordedTopic(OBJECTS_TOPIC, TrackedObjectArray, RECORDED, tell),
        RecordedTopic(LABEL_TABLE_TOPIC, LabelTable, LATCHED),
    ]
    return topics if labels is None else [*topics, labels]


@contextmanager
def isolated_domain(log_folder: Path) -> Iterator[None]:
    """A ROS domain of our own (`own_domain`) on this machine only.

    No packet leaves the machine. Child processes inherit all of it by environment variables.
    """
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if os.environ.get("ROS_DISTRO") == "humble":  # older than the variable above
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    os.environ["ROS_LOG_DIR"] = str(log_folder.resolve())
    with own_domain():
        yield


class Spinner:
    """A ROS node spun by a thread of its own while the context lasts."""

    def __init__(self, name: str) -> None:
        """Initialise rclpy without its signal handlers, which would take Ctrl-C from the caller, and make the
        node.
        """
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="spin", daemon=True)
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raise what a callback has raised."""
        if self._error is not None:
            raise self._error

    @contextmanager
    def spinning(self) -> Iterator[None]:
        """Run callbacks; none runs any more when this returns."""
        self._thread.start()
        try:
            yield
        finally:
            self._executor.shutdown(timeout_sec=5.0)
            self._thread.join(5.0)

    def close(self) -> None:
        """Destroy the node and shut rclpy down."""
        self.node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
        except BaseException as error:
            self._error = error


def run_stage(stage: Stage, say: Callable[[str], None]) -> StageResult:
    """Run one part from starting the node to its end, with every process ended whatever happens.

    Raises:
        ChildFailed: a process ended with an error, or the part took longer than `timeout_s`.
        TrackerError: the node did not come up or refused a prompt.
    """
    with ExitStack() as stack:
        spinner = Spinner(f"demo_{stage.name}")
        stack.callback(spinner.close)
        stack.enter_context(BagRecorder(spinner.node, stage.bag_folder, stage.topics))
        client = Sam2sClient(spinner.node, TRACKER, client="demo")
        stack.callback(client.close)
        stack.enter_context(spinner.spinning())
        tracker = stack.enter_context(
            _child(stage, f"{stage.name}_tracker", stage.tracker_module, stage.tracker_arguments)
        )
        client.wait_until_up(NODE_UP_TIMEOUT_S, tracker.check)
        say(f"{stage.name}: tracker node is up (pid {tracker.pid}), bringing it to active")
        try:
            bring_to_active(spinner.node, client, TRANSITION_TIMEOUT_S)
        except TrackerError as error:
            raise ChildFailed(f"{error}; the end of {tracker.log_path}:\n{tracker.log_tail()}") from error
        say(f"{stage.name}: active, publishing")
        publisher = stack.enter_context(
            _child(stage, f"{stage.name}_publisher", stage.publisher_module, stage.publisher_arguments)
        )
        prompted = _prompt_until_end(stage, spinner, client, tracker, publisher, say)
        time.sleep(DRAIN_S)
        line = publisher.last_line()
        status = tracker.stop()
    return StageResult(tuple(prompted), line, -1 if status is None else status)


def _child(stage: Stage, name: str, module: str, arguments: Sequence[str]) -> ChildProcess:
    return ChildProcess(name, module, arguments, stage.environment, stage.log_folder)


def _prompt_until_end(
    stage: Stage,
    spinner: Spinner,
    client: Sam2sClient,
    tracker: ChildProcess,
    publisher: ChildProcess,
    say: Callable[[str], None],
) -> list[PromptedObject]:
    deadline = time.monotonic() + stage.timeout_s
    prompted: list[PromptedObject] = []
    while publisher.is_running():
        for item in prompt_waiting(client, stage.prompter, stage.object_names, protocol=stage.protocol):
            say(f"{stage.name}: added '{item.name}' as object {item.object_id} ({item.call_ms:.0f} ms)")
            prompted.append(item)
        spinner.check()
        _check_running(tracker)
        if time.monotonic() > deadline:
            raise ChildFailed(
                f"{stage.name} did not end within {stage.timeout_s:g} s; the publisher was still running"
            )
        time.sleep(0.002)
    publisher.check()
    if not prompted:
        raise ChildFailed(
            f"{stage.name}: no object could be prompted: no ground truth with an object, or no answer of the node "
            f"to an image, has arrived; the end of {tracker.log_path}:\n{tracker.log_tail()}"
        )
    return prompted


def _check_running(tracker: ChildProcess) -> None:
    tracker.check()
    if not tracker.is_running():
        raise ChildFailed(
            f"the tracker node ended by itself; the end of {tracker.log_path}:\n{tracker.log_tail()}"
        )
