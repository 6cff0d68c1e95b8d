"""The node in this process, so that its engine can fail or hang on demand and its drawing be watched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from node_harness import SIZE, Client, block_mask, mask, node_in_this_process

from sam2s_msgs.msg import ErrorCode, Prompt, TrackedObjectArray
from sam2s_ros.nodes import result_publisher, tracker_node
from sam2s_ros.nodes.tracker_node import TrackerNode
from sam2s_ros.tracking import FrameResult, StreamingTracker

SETTINGS = {"service_timeout_s": 0.5, "stale_after_s": 0.3, "threads": 1}


class Trouble:
    """Put in front of the engine's encoder."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.settle_error: Exception | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.encoded = 0
        self.node: TrackerNode | None = None

    def watch(self, tracker: StreamingTracker) -> None:
        self.tracker = tracker
        encode, step, settle = tracker.engine.encode, tracker.step, tracker.engine.settle

        def troubled_encode(frame_rgb: np.ndarray, frame_slot: int) -> None:
            if self.error is not None:
                raise self.error
            encode(frame_rgb, frame_slot)
            self.encoded += 1

        def troubled_step(*arguments: Any, **options: Any) -> FrameResult:
            self.may_go_on.wait(30)
            return step(*arguments, **options)

        def troubled_settle() -> None:
            if self.settle_error is not None:
                error, self.settle_error = self.settle_error, None
                raise error
            settle()

        tracker.engine.settle = troubled_settle  # type: ignore[method-assign]
        tracker.engine.encode = troubled_encode  # type: ignore[method-assign]
        tracker.step = troubled_step  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def trouble() -> Iterator[Trouble]:
    """Every tracker that the node loads gets this trouble."""
    trouble, load_tracker = Trouble(), tracker_node.load_tracker

    def load(*arguments: Any) -> StreamingTracker:
        tracker = load_tracker(*arguments)
        trouble.watch(tracker)
        return tracker

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker_node, "load_tracker", load)
        yield trouble


@pytest.fixture(scope="module")
def client(trouble: Trouble) -> Iterator[Client]:
    """A client of an active node whose engine's trouble the test decides."""
    with node_in_this_process(SETTINGS) as (node, client):
        trouble.node = node
        yield client
        trouble.may_go_on.set()


def test_an_engine_that_raises_is_reported_and_does_not_end_the_node(
    client: Client, trouble: Trouble
) -> None:
    """The status says ENGINE_FAILED with the reason until a frame is tracked again, which then happens."""
    good = client.track()
    trouble.error = RuntimeError("the device fell off the bus")
    client.send()
    failed = client.newest_array(lambda one: one.status == TrackedObjectArray.ENGINE_FAILED, "the failure")
    assert "fell off the bus" in failed.status_message
    assert failed.header.stamp == good.header.stamp and failed.frames_tracked == good.frames_tracked
    trouble.error = None
    assert client.track().status == TrackedObjectArray.OK


def test_an_engine_that_cannot_remember_an_image_is_reported_after_its_objects(
    client: Client, trouble: Trouble
) -> None:
    """The masks were right and are out; that the next ones come from an older memory is said at once."""
    before = client.track()
    step, armed = trouble.tracker.step, threading.Event()

    def step_then_break(*arguments: Any, **options: Any) -> FrameResult:
        result = step(*arguments, **options)
        if not armed.is_set():
            armed.set()
            trouble.settle_error = RuntimeError("no room to remember")
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trouble.tracker, "step", step_then_break)
        stamp = client.send()
        failed = client.newest_array(
            lambda one: one.status == TrackedObjectArray.ENGINE_FAILED, "the failure"
        )
    assert "no room to remember" in failed.status_message
    assert failed.header.stamp == stamp, "its objects were published before"
    assert failed.frames_tracked == before.frames_tracked + 1
    assert client.track().status == TrackedObjectArray.OK


def test_an_engine_that_hangs_makes_the_status_stale_and_calls_time_out(
    client: Client, trouble: Trouble
) -> None:
    """A consumer is warned and a client answered while the worker is stuck; afterwards the stream goes on."""
    client.track()
    trouble.may_go_on.clear()
    stuck = client.send()
    client.newest_array(lambda one: one.status == TrackedObjectArray.STALE, "the warning")
    answer = client.call("add_object", prompt=Prompt(**mask(block_mask())))
    assert not answer.success and answer.error.code == ErrorCode.TIMED_OUT
    trouble.may_go_on.set()
    assert client.array_of(stuck).status == TrackedObjectArray.OK


def test_only_the_newest_of_waiting_images_is_tracked(client: Client, trouble: Trouble) -> None:
    """While the engine is busy one image is encoded ahead; of those that come then only the newest is tracked."""
    node = trouble.node
    assert node is not None
    before = client.track()
    encoded = trouble.encoded
    trouble.may_go_on.clear()
    stamps = []
    for number in range(5):
        stamps.append(client.send())
        received = before.frames_received + number + 1
        client.wait(lambda received=received: node.counter.counts().received == received, "the image")
        client.wait(lambda number=number: trouble.encoded == encoded + min(number + 1, 2), "the encoding")
    trouble.may_go_on.set()
    newest = client.array_of(stamps[-1])
    assert newest.frames_skipped - before.frames_skipped == 2
    assert newest.frames_tracked - before.frames_tracked == 3
    assert not any(one.header.stamp in stamps[2:-1] for one in client.arrays)


@pytest.mark.parametrize(
    ("topic", "function", "encoding"),
    [("overlay", "draw_overlay", "rgb8"), ("uncertainty", "paint_uncertainty", "mono8")],
)
def test_a_picture_is_drawn_only_for_a_subscriber(
    client: Client, monkeypatch: pytest.MonkeyPatch, topic: str, function: str, encoding: str
) -> None:
    """Nobody pays for a picture that nobody looks at."""
    drawn: list[int] = []
    draw = getattr(result_publisher, function)

    def watched(*arguments: Any) -> None:
        drawn.append(1)
        draw(*arguments)

    monkeypatch.setattr(result_publisher, function, watched)
    for _ in range(3):
        client.track()
    assert not drawn
    pictures, subscription = client.watch(topic)
    client.wait(lambda: client.track() and pictures, f"a picture on {topic}")
    assert drawn
    picture = pictures[-1]
    assert (picture.height, picture.width, picture.encoding) == (*SIZE, encoding)
    client.node.destroy_subscription(subscription)


def test_classes_are_read_only_while_twins_are_told_apart_or_they_are_published(
    client: Client, trouble: Trouble
) -> None:
    """Reading them costs time, and nothing would come of it."""
    assert trouble.node is not None and trouble.node._configured is not None
    engine = trouble.node._configured.tracker.engine
    assert engine.reads_classes
    assert client.set_parameter("drop_twins", False).successful
    client.wait(lambda: not engine.reads_classes, "the worker to take it")
    for published in (2, 0):
        assert client.set_parameter("published_classes", published).successful
        client.wait(
            lambda published=published: engine.reads_classes == bool(published), "the worker to take it"
        )
    assert client.set_parameter("drop_twins", True).successful
    client.wait(lambda: engine.reads_classes, "the worker to take it back")
