"""Prompts on an image that the operator saw some time ago: answered at once, and the object joins in slices."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from node_harness import Client, block_mask, clicks, mask, node_in_this_process
from tracking_cases import disc, moving_images, small_network, small_tracker

from sam2s_msgs.msg import ErrorCode, Prompt, TrackedObject, TrackedObjectArray
from sam2s_ros.nodes import prompt_services, tracker_node
from sam2s_ros.nodes.late_objects import FRAMES_PER_IMAGE, LateObjects
from sam2s_ros.nodes.messages import stamp_to_ns
from sam2s_ros.nodes.suggestions import asked
from sam2s_ros.tracking import FrameResult, StreamingTracker

SETTINGS = {
    "service_timeout_s": 30.0,
    "stale_after_s": 30.0,
    "threads": 1,
    "engine": "eager",
    "image_size": 128,
}
ASIDE = np.roll(block_mask(), 60, axis=1)


class Brake:
    """Lets objects that are behind go on, or not."""

    def __init__(self) -> None:
        self.on = False

    def put_on(self, tracker: StreamingTracker) -> None:
        advance = tracker.advance

        def braked(frames: int) -> int:
            time.sleep(0.002 if self.on else 0)
            return advance(0 if self.on else frames)

        tracker.advance = braked  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def brake() -> Iterator[Brake]:
    brake, load_tracker = Brake(), tracker_node.load_tracker

    def load(*arguments: Any) -> StreamingTracker:
        tracker = load_tracker(*arguments)
        brake.put_on(tracker)
        return tracker

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker_node, "load_tracker", load)
        yield brake


@pytest.fixture(scope="module")
def client(brake: Brake) -> Iterator[Client]:
    with node_in_this_process(SETTINGS) as (_, client):
        yield client


@pytest.fixture
def filmed(client: Client, brake: Brake) -> Iterator[list[TrackedObjectArray]]:
    """Eight images with an object that was prompted on the first; objects that are behind stay so."""
    client.call("reset")
    client.track()
    client.call("add_object", prompt=Prompt(**mask(block_mask())))
    brake.on = True
    yield [client.track() for _ in range(8)]
    brake.on = False


def item(array: TrackedObjectArray, object_id: int) -> TrackedObject:
    return next(one for one in array.objects if one.id == object_id)


def joined(client: Client, object_id: int) -> TrackedObject:
    """The object on the first image on which it is there."""

    def find() -> TrackedObject | None:
        one = item(client.track(), object_id)
        return None if "joining" in one.state_reason else one

    return client.wait(find, "the object to join")


def test_a_late_prompt_is_answered_from_its_own_image_and_the_object_joins(
    client: Client, brake: Brake, filmed: list[TrackedObjectArray]
) -> None:
    """Until it has joined nothing is published for it as if it were now; the other object does not notice."""
    prompted, other_id = filmed[2].header.stamp, filmed[0].objects[0].id
    added = client.call("add_object", prompt=Prompt(stamp=prompted, **mask(ASIDE)))
    assert added.success and added.stamp == prompted and added.mask.area == ASIDE.sum()
    assert added.frames_behind == 5 and "5 images behind" in added.message
    listed = client.call("list_objects")
    assert f"{added.id} is 5 images behind" in listed.message and "joining" not in listed.message
    assert math.isnan(listed.objects[1].mask.area) and listed.objects[1].mask.state == TrackedObject.UNCERTAIN
    array = client.track()
    late, other = item(array, added.id), item(array, other_id)
    assert late.state == TrackedObject.UNCERTAIN and "6 images behind" in late.state_reason
    assert math.isnan(late.mask_age) and math.isnan(late.area) and math.isnan(late.presence)
    assert late.mask.height == 0 and not late.mask.counts
    assert other.mask_age == 0 and sum(other.mask.counts[1::2]) == other.area
    assert array.status == TrackedObjectArray.OK and array.frames_skipped == filmed[-1].frames_skipped
    brake.on = False
    there = joined(client, added.id)
    assert there.mask_age == 0 and there.mask.height and math.isfinite(there.presence)
    message = client.call("list_objects").message
    assert message.startswith("2 objects") and "behind" not in message


def test_a_correction_waits_for_an_object_on_its_way_and_is_refused_when_it_does_not_come(
    client: Client, brake: Brake, filmed: list[TrackedObjectArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    object_id, newest = filmed[0].objects[0].id, filmed[-1].header.stamp
    late = client.call(
        "refine_object", id=object_id, prompt=Prompt(stamp=filmed[2].header.stamp, **clicks((20, 30)))
    )
    assert late.success and late.frames_behind == 5
    with monkeypatch.context() as patch:
        patch.setattr(prompt_services, "JOIN_S", 0.05)
        refused = client.call("refine_object", id=object_id, prompt=Prompt(stamp=newest, **clicks((20, 30))))
    assert not refused.success and refused.error.code == ErrorCode.TIMED_OUT
    assert f"object {object_id} is still 5 frames behind" in refused.message
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.call, "refine_object", id=object_id, prompt=Prompt(**clicks((20, 30))))
        time.sleep(0.1)
        assert not waiting.done()
        client.track()
        brake.on = False
        refined = waiting.result(30)
    assert refined.success and refined.stamp == newest, "the image that was the newest when it was asked"


def test_a_stamp_that_is_too_old_is_refused_with_the_range(
    client: Client, filmed: list[TrackedObjectArray]
) -> None:
    old = client.call("add_object", prompt=Prompt(stamp=filmed[0].header.stamp, **mask(ASIDE)))
    assert old.success
    stamp = filmed[0].header.stamp
    stamp.sec -= 10
    refused = client.call("add_object", prompt=Prompt(stamp=stamp, **mask(ASIDE)))
    assert refused.error.code == ErrorCode.UNKNOWN_STAMP
    first, last = stamp_to_ns(refused.oldest_kept), stamp_to_ns(refused.newest_kept)
    assert f"{first} .. {last} ns" in refused.message and last == stamp_to_ns(filmed[-1].header.stamp)


class Late:
    """A tracker with an object that is five frames behind, and what a node would have been told."""

    def __init__(self) -> None:
        self.tracker = small_tracker(small_network())
        self.frames = moving_images(12)
        self.tracker.add_object(self.frames[0], mask=disc(40, 40, 15), stamp_ns=0)
        for index in range(1, 8):
            self.tracker.step(self.frames[index], index)
        self.id = self.tracker.add_object(None, mask=disc(90, 50, 14), stamp_ns=2, catch_up=False)
        self.refreshed: list[FrameResult] = []
        self.errors: list[str] = []
        logger = SimpleNamespace(error=lambda text, **_: self.errors.append(text))
        self.objects = LateObjects(self.tracker, self.refreshed.append, logger)

    def behind(self) -> int:
        return self.tracker.frames_behind(self.id)


def test_spare_time_brings_an_object_to_now_and_images_pay_only_what_is_missing() -> None:
    late = Late()
    late.objects.after_image()  # nothing was owed yet
    assert late.behind() == 5 and late.tracker.last_result is not None
    assert late.id not in {one for _, one in asked(late.tracker.last_result)}, "no click would help it"
    late.objects.after_image()
    assert late.behind() == 5 - FRAMES_PER_IMAGE
    assert late.objects.in_spare_time()
    late.objects.after_image()
    assert late.behind() == 5 - FRAMES_PER_IMAGE - 1 - (FRAMES_PER_IMAGE - 1) and not late.refreshed
    assert not late.objects.in_spare_time() and late.behind() == 0
    assert [result.masks[1].any() for result in late.refreshed] == [True]
    assert not late.objects.in_spare_time() and len(late.refreshed) == 1


def test_an_engine_that_fails_on_the_way_is_reported_and_the_object_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = Late()
    with monkeypatch.context() as patch:
        patch.setattr(
            late.tracker.engine, "attend", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory"))
        )
        assert late.objects.in_spare_time()
    assert "no memory" in late.errors[0] and late.behind() == 4
    while late.objects.in_spare_time():
        pass
    assert late.behind() == 0 and len(late.errors) == 1


def test_nothing_is_done_in_a_stream_that_has_to_be_reset() -> None:
    late = Late()
    late.tracker.step(late.frames[8][:60], 8)
    assert not late.objects.in_spare_time()
