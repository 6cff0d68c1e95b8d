"""Several cameras: a node for each namespace in one process, and none of them notices the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from node_harness import SIZE, Client, NodeProcess, block_mask, isolated_ros, mask, random_weights, scene

from sam2s_msgs.msg import Prompt, TrackedObjectArray
from sam2s_ros.nodes.tracker_process import namespaces, read_cameras
from sam2s_ros.tracking import rle
from sam2s_ros.tracking.loader import load_tracker

CAMERAS = ("/theatre/left", "/theatre/right")
FRAMES = 5


def test_one_node_without_cameras() -> None:
    """The namespace is then ROS's to remap."""
    assert read_cameras([]) == [""]
    assert read_cameras(["--cameras", "left, theatre/right/"]) == ["/left", "/theatre/right"]


@pytest.mark.parametrize("wrong", ["", "left,", "left,/left/", "a b", "2nd"])
def test_wrong_names_are_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and a line that names the argument."""
    with pytest.raises(SystemExit) as ended:
        read_cameras(["--cameras", wrong])
    assert ended.value.code == 2 and "--cameras" in capsys.readouterr().err


def test_names_become_absolute() -> None:
    assert namespaces("a,b/c") == ["/a", "/b/c"]


def view(camera: int, number: int) -> np.ndarray:
    """What a camera sees: the second one upside down."""
    return scene(number) if camera == 0 else np.ascontiguousarray(scene(number)[::-1])


@pytest.fixture(scope="module")
def cameras() -> Iterator[list[Client]]:
    """A client in each camera's namespace; the node there tracks one object prompted on the first image."""
    with isolated_ros():
        program = ("-m", "sam2s_ros.nodes.tracker_node", "--cameras", ",".join(CAMERAS))
        node = NodeProcess({"autostart": True, "engine": "eager", "threads": 1}, program=program)
        clients = [Client(namespace) for namespace in CAMERAS]
        try:
            for client in clients:
                client.connect()
            yield clients
            assert node.end() == 0, node.log()
        finally:
            node.end()
            for client in clients:
                client.close()


def alone(camera: int) -> list[np.ndarray]:
    """Masks of the same images by a tracker of its own."""
    tracker = load_tracker(str(random_weights()), engine="eager", threads=1)
    tracker.add_object(view(camera, 0), mask=block_mask())
    return [tracker.step(view(camera, number)).masks[0] for number in range(1, FRAMES)]


def decoded(array: TrackedObjectArray) -> np.ndarray:
    (item,) = array.objects
    return rle.decode(np.array(item.mask.counts, np.uint32), SIZE)


def test_each_camera_has_its_own_objects(cameras: list[Client], one_thread: None) -> None:
    """Images that arrive by turns are tracked as by a tracker of one camera alone; ids count from 1 in each."""
    for camera, client in enumerate(cameras):
        client.track(view(camera, 0))
        answer = client.call("add_object", name=CAMERAS[camera], prompt=Prompt(**mask(block_mask())))
        assert answer.success and answer.id == 1
    seen: list[list[np.ndarray]] = [[], []]
    for number in range(1, FRAMES):
        for camera, client in enumerate(cameras):
            array = client.track(view(camera, number))
            assert [one.name for one in array.objects] == [CAMERAS[camera]]
            seen[camera].append(decoded(array))
    for camera in range(2):
        assert np.array_equal(seen[camera], alone(camera))
    assert not np.array_equal(seen[0], seen[1])


def test_a_reset_of_one_leaves_the_other(cameras: list[Client]) -> None:
    """Services reach the node of their namespace only."""
    left, right = cameras
    assert left.call("reset").success
    assert not left.track(view(0, FRAMES)).objects
    assert len(right.track(view(1, FRAMES)).objects) == 1
