"""What the node adds to the engine's step: from the image's arrival to all its messages published, less the engine.

    python test/benchmarks/node_overhead.py [--model nano] [--rate 10] [--objects 1 3] [--json FILE] [--quick]

A synthetic camera of 1280x720 and 1920x1080, `~/objects` and `~/labels` subscribed, no overlay. The engine's
stages are those of its own calls (encode, attend, decode, memorise), from uint8 image to logits; all else is the
node's and the tracker's: reading the message, masks at the image's size, geometry, judging the image, filling and
publishing messages. Transport to the node and the way to the subscriber are left out.

The engine remembers an image (memorise) once its messages are out, so what a subscriber waits for is less than the sum.
"beside encode, attend, decode" is from arrival to all messages less the three stages that come before them: the node's
own work. "beyond the engine's step" is less memorise, too: by how much a message is later than an engine alone would
be done with the image.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node_and_camera import UP_TIMEOUT_S, camera_process, console_node, tracker_process

SIZES = ((720, 1280), (1080, 1920))
STAGES_BEFORE = ("encode", "attend", "decode")
ENGINE_STAGES = ("encode", "attend", "decode", "memorise")
SCENE_FRAMES = 30
SETTLED = 30
"""Images after the prompts that are left out: memory fills."""
GOAL_MS = 4.0


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    from sam2s_ros.nodes.synthetic_camera import render_scene

    images = 20 if args.quick else args.images
    results: dict[str, Any] = {"rate_hz": args.rate, "images": images, "sizes": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for height, width in SIZES:
            name = f"{width}x{height}"
            scene = render_scene(
                folder / name, 2025, SCENE_FRAMES, max(args.objects), height, width, fps=args.rate
            )
            results["sizes"][name] = {
                str(count): measure(folder / f"{name}_{count}", folder / name, scene, count, images, args)
                for count in args.objects
            }
    results["load_average"] = round(os.getloadavg()[0], 1)
    report(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(
    logs: Path, scene_folder: Path, scene: Any, count: int, images: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Medians of the stages of so many images, in ms, with so many objects."""
    from sensor_msgs.msg import Image

    from sam2s_msgs.msg import TrackedObjectArray
    from sam2s_ros.nodes.client import Sam2sClient
    from sam2s_ros.nodes.messages import stamp_to_ns

    arrays: dict[int, Any] = {}
    labels: list[int] = []
    newest: list[Any] = [None]

    def take(array: Any) -> None:
        newest[0] = array
        if len(array.objects) == count:
            arrays.setdefault(stamp_to_ns(array.header.stamp), array)  # a heartbeat repeats it

    def wait(condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + UP_TIMEOUT_S + images / args.rate
        while not condition():
            tracker.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} within {UP_TIMEOUT_S:g} s")
            time.sleep(0.05)

    frames = round(args.rate * 3 * UP_TIMEOUT_S) + images
    with (
        console_node(logs) as node,
        tracker_process(logs, {"model": args.model}) as tracker,
        camera_process(logs, scene_folder, args.rate, frames),
    ):
        node.create_subscription(TrackedObjectArray, "/tracker/objects", take, 50)
        node.create_subscription(Image, "/tracker/labels", lambda image: labels.append(image.height), 5)
        client = Sam2sClient(node, client="benchmark", timeout_s=UP_TIMEOUT_S)
        client.wait_until_up(UP_TIMEOUT_S, tracker.check)
        wait(lambda: newest[0] is not None and newest[0].frames_tracked, "tracked image")
        for index in range(count):
            client.add_object(mask=scene.mask(0, index))
        wait(lambda: len(arrays) > SETTLED + images, f"{images} images with {count} objects")
        wait(lambda: labels, "label image")
        client.close()
    return summary([arrays[stamp] for stamp in sorted(arrays)][SETTLED:])


def summary(arrays: list[Any]) -> dict[str, Any]:
    """The node's share: until `~/objects` is published, and until everything is; with all stages' medians."""
    until_objects, until_all, beyond_step, stages_ms = [], [], [], {}
    for array, after in zip(arrays, arrays[1:], strict=False):
        stages = {one.stage: 1000 * one.duration for one in array.stage_latencies}
        # the message that is being sent cannot say how long that takes, nor what follows it: the next one does
        next_stages = {one.stage: 1000 * one.duration for one in after.stage_latencies}
        following = {name: next_stages[name] for name in ("memorise", "publish")}
        node = 1000 * array.latency - stages["transport"] - sum(stages[name] for name in STAGES_BEFORE)
        until_objects.append(node)
        until_all.append(node + following["publish"])
        beyond_step.append(node + following["publish"] - following["memorise"])
        for name, value in {**stages, **following}.items():
            stages_ms.setdefault(name, []).append(value)
    return {
        "until_objects_ms": round(statistics.median(until_objects), 2),
        "until_all_ms": round(statistics.median(until_all), 2),
        "beyond_step_ms": round(statistics.median(beyond_step), 2),
        "until_all_p90_ms": round(statistics.quantiles(until_all, n=10)[-1], 2),
        "engine_ms": round(sum(statistics.median(stages_ms[name]) for name in ENGINE_STAGES), 2),
        "stages_ms": {name: round(statistics.median(values), 2) for name, values in stages_ms.items()},
    }


def report(results: dict[str, Any]) -> None:
    print(f"load average {results['load_average']}; medians in ms over {results['images']} images")
    print(
        "beside encode, attend, decode, until ~/objects and until all messages are out; beyond the engine's step"
    )
    print(
        f"{'image':>10} {'objects':>8} {'engine':>7} {'to ~/objects':>13} {'to all':>7} {'p90':>7} {'beyond step':>12}"
    )
    for size, rows in results["sizes"].items():
        for count, row in rows.items():
            print(
                f"{size:>10} {count:>8} {row['engine_ms']:>7.1f} {row['until_objects_ms']:>13.2f} "
                f"{row['until_all_ms']:>7.2f} {row['until_all_p90_ms']:>7.2f} "
                f"{row['beyond_step_ms']:>12.2f}"
            )
            print(" " * 20 + ", ".join(f"{name} {value:.2f}" for name, value in row["stages_ms"].items()))
    print(f"goal: at most {GOAL_MS:g} ms beyond the engine's step at 1280x720")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano", help="preset or weights file (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="images a second (default: %(default)s)")
    parser.add_argument("--images", type=int, default=200, help="that are measured (default: %(default)s)")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3], help="how many to track")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="20 images")
    return parser.parse_args()


if __name__ == "__main__":
    main()
