"""Requests and images that nobody would send: the node stays alive and says why it refuses each.

Handlers and worker are those of a node that runs; only DDS is left out, so that thousands of cases take minutes.
"""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Time
from node_harness import SIZE, block_mask, image_message, isolated_ros, random_weights, scene
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

hypothesis = pytest.importorskip("hypothesis", reason="install requirements-dev.txt")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from sam2s_msgs.msg import BoundingBox2D, ErrorCode, Point2D, Prompt  # noqa: E402
from sam2s_ros.nodes.client import SERVICES  # noqa: E402
from sam2s_ros.nodes.executor import TrackerExecutor  # noqa: E402
from sam2s_ros.nodes.image_messages import (  # noqa: E402
    ImageMessageError,
    compressed_to_rgb,
    image_to_rgb,
)
from sam2s_ros.nodes.image_source import ReceivedImage  # noqa: E402
from sam2s_ros.nodes.messages import ns_to_stamp, rle_message  # noqa: E402
from sam2s_ros.nodes.tracker_node import TrackerNode  # noqa: E402

NAMES = [name for name in SERVICES if name != "get_state"]
HANDLERS = {"add_object": "_on_add", "list_objects": "_on_list", "refine_object": "_on_refine"} | {
    "remove_object": "_on_remove",
    "rename_object": "_on_rename",
    "save_snapshot": "_on_save",
    "restore_snapshot": "_on_restore",
}
PROMPTING = ["add_object", "refine_object"] * 4
"""Drawn more often than what removes objects, so that there are some."""
FEW, MANY = 25, 1000
"""Cases of requests, and of images, in the default suite and in the slow one."""


class Fuzzed:
    """A node in this process, whose handlers and image callback are called as DDS would call them."""

    def __init__(self, node: TrackerNode) -> None:
        self.node, self._number = node, 0

    def call(self, service: str, request: Any) -> Any:
        configured = self.node._configured
        assert configured is not None
        owner = configured.snapshots if service.endswith("_snapshot") else configured.services
        handler = getattr(owner, HANDLERS.get(service, f"_on_{service}"))
        return handler(request, SERVICES[service].Response())

    def give(self, message: Image | CompressedImage) -> str:
        """Hand one image over; what the node counted it as."""
        before = self.node.counter.counts()
        self.node._on_image(ReceivedImage(message, self.node.get_clock().now().to_msg(), time.monotonic()))
        deadline = time.monotonic() + 60.0
        while True:
            now = self.node.counter.counts()
            for kind in ("tracked", "unreadable", "failed", "skipped"):
                if getattr(now, kind) > getattr(before, kind):
                    return kind
            assert time.monotonic() < deadline, "the image was neither tracked nor refused"
            time.sleep(0.001)

    def track(self) -> None:
        """One image of the usual size, which must be tracked."""
        self._number += 1
        stamp = self.node.get_clock().now().to_msg()
        assert self.give(image_message(scene(self._number), stamp)) == "tracked"

    def kept_stamps(self) -> list[int]:
        configured = self.node._configured
        assert configured is not None
        return sorted(configured.tracker.kept_stamps_ns())


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    """An active node with room for three objects."""
    parameters = {"model": str(random_weights()), "threads": 1, "max_objects": 3, "service_timeout_s": 60.0}
    with isolated_ros():
        node = TrackerNode(
            parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()]
        )
        executor = TrackerExecutor(4)
        executor.add_node(node)
        spinner = threading.Thread(target=executor.spin)
        spinner.start()
        node.start()
        yield Fuzzed(node)
        node.close()
        executor.shutdown()
        spinner.join()
        node.destroy_node()


def sometimes(likely: Any, odd: Any) -> Any:
    """Mostly what a console sends, so that a case has few faults and gets far."""
    return st.integers(0, 19).flatmap(lambda roll: odd if roll == 19 else likely)


texts = sometimes(st.text("abc 1äß", max_size=12), st.text(max_size=300))
numbers = sometimes(st.floats(0, 95), st.floats())
points = st.builds(Point2D, x=numbers, y=numbers)
low, high = sometimes(st.floats(0, 40), st.floats()), sometimes(st.floats(45, 95), st.floats())
boxes = st.builds(BoundingBox2D, x_min=low, y_min=low, x_max=high, y_max=high)
uint32 = st.integers(0, 2**32 - 1)


@st.composite
def masks(draw: st.DrawFn) -> Any:
    mask = rle_message(np.roll(block_mask(), draw(st.integers(0, 60)), axis=1))
    for field in ("height", "width"):
        setattr(mask, field, draw(sometimes(st.just(getattr(mask, field)), uint32)))
    mask.counts = draw(sometimes(st.just(mask.counts), st.lists(uint32, max_size=20)))
    return mask


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """Any mixture of clicks, box and mask; its stamp is replaced by a kept one where `nanosec` is 1 to 9."""
    stamp = sometimes(
        st.builds(Time, nanosec=st.integers(0, 9)),
        st.builds(Time, sec=st.integers(-(2**31), 2**31 - 1), nanosec=uint32),
    )
    prompt = Prompt(stamp=draw(stamp))
    kind = draw(sometimes(st.sampled_from([1, 2, 3, 4]), st.integers(0, 7)))
    if kind & 1:
        prompt.points = draw(
            sometimes(st.lists(points, min_size=1, max_size=4), st.lists(points, max_size=40))
        )
        label = sometimes(st.integers(0, 1), st.integers(0, 255))
        count = draw(sometimes(st.just(len(prompt.points)), st.integers(0, 40)))
        prompt.point_labels = draw(st.lists(label, min_size=count, max_size=count))
    if kind & 2:
        prompt.has_box, prompt.box = True, draw(boxes)
    if kind & 4:
        prompt.mask = draw(masks())
    return prompt


FIELDS = {
    "client": texts,
    "name": texts,
    "class_name": texts,
    "reason": texts,
    "id": sometimes(st.integers(1, 4), uint32),
    "clear_class": st.booleans(),
    "prompt": prompts(),
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Any]:
    service = draw(st.sampled_from([*NAMES, *PROMPTING]))
    request = SERVICES[service].Request()
    for field in request.get_fields_and_field_types():
        if field in FIELDS:
            setattr(request, field, draw(FIELDS[field]))
    return service, request


def check_requests(fuzzed: Fuzzed, cases: int) -> set[str]:
    """Give the node so many requests; the services of which at least one was done."""
    done: set[str] = set()
    ids: list[int] = []
    fuzzed.call("reset", SERVICES["reset"].Request())
    fuzzed.track()

    @settings(
        max_examples=cases,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @given(requests())
    def one(case: tuple[str, Any]) -> None:
        service, request = case
        kept = fuzzed.kept_stamps()
        if (
            hasattr(request, "prompt")
            and 0 < request.prompt.stamp.nanosec < 10
            and not request.prompt.stamp.sec
            and kept
        ):
            request.prompt.stamp = ns_to_stamp(kept[-request.prompt.stamp.nanosec % len(kept)])
        if getattr(request, "id", 0) in (1, 2, 3, 4) and ids:
            request.id = ids[request.id % len(ids)]
        response = fuzzed.call(service, request)
        if response.success:
            done.add(service)
            assert getattr(response, "error", ErrorCode()).code == ErrorCode.NONE
        else:
            assert len(response.message) > 10, f"{service} was refused without a reason: {request}"
            error = getattr(response, "error", ErrorCode(code=ErrorCode.INVALID_REQUEST))
            assert error.code not in (ErrorCode.NONE, ErrorCode.ENGINE_FAILED, ErrorCode.TIMED_OUT), (
                response.message
            )
        ids[:] = [item.id for item in fuzzed.call("list_objects", SERVICES["list_objects"].Request()).objects]
        assert len(ids) <= 3
        if not fuzzed.kept_stamps():
            fuzzed.call("resume", SERVICES["resume"].Request())
            fuzzed.track()

    one()
    fuzzed.call("resume", SERVICES["resume"].Request())
    fuzzed.track()
    return done


@st.composite
def raw_images(draw: st.DrawFn) -> Image:
    encodings = st.sampled_from(
        ["rgb8", "bgr8", "rgba8", "mono8", "mono16", "bayer_rggb8", "yuv422", "32FC1"]
    )
    height, width = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    message = Image(height=height, width=width, encoding=draw(sometimes(encodings, st.text(max_size=20))))
    message.step = draw(sometimes(st.just(width * draw(st.integers(1, 4))), uint32))
    size = draw(sometimes(st.just(min(message.step, 400) * height), st.integers(0, 5000)))
    message.data = array.array("B", np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes())
    message.is_bigendian = draw(st.integers(0, 1))
    if draw(st.integers(0, 9)) == 9:
        message.height, message.width = draw(uint32), draw(uint32)
    return message


@st.composite
def compressed_images(draw: st.DrawFn) -> CompressedImage:
    extension = draw(st.sampled_from([".jpg", ".png"]))
    _, encoded = cv2.imencode(extension, scene(draw(st.integers(0, 9)), SIZE))
    data = bytearray(encoded.tobytes())
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    data = data[: draw(sometimes(st.just(len(data)), st.integers(0, len(data))))]
    noise = draw(sometimes(st.just(bytes(data)), st.binary(max_size=200)))
    return CompressedImage(
        format=draw(sometimes(st.just("jpeg"), st.text(max_size=20))), data=array.array("B", noise)
    )


def check_images(fuzzed: Fuzzed, cases: int) -> dict[str, int]:
    """Give the node so many images; how many were counted as what."""
    counts: dict[str, int] = {}

    @settings(
        max_examples=cases,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @given(st.one_of(raw_images(), compressed_images()))
    def one(message: Image | CompressedImage) -> None:
        message.header.stamp = fuzzed.node.get_clock().now().to_msg()
        try:
            image = image_to_rgb(message) if isinstance(message, Image) else compressed_to_rgb(message)
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            refusal = ""
        except ImageMessageError as error:
            refusal = str(error)
            assert len(refusal) > 20 and "image" in refusal
        fuzzed.call("reset", SERVICES["reset"].Request())  # so that an image of another size is tracked
        kind = fuzzed.give(message)
        counts[kind] = counts.get(kind, 0) + 1
        assert kind == ("unreadable" if refusal else "tracked"), refusal

    one()
    fuzzed.call("reset", SERVICES["reset"].Request())
    fuzzed.track()
    return counts


def test_odd_requests_are_refused_with_a_reason(fuzzed: Fuzzed) -> None:
    check_requests(fuzzed, FEW)


def test_odd_images_are_refused_with_a_reason(fuzzed: Fuzzed) -> None:
    assert check_images(fuzzed, FEW).get("unreadable", 0) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_odd_requests(fuzzed: Fuzzed) -> None:
    """Every service is reached: each does once what it was asked, but those of snapshots, which are off here."""
    assert check_requests(fuzzed, MANY) == set(NAMES) - {"save_snapshot", "restore_snapshot"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_odd_images(fuzzed: Fuzzed) -> None:
    assert check_images(fuzzed, MANY).keys() == {"tracked", "unreadable"}
