"""What many consoles cost the stream: 160 service calls a second from one process over 8 clients, while a 15 Hz camera
runs, and the same stream without calls before and after.

    python test/benchmarks/service_load.py [--json FILE] [--quick] [--seconds 60] [--calls 160] [--rate 15]
        [--image-size 0]

90 % of the calls list or rename, 10 % refine, at times set beforehand: a late answer delays no other call. Refinements
are of the newest image. A response is mixed up if it is not of the object or the name that its call was about, or of an
image before the one that the client had seen.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from node_and_camera import UP_TIMEOUT_S, camera_process, console_node, tracker_process

CLIENTS = 8
KINDS = ("refine", "list", "rename", "list", "rename", "list", "rename", "list", "rename", "list")
OBJECTS = 2
SIZE = (360, 640)
SERVICE_OF = {"refine": "refine_object", "rename": "rename_object", "list": "list_objects"}
ANSWER_TIMEOUT_S = 60.0


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    from sam2s_ros.nodes.synthetic_camera import render_scene

    seconds = 5.0 if args.quick else args.seconds
    lasts_s = 3 * seconds + UP_TIMEOUT_S + ANSWER_TIMEOUT_S  # a camera that never ends first
    parameters = {
        "model": args.model,
        "image_size": args.image_size,
        "service_timeout_s": ANSWER_TIMEOUT_S,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scene = render_scene(folder / "scene", 2025, 60, OBJECTS, *SIZE, fps=args.rate)
        with (
            console_node(folder / "logs") as node,
            tracker_process(folder, parameters) as tracker,
            camera_process(folder, folder / "scene", args.rate, round(args.rate * lasts_s)),
        ):
            results = measure(node, tracker.check, scene, seconds, args.calls)
    results |= {"rate_hz": args.rate, "calls_per_s": args.calls, "image_size": args.image_size}
    report(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


class Stream:
    """What the node publishes, as consoles see it."""

    def __init__(self, node: Any) -> None:
        from sam2s_msgs.msg import TrackedObjectArray

        self.newest: Any = None
        self.heard_s = 0.0
        node.create_subscription(TrackedObjectArray, "/tracker/objects", self._take, 10)

    def _take(self, array: Any) -> None:
        self.newest, self.heard_s = array, time.monotonic()

    def wait_for_frames(self, check: Any, frames: int) -> None:
        """Until so many images have been tracked; `check()` raises if the node has ended."""
        deadline = time.monotonic() + UP_TIMEOUT_S
        while self.newest is None or self.newest.frames_tracked < frames:
            check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {frames} images tracked within {UP_TIMEOUT_S:g} s")
            time.sleep(0.05)

    def rate_of(self, run: Callable[[], Any]) -> tuple[float, Any]:
        """Images tracked a second while `run()` lasts, and what it returns."""
        frames, begun_s = self.newest.frames_tracked, self.heard_s
        answer = run()
        return (self.newest.frames_tracked - frames) / (self.heard_s - begun_s), answer

    def click_on(self, object_id: int) -> tuple[tuple[float, float], int]:
        """A point on the object as the newest image shows it, and the stamp of that image."""
        from sam2s_ros.nodes.messages import stamp_to_ns

        array = self.newest
        one = next(one for one in array.objects if one.id == object_id)
        x, y = (
            (one.centroid.x, one.centroid.y) if math.isfinite(one.centroid.x) else (SIZE[1] / 2, SIZE[0] / 2)
        )
        return (x, y), stamp_to_ns(array.header.stamp)


def measure(node: Any, check: Any, scene: Any, seconds: float, calls_per_s: float) -> dict[str, Any]:
    """Frame rates without calls, with them and without again, and what became of the calls."""
    from sam2s_ros.nodes.client import Sam2sClient

    stream = Stream(node)
    operator = Sam2sClient(client="operator", timeout_s=ANSWER_TIMEOUT_S)
    operator.wait_until_up(UP_TIMEOUT_S, check)
    stream.wait_for_frames(check, 10)
    masks = [scene.mask(0, index) for index in range(OBJECTS)]
    ids = [operator.add_object(mask=mask if mask.any() else block()).id for mask in masks]
    operator.close()
    consoles = [Console(node, f"console {number}") for number in range(CLIENTS)]
    for console in consoles:
        console.meet(check)
    stream.wait_for_frames(check, stream.newest.frames_tracked + 10)
    before_hz, _ = stream.rate_of(lambda: time.sleep(seconds))
    with_calls_hz, calls = stream.rate_of(lambda: call_all(consoles, stream, ids, seconds, calls_per_s))
    after_hz, _ = stream.rate_of(lambda: time.sleep(seconds))
    without_hz = (before_hz + after_hz) / 2
    return {
        "without_calls_hz": [round(before_hz, 2), round(after_hz, 2)],
        "with_calls_hz": round(with_calls_hz, 2),
        "share_of_rate": round(with_calls_hz / without_hz, 3),
        "step_ms": round(1000 / without_hz, 1),
        "load_average": round(os.getloadavg()[0], 1),
        **calls,
    }


def block() -> np.ndarray:
    """A mask for an object that is not in view on the first image."""
    mask = np.zeros(SIZE, bool)
    mask[100:200, 200:300] = True
    return mask


class Console:
    """Plain ROS clients of the three services: the typed client's thread for each call that waits, and its clients of
    all other services, would take more of the machine than the node that is measured."""

    def __init__(self, node: Any, name: str) -> None:
        from sam2s_ros.nodes.client import SERVICES
        from sam2s_ros.nodes.service_limits import SERVICE_QOS

        self.name = name
        self.types = {kind: SERVICES[service] for kind, service in SERVICE_OF.items()}
        self.clients = {
            kind: node.create_client(self.types[kind], f"/tracker/{service}", qos_profile=SERVICE_QOS)
            for kind, service in SERVICE_OF.items()
        }

    def meet(self, check: Any) -> None:
        """List until the node answers: a node drops its answer to a client that it has not discovered yet."""
        deadline = time.monotonic() + UP_TIMEOUT_S
        while True:
            check()
            answer = self.clients["list"].call_async(self.types["list"].Request())
            asked_s = time.monotonic()
            while time.monotonic() < asked_s + 2.0 and not answer.done():
                time.sleep(0.01)
            if answer.done():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer to {self.name} within {UP_TIMEOUT_S:g} s")

    def ask(self, kind: str, object_id: int, stream: Stream, ids: list[int], call: str) -> tuple[Any, Any]:
        """Send one call: the future of its response, and what says whether a response is right."""
        request = self.types[kind].Request(client=self.name)
        if kind == "list":
            return self.clients[kind].call_async(
                request
            ), lambda one: [item.id for item in one.objects] == ids
        request.id = object_id
        if kind == "rename":
            request.name = name = f"{self.name} call {call}"
            right = lambda one: (one.id, one.name) == (object_id, name)  # noqa: E731
        else:
            from sam2s_ros.nodes.client_requests import prompt_message
            from sam2s_ros.nodes.messages import stamp_to_ns

            point, stamp_ns = stream.click_on(object_id)
            request.prompt = prompt_message([point])
            right = lambda one: one.id == object_id and stamp_to_ns(one.stamp) >= stamp_ns  # noqa: E731
        return self.clients[kind].call_async(request), right


def call_all(
    consoles: list[Console], stream: Stream, ids: list[int], seconds: float, calls_per_s: float
) -> dict[str, Any]:
    """Make the calls at their times, whether or not those before them are answered."""
    answers: list[tuple[str, float, str]] = []
    number = round(seconds * calls_per_s)
    begin_s = time.monotonic() + 0.1

    def send(index: int) -> None:
        due_s = begin_s + index / calls_per_s
        kind, object_id = KINDS[index // CLIENTS % len(KINDS)], ids[index % len(ids)]
        answer, right = consoles[index % CLIENTS].ask(kind, object_id, stream, ids, str(index))

        def take(done: Any) -> None:
            response = done.result()
            good = response.success and right(response)
            fault = "" if good else f"{kind} {index} of object {object_id}: {response}"
            answers.append((kind, time.monotonic() - due_s, fault))

        answer.add_done_callback(take)

    for index in range(number):
        time.sleep(max(0.0, begin_s + index / calls_per_s - time.monotonic()))
        send(index)
    sent_s = time.monotonic() - begin_s
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while len(answers) < number and time.monotonic() < deadline:
        time.sleep(0.01)
    faults = [fault for _, _, fault in answers if fault]
    return {
        "calls": number,
        "sent_per_s": round(number / sent_s, 1),
        "lost": number - len(answers),
        "mixed_up": len(faults),
        "faults": faults[:5],
        "latency_ms": {kind: percentiles(answers, kind) for kind in ("all", *sorted(set(KINDS)))},
    }


def percentiles(answers: list[tuple[str, float, str]], kind: str) -> dict[str, float]:
    """Of the time from when a call was due to its answer, ms."""
    times_ms = [1000 * took_s for one, took_s, _ in answers if kind in ("all", one)]
    if not times_ms:
        return {}
    return {f"p{share}": round(float(np.percentile(times_ms, share)), 1) for share in (50, 99, 100)}


def report(results: dict[str, Any]) -> None:
    """Print what was measured."""
    before_hz, after_hz = results["without_calls_hz"]
    size = f"{results['image_size']} px" if results["image_size"] else "the model's own input"
    print(
        f"{results['rate_hz']:g} Hz camera, {SIZE[1]}x{SIZE[0]}, {OBJECTS} objects, network at {size}; "
        f"{results['calls_per_s']:g} calls/s over {CLIENTS} clients; load average {results['load_average']}"
    )
    print(
        f"images tracked: {before_hz} Hz without, {results['with_calls_hz']} Hz with calls, {after_hz} Hz without"
    )
    print(
        f"{results['calls']} calls at {results['sent_per_s']}/s: {results['lost']} lost, {results['mixed_up']} mixed up"
    )
    for kind, row in results["latency_ms"].items():
        print(f"{kind:>9}  " + "  ".join(f"{name} {value} ms" for name, value in row.items()))
    print(
        f"goal: none lost or mixed up, rate within 10 % (is {results['share_of_rate']}), "
        f"p99 <= two steps ({2 * results['step_ms']:.0f} ms)"
    )
    for fault in results["faults"]:
        print(f"  {fault}", file=sys.stderr)


def parse_arguments() -> argparse.Namespace:
    """Arguments of this command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="5 s: a check, no measurement")
    parser.add_argument("--model", default="nano", help="preset or weights file (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each part (default: %(default)g)")
    parser.add_argument("--calls", type=float, default=160.0, help="calls a second (default: %(default)g)")
    parser.add_argument("--image-size", type=int, default=0, help="side of the network's input; 0: its own")
    parser.add_argument("--rate", type=float, default=15.0, help="images a second (default: %(default)g)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
