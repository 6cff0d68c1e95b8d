"""The node as a process: signals, wrong parameters, a start without an operator."""

from __future__ import annotations

import array as arrays
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from node_harness import TIMEOUT_S, Client, NodeProcess, block_mask, isolated_ros, mask, scene
from sensor_msgs.msg import CompressedImage

from sam2s_msgs.msg import Prompt


@pytest.fixture
def ros_domain() -> Iterator[None]:
    with isolated_ros():
        yield


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_node_without_an_error(ros_domain: None, signal_number: int) -> None:
    """While images flow and an object is tracked: exit status 0, and nothing in the log that looks like a failure."""
    process, client = NodeProcess({"autostart": True, "threads": 1}), Client()
    stop = threading.Event()

    def stream() -> None:
        while not stop.is_set():
            client.send()
            time.sleep(0.03)

    camera = threading.Thread(target=stream)
    try:
        client.connect()
        client.track()
        camera.start()
        assert client.call("add_object", prompt=Prompt(**mask(block_mask()))).success
        client.newest_array(lambda one: one.frames_tracked > 3, "a stream")
        assert process.end(signal_number) == 0, process.log()
    finally:
        stop.set()
        process.end()
        client.close()
    assert "Traceback" not in process.log() and "rror" not in process.log(), process.log()
    assert f"ended by {signal.Signals(signal_number).name}" in process.log()


@pytest.mark.parametrize("signalled", [True, False])
def test_a_node_ends_though_its_engine_hangs_and_a_call_gave_up(
    ros_domain: None, tmp_path: Path, signalled: bool
) -> None:
    """By a signal or by deactivation: an array without objects, an empty label table, no failure."""
    parameters = {"autostart": True, "threads": 1, "service_timeout_s": 0.5, "stale_after_s": 0.5}
    order = tmp_path / "order"
    program = (str(Path(__file__).parent / "troubled_tracker.py"), str(order))
    process, client = NodeProcess(parameters, program=program), Client()
    try:
        client.connect()
        client.track()
        assert client.call("add_object", prompt=Prompt(**mask(block_mask()))).success
        client.track()
        order.write_text("sleep 5")
        client.send()
        client.wait(lambda: not order.exists(), "the engine to hang")
        assert "no answer within 0.5 s" in client.call("list_objects").message
        begin, tables = len(client.arrays), len(client.tables)
        if signalled:
            assert process.end(signal.SIGTERM) == 0, process.log()
        else:
            assert client.transition(Transition.TRANSITION_DEACTIVATE)
        client.wait(lambda: len(client.tables) > tables, "a label table")
        assert len(client.tables[-1].entries) == 0
        client.wait(
            lambda: any("deactivated" in one.status_message for one in client.arrays[begin:]), "a last array"
        )
        assert len(client.arrays[-1].objects) == 0
    finally:
        process.end()
        client.close()
    assert "Traceback" not in process.log(), process.log()


def test_a_wrong_parameter_at_start_is_named(ros_domain: None) -> None:
    """Exit status 2 and one line, not a traceback."""
    process = NodeProcess({"max_objects": 300})
    assert process.process.wait(TIMEOUT_S) == 2
    assert "max_objects" in process.log() and "Traceback" not in process.log()


def test_a_value_for_a_parameter_that_does_not_exist_is_warned_of(ros_domain: None) -> None:
    """By its name and the one that is close to it; without it, nothing is said."""
    process = NodeProcess({"max_object": 3, "zzz": 1, "use_sim_time": False, "threads": 1})
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while "unconfigured" not in process.log() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.end()
    warnings = [line for line in process.log().splitlines() if "WARN" in line]
    assert len(warnings) == 2, process.log()
    assert "no parameter max_object: its value is ignored; is max_objects meant?" in warnings[0]
    assert "no parameter zzz" in warnings[1] and "--help" in warnings[1]


def test_an_engine_that_this_machine_lacks_is_one_line(ros_domain: None, tmp_path: Path) -> None:
    """What to do, without a traceback through this project. An empty package hides the binding."""
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = NodeProcess(
        {"autostart": True, "engine": "tensorrt", "threads": 1}, environment={"PYTHONPATH": path}
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while "still unconfigured" not in process.log() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.end()
    assert "cannot configure: the CUDA binding is missing" in process.log()
    assert "Traceback" not in process.log(), process.log()


def test_a_start_without_an_operator_on_compressed_images(ros_domain: None, tmp_path: Path) -> None:
    """The prompts file adds its objects on the images it names; a JPEG that is cut short is left out."""
    cv2.imwrite(str(tmp_path / "block.png"), block_mask().astype(np.uint8) * 255)
    late = 10
    (tmp_path / "prompts.yaml").write_text(
        f"prompts:\n- {{name: block, mask: block.png}}\n- {{name: late, box: [5, 5, 60, 60], stamp: {late}}}\n"
    )
    parameters = {
        "autostart": True,
        "threads": 1,
        "image_transport": "compressed",
        "prompts_file": str(tmp_path / "prompts.yaml"),
    }
    process, client = NodeProcess(parameters), Client()
    try:
        client.connect()
        jpeg = cv2.imencode(".jpg", scene(0))[1].tobytes()
        cut = CompressedImage(format="jpeg", data=arrays.array("B", jpeg[: len(jpeg) // 2]))
        client.compressed.publish(cut)
        heartbeat = client.newest_array(lambda one: one.frames_received == 1, "the image to be counted")
        client.wait(lambda: "truncated" in client.arrays[-1].status_message, "its reason")
        assert heartbeat.frames_tracked == 0
        message = CompressedImage(format="jpeg", data=arrays.array("B", jpeg))
        message.header.stamp.sec, message.header.frame_id = 5, "endoscope"
        client.compressed.publish(message)
        assert [one.name for one in client.array_of(message.header.stamp).objects] == ["block"]
        message.header.stamp.sec = late
        client.compressed.publish(message)
        assert [one.name for one in client.array_of(message.header.stamp).objects] == ["block", "late"]
    finally:
        process.end()
        client.close()
