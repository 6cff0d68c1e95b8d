"""The node's life over DDS: up and down, parameters, wrong weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from node_harness import Client, NodeProcess, block_mask, isolated_ros, mask, random_weights

from sam2s_msgs.msg import ErrorCode, Prompt, TrackedObjectArray

DOWN = {
    "active": (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP),
    "inactive": (Transition.TRANSITION_CLEANUP,),
    "unconfigured": (),
}


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    """One node that nobody has configured yet, for the tests that take it up and down."""
    with isolated_ros():
        process = NodeProcess({"threads": 1})
        yield process
        process.end()


@pytest.fixture(scope="module")
def connection(node: NodeProcess) -> Iterator[Client]:
    client = Client()
    client.meet()
    yield client
    client.close()


@pytest.fixture
def client(connection: Client) -> Client:
    """The client of the node, which is unconfigured and has its good weights."""
    for transition in DOWN[connection.state()]:
        assert connection.transition(transition)
    assert connection.set_parameter("model", str(random_weights())).successful
    connection.arrays.clear()
    return connection


def take_up(client: Client) -> None:
    assert client.transition(Transition.TRANSITION_CONFIGURE)
    assert client.transition(Transition.TRANSITION_ACTIVATE)
    client.connect()


def test_up_and_down_twice(client: Client) -> None:
    """Each time the node tracks and answers; in between it is gone from the stream, with nothing old left latched."""
    sessions, ids = [], []
    for _ in range(2):
        take_up(client)
        client.track()
        response = client.call("add_object", prompt=Prompt(**mask(block_mask())), name="probe")
        assert response.success, response.message
        array = client.track()
        assert array.frames_tracked == 2 and len(array.objects) == 1
        sessions.append(array.session)
        ids.append(response.id)
        assert client.transition(Transition.TRANSITION_DEACTIVATE)
        client.wait(lambda: client.tables[-1].entries == [], "an empty label table")
        refused = client.call("add_object", prompt=Prompt(**mask(block_mask())))
        assert not refused.success and refused.error.code == ErrorCode.NOT_ACTIVE
        assert client.transition(Transition.TRANSITION_CLEANUP)
        client.wait(lambda: client.images.get_subscription_count() == 0, "the subscription to go")
        client.arrays.clear()
    assert len(set(sessions)) == 2 and len(set(ids)) == 2


def test_without_images_the_heartbeat_says_so(client: Client) -> None:
    """A consumer learns that the tracker lives and what it waits for."""
    take_up(client)
    array = client.newest_array(lambda one: one.status == TrackedObjectArray.NO_INPUT, "a heartbeat")
    assert "/image" in array.status_message and array.image_width == 0 and np.isnan(array.latency)
    refused = client.call("add_object", prompt=Prompt(**mask(block_mask())))
    assert refused.error.code == ErrorCode.NO_IMAGE and "/image" in refused.message


def foreign_checkpoint(path: Path) -> None:
    """A safetensors file of another network: one tensor of one number."""
    header = json.dumps({"conv.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


def cut_checkpoint(path: Path) -> None:
    path.write_bytes(random_weights().read_bytes()[:100_000])


@pytest.mark.parametrize("make", [foreign_checkpoint, cut_checkpoint])
def test_wrong_weights_are_refused_on_configure(
    client: Client, node: NodeProcess, tmp_path: Path, make
) -> None:
    """The log names the file, the node stays alive, and with good weights it configures after all."""
    file = tmp_path / f"{make.__name__}.safetensors"
    make(file)
    assert client.set_parameter("model", str(file)).successful
    assert not client.transition(Transition.TRANSITION_CONFIGURE)
    assert client.state() == "unconfigured"
    assert "cannot configure" in node.log() and str(file) in node.log() and "Traceback" not in node.log()
    assert client.set_parameter("model", str(random_weights())).successful
    assert client.transition(Transition.TRANSITION_CONFIGURE)


def test_a_parameter_out_of_range_is_refused(client: Client) -> None:
    """Ranges and choices are checked before anything is set."""
    assert not client.set_parameter("max_objects", 300).successful
    wrong = client.set_parameter("image_transport", "pigeon")
    assert not wrong.successful and "raw, compressed" in wrong.reason


def test_a_parameter_that_would_change_nothing_any_more_is_refused(client: Client) -> None:
    """Settings are read on configure; afterwards a change is refused rather than ignored."""
    assert client.transition(Transition.TRANSITION_CONFIGURE)
    late = client.set_parameter("max_objects", 3)
    assert not late.successful and "cleanup" in late.reason
