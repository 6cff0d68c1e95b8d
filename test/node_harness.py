"""A tracker node in its own process and a client that talks to it over DDS, for the tests of the node."""

from __future__ import annotations

import array
import contextlib
import functools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")
pytest.importorskip("rmw_test_fixture_implementation", reason="install requirements-dev.txt")

from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from sam2s_msgs.msg import BoundingBox2D, LabelTable, Point2D, RleMask, TrackedObjectArray  # noqa: E402
from sam2s_msgs.srv import AddObject, ListObjects, RefineObject, RemoveObject  # noqa: E402
from sam2s_ros.nodes.executor import TrackerExecutor  # noqa: E402
from sam2s_ros.nodes.ros_domain import own_domain  # noqa: E402
from sam2s_ros.nodes.tracker_node import TrackerNode  # noqa: E402

TIMEOUT_S = 120.0  # generous: a busy machine can take most of a minute to import torch
ASK_AGAIN_S = 5.0  # a node drops its answer to a client that it has not discovered yet
SIZE = (96, 128)  # height, width of the small test images
SERVICES = {
    "add_object": AddObject,
    "refine_object": RefineObject,
    "remove_object": RemoveObject,
    "list_objects": ListObjects,
    "reset": Trigger,
    "save_snapshot": Trigger,
    "restore_snapshot": Trigger,
    "change_state": ChangeState,
    "set_parameters": SetParameters,
    "get_state": GetState,
}


@functools.cache
def random_weights() -> Path:
    """Weights of the nano preset at random, always the same, with every object present; independent of training."""
    import torch

    from sam2s_ros.network import PRESETS
    from sam2s_ros.network.checkpoint import save_checkpoint
    from sam2s_ros.network.sam2 import Sam2Network

    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Sam2Network(PRESETS["nano"]).state_dict()
    present = [name for name in state if "pred_obj_score_head" in name and name.endswith("bias")]
    state[present[-1]] += 10.0
    path = Path(tempfile.mkdtemp(prefix="sam2s_test_")) / "random_nano.safetensors"
    save_checkpoint(path, state, "nano", "none")
    return path


def scene(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A grey gradient with a bright block that moves by 2 px per image, uint8 [H, W, 3]; nowhere without detail."""
    height, width = size
    image = np.repeat(np.linspace(40, 80, width, dtype=np.uint8)[None, :, None], height, axis=0).repeat(
        3, axis=2
    )
    x = 10 + 2 * number % (width // 2)
    image[20:50, x : x + 30] = (220, 60, 60)
    return image


def image_message(
    pixels: np.ndarray, stamp: Any, encoding: str = "rgb8", frame_id: str = "endoscope"
) -> Image:
    """An Image message of uint8 [H, W, C] or [H, W]."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = int(pixels.strides[0])
    message.data = array.array("B", np.ascontiguousarray(pixels).tobytes())
    message.header.stamp, message.header.frame_id = stamp, frame_id
    return message


@contextmanager
def isolated_ros(profile: Path | None = None) -> Iterator[None]:
    """rclpy in a ROS domain that no other test on this machine uses; processes started inside inherit it.

    Without a Fast DDS profile, whatever the caller's environment says: that is what a user forgets. With `profile`,
    in a process that has not used ROS yet: Fast DDS reads its profile once.
    """
    os.environ.pop("FASTDDS_DEFAULT_PROFILES_FILE", None)
    if profile is not None:
        os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(profile)
    with own_domain():
        rclpy.init()
        try:
            yield
        finally:
            rclpy.try_shutdown()


class NodeProcess:
    """`tracker` in its own process; its log is kept in `log()`."""

    def __init__(
        self,
        parameters: dict[str, Any],
        environment: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "sam2s_ros.nodes.tracker_node"),
    ) -> None:
        settings = {"model": str(random_weights()), "stale_after_s": 1.0, **parameters}
        arguments = [part for name, value in settings.items() for part in ("-p", f"{name}:={_yaml(value)}")]
        self._log = tempfile.NamedTemporaryFile("w+", prefix="tracker_", suffix=".log")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *program, "--ros-args", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def log(self) -> str:
        return Path(self._log.name).read_text()

    def end(self, signal_number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            return self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Client:
    """Publishes images and collects what the node of one namespace publishes; a thread spins it."""

    def __init__(self, namespace: str = "") -> None:
        self.node = rclpy.create_node("test_client", namespace=namespace)
        self.images = self.node.create_publisher(Image, "image", qos_profile_sensor_data)
        self.compressed = self.node.create_publisher(
            CompressedImage, "image/compressed", qos_profile_sensor_data
        )
        self.arrays: list[TrackedObjectArray] = []
        self.labels: list[Image] = []
        self.tables: list[LabelTable] = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(TrackedObjectArray, "tracker/objects", self.arrays.append, 50)
        self.node.create_subscription(Image, "tracker/labels", self.labels.append, 50)
        self.node.create_subscription(LabelTable, "tracker/label_table", self.tables.append, latched)
        # get_state is the last of them: a node that answers it has discovered the others too (`meet`).
        self._services = {
            name: self.node.create_client(kind, f"tracker/{name}") for name, kind in SERVICES.items()
        }
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self._sent = 0

    def watch(self, picture: str) -> tuple[list[Image], Any]:
        """Subscribe ~/overlay or ~/uncertainty, only made while somebody does: what arrives, and the subscription."""
        arrived: list[Image] = []
        return arrived, self.node.create_subscription(Image, f"tracker/{picture}", arrived.append, 5)

    def spin(self, node: Any) -> None:
        """Spin one more node on the client's thread."""
        self._executor.add_node(node)

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(TIMEOUT_S)
        self.node.destroy_node()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
        """Poll until the condition is true and return its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
            time.sleep(0.01)
        return value

    def connect(self) -> None:
        """Wait until the node is there, configured and subscribed."""
        self.meet()
        self.wait(
            lambda: self.images.get_subscription_count() + self.compressed.get_subscription_count(),
            "the node",
        )
        self.wait(lambda: self._services["add_object"].service_is_ready(), "its services")
        self.wait(lambda: self.arrays, "its heartbeat")
        self.wait(lambda: self.node.count_subscribers("tracker/labels"), "discovery")

    def now(self) -> Any:
        return self.node.get_clock().now().to_msg()

    def send(self, pixels: np.ndarray | None = None, encoding: str = "rgb8") -> Any:
        """Publish one image and return its stamp."""
        self._sent += 1
        stamp = self.now()
        self.images.publish(image_message(scene(self._sent) if pixels is None else pixels, stamp, encoding))
        return stamp

    def track(self, pixels: np.ndarray | None = None, encoding: str = "rgb8") -> TrackedObjectArray:
        """Publish one image and wait for its objects."""
        stamp = self.send(pixels, encoding)
        return self.array_of(stamp)

    def array_of(self, stamp: Any) -> TrackedObjectArray:
        """The array with this header stamp."""

        def find() -> TrackedObjectArray | None:
            return next((one for one in list(self.arrays) if one.header.stamp == stamp), None)

        return self.wait(find, f"the objects of the image stamped {stamp}")

    def newest_array(self, condition: Callable[[TrackedObjectArray], Any], what: str) -> TrackedObjectArray:
        """The newest array, as soon as it fulfils the condition."""
        self.wait(lambda: self.arrays and condition(self.arrays[-1]), what)
        return self.arrays[-1]

    def meet(self) -> None:
        """Ask for the node's state, which changes nothing, until it answers: from then on no answer is dropped."""
        client = self._services["get_state"]
        self.wait(client.service_is_ready, "service get_state")
        deadline = time.monotonic() + TIMEOUT_S
        future = client.call_async(GetState.Request())
        asked = time.monotonic()
        while not future.done():
            assert time.monotonic() < deadline, f"waited {TIMEOUT_S:g} s for any answer of get_state"
            if time.monotonic() > asked + ASK_AGAIN_S:
                client.remove_pending_request(future)
                future = client.call_async(GetState.Request())
                asked = time.monotonic()
            time.sleep(0.005)

    def call(self, service: str, **fields: Any) -> Any:
        """Call a service of the node and return its response."""
        client = self._services[service]
        self.wait(client.service_is_ready, f"service {service}")
        future = client.call_async(SERVICES[service].Request(**fields))
        self.wait(future.done, f"the response of {service}")
        return future.result()

    def transition(self, transition_id: int) -> bool:
        """Ask for a lifecycle transition; whether it succeeded."""
        request = ChangeState.Request()
        request.transition.id = transition_id
        client = self._services["change_state"]
        self.wait(client.service_is_ready, "the lifecycle service")
        future = client.call_async(request)
        self.wait(future.done, f"lifecycle transition {transition_id}")
        return bool(future.result().success)

    def set_parameter(self, name: str, value: Any) -> Any:
        """Set a parameter of the node; the result has `successful` and `reason`."""
        parameter = Parameter(name, value=value).to_parameter_msg()
        return self.call("set_parameters", parameters=[parameter]).results[0]

    def state(self) -> str:
        """Label of the node's lifecycle state."""
        return str(self.call("get_state").current_state.label)


class Camera:
    """Publishes images on a thread of its own: moving ones, or what `picture` gives, stamped now plus `shift_s`."""

    def __init__(self, client: Client, rate_hz: float) -> None:
        self._client, self._period_s, self._stop = client, 1 / rate_hz, threading.Event()
        self.picture: Callable[[int], np.ndarray] = scene
        self.shift_s = 0.0
        self.newest_s = 0.0
        """When the newest image was sent, of the monotonic clock."""
        self.on = threading.Event()
        self.on.set()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def next_s(self) -> float:
        """When the next image is sent."""
        before_s = self.newest_s
        self._client.wait(lambda: self.newest_s != before_s, "the next image")
        return self.newest_s

    def stop(self) -> None:
        self._stop.set()
        self.on.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(self._period_s):
            self.on.wait()
            number += 1
            stamp = self._client.node.get_clock().now() + Duration(seconds=self.shift_s)
            self.newest_s = time.monotonic()
            self._client.images.publish(image_message(self.picture(number), stamp.to_msg()))


@contextmanager
def node_in_this_process(settings: dict[str, Any]) -> Iterator[tuple[TrackerNode, Client]]:
    """An active node with random weights on a thread of this process, and a client that is connected to it."""
    with isolated_ros():
        values = {"model": str(random_weights()), **settings}
        node = TrackerNode(
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
        )
        executor = TrackerExecutor(4)
        executor.add_node(node)
        spinner = threading.Thread(target=executor.spin)
        spinner.start()
        node.start()
        client = Client()
        client.connect()
        yield node, client
        client.close()
        node.close()
        executor.shutdown()
        spinner.join()
        node.destroy_node()


def clicks(*points: tuple[float, float], labels: list[int] | None = None) -> dict[str, Any]:
    """Prompt fields for clicks, positive unless labels are given."""
    return {
        "points": [Point2D(x=float(x), y=float(y)) for x, y in points],
        "point_labels": [1] * len(points) if labels is None else labels,
    }


def box(x_min: float, y_min: float, x_max: float, y_max: float) -> dict[str, Any]:
    """Prompt fields for a box."""
    corners = BoundingBox2D(x_min=float(x_min), y_min=float(y_min), x_max=float(x_max), y_max=float(y_max))
    return {"has_box": True, "box": corners}


def mask(pixels: np.ndarray) -> dict[str, Any]:
    """Prompt fields for a mask, bool [H, W]."""
    from sam2s_ros.tracking import rle

    height, width = pixels.shape
    counts = array.array("I", rle.encode(pixels).tobytes())
    return {"mask": RleMask(height=height, width=width, counts=counts)}


def block_mask(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask of 30 x 30 pixels, bool [H, W]."""
    pixels = np.zeros(size, bool)
    pixels[20:50, 30:60] = True
    return pixels
