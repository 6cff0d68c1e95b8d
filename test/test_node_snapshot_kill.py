"""A node that is killed outright goes on where it was: same ids, same masks as a tracker that nobody killed.

Over DDS, with the bundled weights and a camera that does not wait for the node. In a process of its own with the
shipped Fast DDS profile, as deployed: a node that is killed leaves buffers of its camera's shared memory taken, and the
few that fit into Fast DDS's default are soon used up (docs/safety.md). By hand, with figures:
`pytest -s -m slow test/test_node_snapshot_kill.py`.
"""

from __future__ import annotations

import functools
import multiprocessing
import random
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from node_harness import TIMEOUT_S, Client, NodeProcess, image_message, isolated_ros, mask
from numpy.typing import NDArray

from sam2s_msgs.msg import Prompt, TrackedObject, TrackedObjectArray
from sam2s_ros.data.sequences import render_sequence
from sam2s_ros.nodes.messages import stamp_to_ns
from sam2s_ros.nodes.synthetic_camera import there_and_back
from sam2s_ros.tracking import StreamingTracker, load_tracker, rle

PERIOD_S = 0.15
SIZE = (180, 240)
FRAMES = 40
COMPARED = 10
"""Images after a restart on which masks are compared."""
WHILE_DEAD = 4
"""Of the images that no node saw, the tracker that was not killed sees one in so many."""


@functools.cache
def scene() -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Images and masks [2, H, W] of two instruments over tissue, of designs that training has not seen."""
    return list(render_sequence(1, FRAMES, SIZE, fps=25.0, objects=2))


def picture(number: int) -> NDArray[np.uint8]:
    return scene()[there_and_back(number, FRAMES)][0]


def truth(number: int, which: int) -> NDArray[np.bool_]:
    return scene()[there_and_back(number, FRAMES)][1][which]


class Camera:
    """Publishes `picture` 0, 1, 2, ... whoever listens; knows the number that belongs to a stamp."""

    def __init__(self, client: Client) -> None:
        scene()
        self._client, self._stop = client, threading.Event()
        self.numbers: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def number(self, array: TrackedObjectArray) -> int:
        return self.numbers[stamp_to_ns(array.header.stamp)]

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            number, stamp = len(self.numbers), self._client.now()
            self.numbers[stamp_to_ns(stamp)] = number
            self._client.images.publish(image_message(picture(number), stamp))


def tracked(client: Client, since: int) -> list[TrackedObjectArray]:
    """Arrays with objects that arrived since, one for each image."""
    arrays = {stamp_to_ns(one.header.stamp): one for one in client.arrays[since:] if one.objects}
    return list(arrays.values())


def kill(process: NodeProcess, folder: Path, chance: random.Random, in_write: bool) -> bool:
    """Kill the node at a random moment, or as soon as it is seen to write; whether it was then still writing."""
    time.sleep(chance.uniform(0, 1))
    if in_write:
        deadline = time.monotonic() + 5
        while not list(folder.glob(".draft_*")) and time.monotonic() < deadline:
            pass
    process.process.kill()
    process.process.wait(TIMEOUT_S)
    return bool(list(folder.glob(".draft_*")))


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def message_mask(one: TrackedObject) -> NDArray[np.bool_]:
    return rle.decode(np.array(one.mask.counts, dtype=np.uint32), (one.mask.height, one.mask.width))


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_killed_node_goes_on_with_the_same_objects(
    tmp_path: Path, repository_root: Path, rounds: int
) -> None:
    profile = repository_root / "config" / "fastdds_profile.xml"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own_process:
        own_process.submit(kill_and_compare, tmp_path, profile, rounds).result()


def kill_and_compare(tmp_path: Path, profile: Path, rounds: int) -> None:
    """Kill the node so often, and compare what it says afterwards."""
    chance = random.Random(rounds)
    parameters = {
        "model": "nano",
        "engine": "eager",
        "precision": "fp32",
        "threads": 1,
        "autostart": True,
        "snapshot_dir": str(tmp_path),
        "snapshot_period_s": 0.05,
        "snapshot_max_age_s": 600.0,
        "stale_after_s": 10.0,
    }
    seen: list[tuple[int, TrackedObjectArray]] = []
    compared: list[list[tuple[int, TrackedObjectArray]]] = []
    in_write, latencies, received = 0, [], []
    with isolated_ros(profile):
        process, client = NodeProcess(parameters), Client()
        camera = Camera(client)
        try:
            client.wait(lambda: any(one.frames_tracked for one in list(client.arrays)), "a tracked image")
            prompted = client.arrays[-1].header.stamp
            start = camera.numbers[stamp_to_ns(prompted)]
            for which in (0, 1):
                prompt = Prompt(stamp=prompted, **mask(truth(start, which)))
                answer = client.call("add_object", prompt=prompt, name=f"instrument {which}")
                assert answer.success, answer.message
            client.wait(lambda: len(client.arrays[-1].objects) == 2, "both objects")
            since = len(client.arrays)
            session = client.arrays[-1].session
            client.wait(lambda: len(tracked(client, since)) > 2 * COMPARED, "a stream")
            seen += [(camera.number(one), one) for one in tracked(client, since)]
            for round_number in range(rounds):
                in_write += kill(process, tmp_path / "tracker", chance, in_write=round_number % 2 == 0)
                since = len(client.arrays)
                process = NodeProcess(parameters)
                client.wait(lambda: len(tracked(client, since)) >= COMPARED, f"round {round_number}", 60)  # noqa: B023
                arrays = [one for one in client.arrays[since:] if one.frames_tracked]
                assert "damaged" not in process.log() and "Traceback" not in process.log(), process.log()
                assert {one.session for one in arrays} == {session}
                assert all(
                    [(it.id, it.name) for it in one.objects] == [(1, "instrument 0"), (2, "instrument 1")]
                    for one in arrays
                )
                assert all(
                    it.state != TrackedObject.TRACKING
                    for one in tracked(client, since)[:4]
                    for it in one.objects
                )
                assert arrays[0].frames_tracked == 1
                latencies.append(arrays[0].latency)
                received.append(arrays[0].frames_received)
                pairs = [(camera.number(one), one) for one in tracked(client, since)]
                seen += pairs
                compared.append(pairs[:COMPARED])
            answer = client.call("add_object", prompt=Prompt(**mask(truth(start, 0))), name="late")
            assert answer.id > 2, "an id is never given twice"
        finally:
            camera.stop()
            client.close()
            process.end(signal.SIGKILL)
    reference = uninterrupted(start, {number for number, _ in seen}, max(number for number, _ in seen))
    ious = [
        iou(message_mask(it), reference[number][it.id])
        for pairs in compared
        for number, one in pairs
        for it in one.objects
    ]
    print(
        f"\n{rounds} rounds, {in_write} of them killed within a write; IoU with the tracker that was not killed on the "
        f"first {COMPARED} images: mean {np.mean(ious):.4f}, least {min(ious):.4f}; first objects at most "
        f"{max(latencies):.2f} s after their image was published, at most image {max(received)} that the node received"
    )
    assert len(ious) == rounds * COMPARED * 2
    assert min(ious) >= 0.85
    assert rounds == 1 or in_write > 0


def uninterrupted(start: int, seen: set[int], last: int) -> dict[int, dict[int, NDArray[np.bool_]]]:
    """Masks by image and id of a tracker that nobody kills, on the images that the nodes saw and some of the rest."""
    tracker: StreamingTracker = load_tracker("nano", "eager", threads=1, precision="fp32")
    for which in (0, 1):
        tracker.add_object(picture(start), mask=truth(start, which))
    masks = {}
    for number in range(start + 1, last + 1):
        if number in seen or number % WHILE_DEAD == 0:
            result = tracker.step(picture(number))
            masks[number] = dict(zip(result.ids.tolist(), result.masks, strict=True))
    return masks
