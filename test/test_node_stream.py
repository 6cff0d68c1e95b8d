"""The running node over DDS: images in, objects out; prompts and bad input while the stream goes on."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from node_harness import (
    SIZE,
    Client,
    NodeProcess,
    block_mask,
    box,
    clicks,
    isolated_ros,
    mask,
    scene,
)

from sam2s_msgs.msg import ErrorCode, Prompt, RleMask, TrackedObject, TrackedObjectArray
from sam2s_ros.tracking import rle

KEPT_FRAMES = 8
MAX_OBJECTS = 2


@pytest.fixture(scope="module")
def node() -> Iterator[NodeProcess]:
    """One node for all tests of this file, active."""
    with isolated_ros():
        process = NodeProcess(
            {"autostart": True, "kept_frames": KEPT_FRAMES, "max_objects": MAX_OBJECTS, "threads": 1}
        )
        yield process
        process.end()


@pytest.fixture(scope="module")
def connection(node: NodeProcess) -> Iterator[Client]:
    client = Client()
    client.connect()
    yield client
    client.close()


@pytest.fixture
def client(connection: Client) -> Client:
    """The client, with no object tracked and one image already seen by the node."""
    assert connection.call("reset").success
    connection.track()
    return connection


def add(client: Client, prompt: dict[str, Any] | None = None, name: str = "", stamp: Any = None) -> Any:
    request = Prompt(**(mask(block_mask()) if prompt is None else prompt))
    if stamp is not None:
        request.stamp = stamp
    return client.call("add_object", client="test", name=name, prompt=request)


def decoded(one: TrackedObject) -> np.ndarray:
    return rle.decode(one.mask.counts, (one.mask.height, one.mask.width))


def test_image_in_objects_out_with_the_same_header(client: Client) -> None:
    """Each image gives one array with its stamp and frame_id, and every stage says how long it took."""
    request = {"name": "left hand", "class_name": "grasper", "prompt": Prompt(**mask(block_mask()))}
    assert client.call("add_object", **request).success
    array = client.track()
    assert array.header.frame_id == "endoscope"
    assert (array.image_height, array.image_width) == SIZE
    assert array.status == TrackedObjectArray.OK
    assert array.model == "nano" and len(array.model_sha256) == 64
    assert [(one.name, one.class_name) for one in array.objects] == [("left hand", "grasper")]
    stages = {one.stage: one.duration for one in array.stage_latencies}
    assert {"transport", "queue", "convert", "encode", "decode", "fill"} <= stages.keys()
    assert 0 < stages["encode"] < array.latency


def test_a_mask_prompt_comes_back_as_run_lengths(client: Client) -> None:
    """What was marked on the newest image is what the response measures, in the pixels of that image."""
    response = add(client)
    assert response.success and response.error.code == ErrorCode.NONE
    assert response.mask.area == block_mask().sum()
    assert (response.mask.centroid.x, response.mask.centroid.y) == (44.5, 34.5)
    corners = response.mask.bounding_box
    assert (corners.x_min, corners.y_min, corners.x_max, corners.y_max) == (30, 20, 59, 49)


def test_what_is_not_known_is_nan(client: Client) -> None:
    """A controller can tell "not estimated" from 0."""
    add(client)
    one = client.track().objects[0]
    assert math.isnan(one.class_score) and math.isnan(one.position.z) and not one.has_position
    assert np.isnan(one.position_covariance).all() and np.isfinite(one.centroid_covariance).all()


def test_labels_agree_with_the_run_lengths(client: Client) -> None:
    """A pixel has an object's value only where that object's mask is, and always where no other mask is."""
    add(client, name="a")
    shifted = np.roll(block_mask(), 10, axis=1)
    add(client, mask(shifted), name="b")
    array = client.track()
    labels = client.wait(
        lambda: next((one for one in list(client.labels) if one.header.stamp == array.header.stamp), None),
        "the label image",
    )
    image = np.frombuffer(labels.data, np.uint8).reshape(SIZE)
    masks = {one.label: decoded(one) for one in array.objects}
    assert labels.encoding == "mono8" and set(np.unique(image)) <= {0, *masks}
    assert any(one.any() for one in masks.values())
    for label, pixels in masks.items():
        others = np.logical_or.reduce([other for value, other in masks.items() if value != label])
        assert pixels[image == label].all()
        assert (image[pixels & ~others] == label).all()
    assert (image == 0)[~np.logical_or.reduce(list(masks.values()))].all()


def test_a_freed_label_value_rests(client: Client) -> None:
    """The value of a removed object is not given to the next one at once, and the latched table follows."""
    first = add(client, name="first").id
    old = client.track().objects[0].label
    assert client.call("remove_object", id=first).success
    second = add(client, name="second").id
    new = client.track().objects[0].label
    assert second > first and new != old and new > 0
    client.wait(
        lambda: [(e.label, e.id, e.name) for e in client.tables[-1].entries] == [(new, second, "second")],
        "table",
    )


def test_prompts_are_answered_while_frames_flow(client: Client) -> None:
    """Prompting does not stop the stream: images sent meanwhile are tracked, and the object is in the next one."""
    stop = threading.Event()

    def stream() -> None:
        while not stop.is_set():
            client.send()
            time.sleep(0.1)

    camera = threading.Thread(target=stream)
    before = client.arrays[-1].frames_tracked
    camera.start()
    try:
        responses = [add(client, box(20, 20, 60, 60)), add(client, clicks((40, 30)))]
        refined = client.call(
            "refine_object", id=responses[0].id, prompt=Prompt(**clicks((45, 35), (5, 5), labels=[1, 0]))
        )
        client.newest_array(
            lambda one: len(one.objects) == 2 and one.frames_tracked > before + 3, "both objects"
        )
    finally:
        stop.set()
        camera.join()
    assert [one.success for one in responses] == [True, True] and refined.success
    listed = client.call("list_objects")
    assert [one.prompts for one in listed.objects] == [2, 1] and listed.max_objects == MAX_OBJECTS


def test_a_prompt_for_an_image_five_frames_back(client: Client) -> None:
    """The prompt is applied to the image it names, and the object is in the stream from the next image on."""
    stamps = [client.track().header.stamp for _ in range(6)]
    response = add(client, stamp=stamps[0])
    assert response.success, response.message
    assert response.stamp == stamps[0]
    joined = client.wait(
        lambda: [one for one in client.call("list_objects").objects if one.last_seen == stamps[-1]],
        "the object to be brought to the newest image",
    )
    assert [one.added for one in joined] == [stamps[0]]
    assert [one.id for one in client.track().objects] == [response.id]


def test_a_prompt_for_an_evicted_image_is_refused_with_the_kept_range(client: Client) -> None:
    """An operator who is too late learns which images may still be named."""
    stamps = [client.track().header.stamp for _ in range(KEPT_FRAMES + 1)]
    response = add(client, stamp=stamps[0])
    assert not response.success and response.error.code == ErrorCode.UNKNOWN_STAMP
    assert (response.oldest_kept, response.newest_kept) == (stamps[1], stamps[-1])
    assert add(client, stamp=response.oldest_kept).success


def truncated_mask() -> dict[str, Any]:
    return {"mask": RleMask(height=SIZE[0], width=SIZE[1], counts=[10, 20])}


BAD_PROMPTS = {
    "empty prompt": ({}, ErrorCode.INVALID_REQUEST, "empty"),
    "click that is NaN": (clicks((math.nan, 4)), ErrorCode.INVALID_REQUEST, "finite"),
    "click outside": (clicks((SIZE[1], 4)), ErrorCode.INVALID_REQUEST, "outside the image"),
    "only negative clicks": (clicks((4, 4), labels=[0]), ErrorCode.INVALID_REQUEST, "label 1"),
    "points without labels": (clicks((4, 4), labels=[]), ErrorCode.INVALID_REQUEST, "labels"),
    "label that is neither": (clicks((4, 4), labels=[7]), ErrorCode.INVALID_REQUEST, "neither"),
    "box without area": (box(10, 10, 10, 30), ErrorCode.INVALID_REQUEST, "no area"),
    "mask of another size": (mask(block_mask((64, 64))), ErrorCode.INVALID_REQUEST, "64x64"),
    "mask without a pixel": (mask(np.zeros(SIZE, bool)), ErrorCode.INVALID_REQUEST, "empty"),
    "mask cut short": (truncated_mask(), ErrorCode.INVALID_REQUEST, "sum to 30"),
}


@pytest.mark.parametrize("case", BAD_PROMPTS)
def test_a_prompt_that_makes_no_sense_is_refused(client: Client, case: str) -> None:
    """The response names the field and the fix, nothing is added, and the stream goes on."""
    prompt, code, words = BAD_PROMPTS[case]
    response = add(client, prompt)
    assert not response.success and response.id == 0 and response.error.code == code
    assert words in response.message and math.isnan(response.mask.area)
    array = client.track()
    assert array.status == TrackedObjectArray.OK and not array.objects


@pytest.mark.parametrize("service", ["refine_object", "remove_object"])
def test_an_unknown_id_is_refused(client: Client, service: str) -> None:
    """The response says which ids there are, and the stream goes on."""
    known = add(client).id
    fields = {"prompt": Prompt(**clicks((40, 30)))} if service == "refine_object" else {}
    response = client.call(service, id=9999, **fields)
    assert not response.success and response.error.code == ErrorCode.UNKNOWN_OBJECT
    assert "9999" in response.message and str(known) in response.message
    assert [one.id for one in client.track().objects] == [known]


def test_one_object_too_many_is_refused(client: Client) -> None:
    """The limit is named, the objects that are tracked stay, and room is made by removing one."""
    ids = [add(client).id for _ in range(MAX_OBJECTS)]
    response = add(client)
    assert not response.success and response.error.code == ErrorCode.TOO_MANY_OBJECTS
    assert "max_objects" in response.message
    assert [one.id for one in client.track().objects] == ids
    assert client.call("remove_object", id=ids[0]).success and add(client).success


def test_a_prompt_before_the_first_image_is_refused(client: Client) -> None:
    """After a reset no image is kept, which is how the node starts: there is nothing to prompt on."""
    assert client.call("reset").success
    response = add(client)
    assert not response.success and response.error.code == ErrorCode.NO_IMAGE
    assert "/image" in response.message
    assert client.track().status == TrackedObjectArray.OK


BAD_IMAGES = {
    "no pixels": ("rgb8", np.zeros((0, 0, 3), np.uint8), "empty images"),
    "truncated": ("rgb8", scene(0)[:, :, :1], "truncated"),
    "unknown encoding": ("rgb9", scene(0), "rgb9"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_an_image_that_cannot_be_read_is_left_out(client: Client, node: NodeProcess, case: str) -> None:
    """It is counted, the heartbeat names what is wrong with it, and the next good image is tracked."""
    encoding, pixels, words = BAD_IMAGES[case]
    before = client.track()
    message_pixels = pixels
    stamp = client.now()
    from node_harness import image_message

    message = image_message(message_pixels, stamp, encoding)
    if case == "truncated":
        message.step = SIZE[1] * 3
    client.images.publish(message)
    stale = client.newest_array(lambda one: one.status == TrackedObjectArray.STALE, "a heartbeat")
    assert words in stale.status_message
    assert stale.header.stamp == before.header.stamp
    assert (stale.frames_received, stale.frames_tracked) == (
        before.frames_received + 1,
        before.frames_tracked,
    )
    after = client.track()
    assert after.status == TrackedObjectArray.OK, after.status_message


@pytest.mark.parametrize("encoding", ["bgr8", "rgba8", "bgra8", "mono8", "bayer_rggb8"])
def test_every_usual_encoding_is_tracked(client: Client, encoding: str) -> None:
    """Colour, grey and Bayer images alike."""
    image = scene(0)
    channels = {"bgr8": image[:, :, ::-1], "mono8": image[:, :, 0], "bayer_rggb8": image[:, :, 0]}
    pixels = channels.get(encoding, np.dstack([image, image[:, :, :1]]))
    assert client.track(np.ascontiguousarray(pixels), encoding).status == TrackedObjectArray.OK


def test_an_object_added_without_a_name_gets_one(client: Client) -> None:
    """So lists, label table and objects show something for it."""
    name = f"object {add(client).id}"
    assert [one.name for one in client.call("list_objects").objects] == [name]
    assert [one.name for one in client.track().objects] == [name]


def test_a_change_of_the_image_size_asks_for_a_reset(client: Client) -> None:
    """The objects are LOST, the status says what to do, prompts are refused until then, and a reset helps."""
    add(client)
    other = scene(0, (64, 80))
    array = client.track(other)
    assert array.status == TrackedObjectArray.STALE and "~/reset" in array.status_message
    assert [one.state for one in array.objects] == [TrackedObject.LOST]
    assert add(client).error.code == ErrorCode.RESET_NEEDED
    assert client.call("reset").success
    assert client.track(other).status == TrackedObjectArray.OK
    assert add(client, mask(block_mask((64, 80)))).success


def test_a_silent_camera_makes_the_objects_stale(client: Client) -> None:
    """The heartbeat goes on with the old stamp and says for how long nothing came."""
    add(client)
    last = client.track()
    stale = client.newest_array(lambda one: one.status == TrackedObjectArray.STALE, "a heartbeat")
    assert stale.header == last.header and len(stale.objects) == 1 and stale.latency > 1.0
    after = client.track()
    assert after.status == TrackedObjectArray.OK, after.status_message


def test_loss_in_transport_is_counted_and_the_fix_is_named(client: Client, node: NodeProcess) -> None:
    """Large images between two processes without the Fast DDS profile get lost: the node counts and says what to do."""
    before = client.track()
    large, sent = np.zeros((720, 1280, 3), np.uint8), 60
    for _ in range(sent):
        client.send(large)
        time.sleep(1 / 60)
    small = 0

    def losses() -> int:
        """How many are counted as lost, once all images are accounted for; the count may come a little late."""
        nonlocal small
        small += 1
        after = client.track()
        arrived = after.frames_received - before.frames_received - small
        lost = after.frames_lost - before.frames_lost
        return lost if abs(arrived + lost - sent) <= 3 else 0

    assert client.wait(losses, "every image to be counted as arrived or lost") > 0
    client.wait(lambda: "FASTDDS_DEFAULT_PROFILES_FILE" in node.log(), "the warning")
