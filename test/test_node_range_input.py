"""3-D over DDS: a depth image or a rectified pair beside the tracked image, and what comes of bad or absent ones."""

from __future__ import annotations

import array
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PointStamped, PoseWithCovarianceStamped
from lifecycle_msgs.msg import Transition
from node_harness import SIZE, Client, NodeProcess, block_mask, image_message, isolated_ros, mask
from rclpy.duration import Duration
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest

from sam2s_msgs.msg import Prompt, TrackedObject, TrackedObjectArray
from sam2s_ros.nodes.range_input import QUEUE

FOCAL, CX, CY = 100.0, 60.0, 50.0
BASELINE = 0.005
DISPARITY = 5  # px, so depth 0.1 m everywhere
DEPTH = FOCAL * BASELINE / DISPARITY
WAIT_S = 1.0
OUTSIDE = RegionOfInterest(x_offset=SIZE[1], height=SIZE[0], width=SIZE[1])


class Rig:
    """A client that publishes what tells depth, too."""

    def __init__(self, client: Client, process: NodeProcess) -> None:
        self.client, self.process = client, process
        node = client.node
        self.publishers = {
            topic: node.create_publisher(kind, topic, qos_profile_sensor_data)
            for topic, kind in (
                ("camera_info", CameraInfo),
                ("depth", Image),
                ("right/image", Image),
                ("right/camera_info", CameraInfo),
            )
        }
        self.scene = np.random.default_rng(0).integers(40, 200, (SIZE[0], SIZE[1] + 32), dtype=np.uint8)
        self.object_id = 0
        self.start = 0

    def change(self, *transitions: int) -> None:
        for one in transitions:
            assert self.client.transition(one)

    def begin(self, range_input: str, wait_s: float) -> None:
        """Configure and activate anew with one object, tracked on images without depth information."""
        client = self.client
        settings = {"range_input": range_input, "range_wait_s": wait_s, "object_topics": True}
        for name, value in settings.items():
            assert client.set_parameter(name, value).successful
        self.change(Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
        client.connect()
        expected = {
            "depth": ("camera_info", "depth"),
            "stereo": ("camera_info", "right/image", "right/camera_info"),
        }[range_input]
        for topic in expected:
            client.wait(self.publishers[topic].get_subscription_count, topic)
        client.track(self.left())
        answer = client.call("add_object", client="test", prompt=Prompt(**mask(block_mask())))
        assert answer.success
        self.object_id = answer.id

    def end(self) -> None:
        self.change(Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)

    def left(self) -> np.ndarray:
        return np.repeat(self.scene[:, self.start : self.start + SIZE[1], None], 3, axis=2)

    def info(self, stamp: Any, shift: float = 0.0, frame_id: str = "endoscope", **fields: Any) -> CameraInfo:
        message = CameraInfo(height=SIZE[0], width=SIZE[1], distortion_model="plumb_bob")
        message.header.stamp, message.header.frame_id = stamp, frame_id
        message.k = np.array([FOCAL, 0, CX, 0, FOCAL, CY, 0, 0, 1.0])
        message.p = np.array([FOCAL, 0, CX, shift, 0, FOCAL, CY, 0, 0, 0, 1.0, 0])
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def depth(
        self, stamp: Any, size: tuple[int, int] = SIZE, encoding: str = "32FC1", depth_m: float = DEPTH
    ) -> Image:
        message = Image(height=size[0], width=size[1], encoding=encoding, step=4 * size[1])
        message.header.stamp, message.header.frame_id = stamp, "endoscope"
        message.data = array.array("B", np.full(size, depth_m, np.float32).tobytes())
        return message

    def right(self, stamp: Any) -> Image:
        """What the right camera sees: the scene, DISPARITY px farther to the left."""
        start = self.start + DISPARITY
        pixels = np.repeat(self.scene[:, start : start + SIZE[1], None], 3, axis=2)
        return image_message(pixels, stamp, frame_id="right")

    def track(self, kind: str, **replaced: Any) -> TrackedObjectArray:
        """One image with its depth or right image, of which some parts may be replaced: topic -> message of a stamp."""
        stamp = self.client.now()
        self.start = (self.start + 1) % 16  # an image like the one before would say that the camera is frozen
        parts = {"camera_info": self.info(stamp)}
        if kind == "depth":
            parts["depth"] = self.depth(stamp)
        else:
            parts["right/image"] = self.right(stamp)
            parts["right/camera_info"] = self.info(stamp, -FOCAL * BASELINE, "right")
        parts |= {topic.replace("_image", "/image"): make(stamp) for topic, make in replaced.items()}
        for topic, message in parts.items():
            self.publishers[topic].publish(message)
        self.client.images.publish(image_message(self.left(), stamp))
        return self.client.array_of(stamp)

    def subscribe(self, kind: str) -> dict[str, list[Any]]:
        """Topic of the object -> what arrives there."""
        kinds: dict[str, type] = {"pixel": PointStamped, "centroid": PoseWithCovarianceStamped}
        if kind == "stereo":
            kinds["right_pixel"] = PointStamped
        arrived: dict[str, list[Any]] = {name: [] for name in kinds}
        for name, message_type in kinds.items():
            topic = f"/tracker/objects/id_{self.object_id}/{name}"
            self.client.node.create_subscription(message_type, topic, arrived[name].append, 50)
            self.client.wait(lambda topic=topic: self.client.node.count_publishers(topic), topic)
        return arrived


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """One unconfigured node for all tests of this file."""
    with isolated_ros():
        trusting = {
            "uncertain_iou": 0.0,
            "uncertain_pixels": 1.0,
            "uncertain_boundary": 1000.0,
            "twin_iou": 1.0,
        }  # random weights
        process = NodeProcess(
            {"autostart": False, "threads": 1, "stale_after_s": 3.0, "diagnostics_period_s": 0.2, **trusting}
        )
        client = Client()
        client.meet()
        yield Rig(client, process)
        client.close()
        process.end()


@pytest.fixture(params=["depth", "stereo"], scope="module")
def kind(request: pytest.FixtureRequest, rig: Rig) -> Iterator[str]:
    """The node is active, its images wait up to WAIT_S for their depth."""
    rig.begin(request.param, WAIT_S)
    yield request.param
    rig.end()


def the_object(message: TrackedObjectArray) -> TrackedObject:
    assert message.status == TrackedObjectArray.OK
    (one,) = message.objects
    assert one.area > 0 and np.isfinite([one.centroid.x, one.centroid.y]).all()
    return one


def assert_unknown(one: TrackedObject) -> None:
    """No position, and no 0 that could be taken for one."""
    assert not one.has_position
    assert np.isnan([one.position.x, one.position.y, one.position.z, one.tip_position.z]).all()
    assert np.isnan(one.position_covariance).all()


def test_a_depth_that_never_comes_costs_no_image(rig: Rig) -> None:
    """By default nothing waits for it: 2-D at once, 3-D not known, and the missing topics named."""
    rig.begin("depth", 0.0)
    try:
        for _ in range(3):
            assert_unknown(the_object(rig.client.track(rig.left())))
        rig.client.wait(lambda: "camera_info and" in rig.process.log(), "the warning")
    finally:
        rig.end()


def test_the_position_is_where_the_centroid_s_ray_meets_the_surface(rig: Rig, kind: str) -> None:
    """In m, x right, y down, z forward, in the frame of the image."""
    message = rig.track(kind)
    one = the_object(message)
    assert message.header.frame_id == "endoscope" and one.has_position
    x, y = (one.centroid.x - CX) / FOCAL * DEPTH, (one.centroid.y - CY) / FOCAL * DEPTH
    assert [one.position.x, one.position.y, one.position.z] == pytest.approx([x, y, DEPTH], abs=0.01 * DEPTH)
    covariance = np.array(one.position_covariance).reshape(3, 3)
    assert np.allclose(covariance, covariance.T) and (np.linalg.eigvalsh(covariance) > 0).all()
    assert "range" in {stage.stage for stage in message.stage_latencies}


BAD: dict[str, dict[str, tuple[str, Any]]] = {
    "depth": {
        "other size": ("depth", lambda rig, stamp: rig.depth(stamp, (48, 64))),
        "unknown encoding": ("depth", lambda rig, stamp: rig.depth(stamp, encoding="64FC9")),
        "no focal length": ("camera_info", lambda rig, stamp: rig.info(stamp, k=np.zeros(9))),
        "other frame": ("camera_info", lambda rig, stamp: rig.info(stamp, frame_id="elsewhere")),
        "nothing seen": ("depth", lambda rig, stamp: rig.depth(stamp, depth_m=float("nan"))),
        "cut outside": ("camera_info", lambda rig, stamp: rig.info(stamp, roi=OUTSIDE)),
    },
    "stereo": {
        "no focal length": ("camera_info", lambda rig, stamp: rig.info(stamp, k=np.zeros(9))),
        "unrectified": ("camera_info", lambda rig, stamp: rig.info(stamp, d=[0.2, 0, 0, 0, 0])),
        "unlike rows": (
            "right/camera_info",
            lambda rig, stamp: rig.info(
                stamp,
                frame_id="right",
                k=np.array([FOCAL, 0, CX, 0, FOCAL, CY + 9, 0, 0, 1.0]),
                p=np.array([FOCAL, 0, CX, -FOCAL * BASELINE, 0, FOCAL, CY + 9, 0, 0, 0, 1.0, 0]),
            ),
        ),
        "nothing like it": (
            "right/image",
            lambda rig, stamp: image_message(np.full((*SIZE, 3), 90, np.uint8), stamp, frame_id="right"),
        ),
        "other size": (
            "right/image",
            lambda rig, stamp: image_message(np.zeros((48, 64, 3), np.uint8), stamp, frame_id="right"),
        ),
    },
}
WORDS = {
    "other size": "64 x 48",
    "unknown encoding": "encoding '64FC9'",
    "no focal length": "K has no focal length",
    "other frame": "frame_id 'elsewhere'",
    "unrectified": "image_rectification",
    "unlike rows": "not a rectified pair",
    "nothing seen": "no depth is known in the mask",
    "cut outside": "region of interest",
    "nothing like it": "nothing of the right image matches",
}


def test_bad_input_is_named_once_and_the_stream_goes_on(rig: Rig, kind: str) -> None:
    """Masks as ever, no position; with good input again, positions again; diagnostics say so."""
    said = [""]

    def listen(report: DiagnosticArray) -> None:
        said[0] = next((one.message for one in report.status if one.name.endswith(": positions")), "")

    reports = rig.client.node.create_subscription(DiagnosticArray, "/diagnostics", listen, 5)
    for case, (topic, make) in BAD[kind].items():
        before = rig.process.log().count(WORDS[case])
        for _ in range(2):
            bad = rig.track(kind, **{topic: lambda stamp, make=make: make(rig, stamp)})
            assert_unknown(the_object(bad))
        rig.client.wait(lambda words=WORDS[case], least=before: rig.process.log().count(words) > least, case)
        rig.client.wait(lambda words=WORDS[case]: words in said[0], case)
        assert the_object(rig.track(kind)).has_position, case
        assert rig.process.log().count(WORDS[case]) == before + 1, case
        rig.client.wait(lambda: said[0] == "OK", case)
    rig.client.node.destroy_subscription(reports)


def test_each_object_has_topics_of_its_own_on_request(rig: Rig, kind: str) -> None:
    """Centroids in px of the image or images, the position in m, with the stamp and frame of the image."""
    arrived = rig.subscribe(kind)
    message = rig.track(kind)
    one = the_object(message)
    assert one.state == TrackedObject.TRACKING, one.state_reason
    rig.client.wait(
        lambda: all(any(got.header == message.header for got in rows) for rows in arrived.values()),
        "the topics",
    )
    newest = {
        name: next(got for got in rows if got.header == message.header) for name, rows in arrived.items()
    }
    pixel = newest["pixel"].point
    assert (pixel.x, pixel.y) == (one.centroid.x, one.centroid.y)
    assert newest["centroid"].pose.pose.position == one.position
    covariance = np.array(newest["centroid"].pose.covariance).reshape(6, 6)
    assert covariance[:3, :3].ravel() == pytest.approx(np.array(one.position_covariance))
    assert np.diag(covariance)[3:].min() > 3  # an orientation that nobody measured
    if kind == "stereo":
        right = newest["right_pixel"].point
        assert [right.x, right.y] == pytest.approx([pixel.x - DISPARITY, pixel.y], abs=0.3)


def test_an_object_that_is_not_to_be_trusted_is_not_on_its_topics(rig: Rig, kind: str) -> None:
    """Their messages have no field for a state: of an image that is the one before once more, nothing is published."""
    pixels = rig.subscribe(kind)["pixel"]
    rig.track(kind)
    frozen = rig.client.track(rig.left())
    assert frozen.objects[0].state == TrackedObject.UNCERTAIN
    good = next(
        one for one in (rig.track(kind) for _ in range(20)) if one.objects[0].state == TrackedObject.TRACKING
    )
    rig.client.wait(lambda: any(one.header == good.header for one in pixels), "the next image's centroid")
    assert all(one.header != frozen.header for one in pixels)


def test_messages_from_the_future_do_not_stop_positions(rig: Rig, kind: str) -> None:
    """As many as would fill the queue; the reason says whose clock is to be checked."""
    assert the_object(rig.track(kind)).has_position
    topic = {"depth": "depth", "stereo": "right/image"}[kind]
    make = {"depth": rig.depth, "stereo": rig.right}[kind]
    for number in range(QUEUE):
        later = (Time.from_msg(rig.client.now()) + Duration(seconds=3600, nanoseconds=number)).to_msg()
        rig.publishers[topic].publish(make(later))
        time.sleep(0.05)
    assert any(the_object(rig.track(kind)).has_position for _ in range(3))
