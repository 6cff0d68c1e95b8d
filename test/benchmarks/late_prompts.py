"""A prompt that comes late to a running stream, against the same prompt in time and against a stream without it.

    python test/benchmarks/late_prompts.py [--json FILE] [--quick] [--rate 15] [--image-size 0] [--back 10]

Three runs of the node over DDS, on the same images of a synthetic camera with two moving instruments. One is tracked
from the first image on. In the first run that is all; in the second, the other one is clicked on as soon as its image
has been tracked; in the third, the same click, with the stamp of that image, is made `--back` images later. Masks are
compared image by image. An image that a run skipped makes its memory, and so its masks, another: choose a rate that the
machine keeps up with (`--image-size` gives the network a smaller input), or read the counts of skipped images first.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from node_and_camera import UP_TIMEOUT_S, camera_process, console_node, tracker_process

SIZE = (360, 640)
PROMPTED_STEP = 12
"""The image that is clicked on."""
AFTER_S = 4.0
"""Filmed after the late click."""
KEPT_BESIDES = 5
"""Images kept for late prompts besides those that the click is late; 15 at 15 Hz is the node's default of 1 s."""
QUICK_RATE_HZ = 2.0
SLOWER = "try again, with a lower --rate or a smaller --image-size"
GOALS = {"join_s": 1.0, "iou": 0.9, "other_iou": 0.999}


@dataclass
class Run:
    """What one run of the stream showed: objects and time of receipt by image, from 0, and the answer to the click."""

    stamps_ns: list[int] = field(default_factory=list)
    arrays: dict[int, Any] = field(default_factory=dict)
    heard_s: dict[int, float] = field(default_factory=dict)
    asked_s: float = 0.0
    answered_s: float = 0.0
    answer: Any = None

    @property
    def by_step(self) -> dict[int, Any]:
        """Objects by number of the image."""
        return {step: self.arrays[stamp] for step, stamp in enumerate(self.stamps_ns) if stamp in self.arrays}

    @property
    def skipped(self) -> int:
        """Images that the node has left out until the last one that it tracked."""
        return max((array.frames_skipped + array.frames_lost for array in self.arrays.values()), default=0)

    def joined_step(self) -> int:
        """The first image on which the object clicked on is there."""
        for step, array in sorted(self.by_step.items()):
            if mask_of(array, self.answer.id) is not None:
                return step
        raise RuntimeError(f"the object had not joined when the stream ended: {SLOWER}")


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    from sam2s_ros.nodes.synthetic_camera import render_scene

    if args.quick:
        args.rate, args.rounds = min(args.rate, QUICK_RATE_HZ), 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        frames = PROMPTED_STEP + args.back + round(AFTER_S * args.rate)
        scene = render_scene(folder / "scene", args.seed, min(frames, 90), 2, *SIZE, fps=args.rate)
        (folder / "prompts.yaml").write_text(first_prompt(folder, scene.mask(0, 0)))
        results = {"images": frames, "rounds": []}
        for number in range(args.rounds):
            runs = {
                name: film(folder / f"{number}_{name}", folder, args, frames, scene, back)
                for name, back in (("without", None), ("in_time", 0), ("late", args.back))
            }
            results["rounds"].append(compare(runs, scene, args))
    results |= {"rate_hz": args.rate, "image_size": args.image_size, "load_average": os.getloadavg()[0]}
    report(results, args)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def first_prompt(folder: Path, mask: np.ndarray) -> str:
    """A prompts file for the instrument that is tracked from the first image on."""
    import cv2

    cv2.imwrite(str(folder / "first.png"), mask.astype(np.uint8) * 255)
    return "prompts:\n  - {name: first, mask: first.png}\n"


def film(
    logs: Path, folder: Path, args: argparse.Namespace, frames: int, scene: Any, back: int | None
) -> Run:
    """One run; `back`: how many images after the one clicked on the click comes, None: no click."""
    from std_msgs.msg import Header

    from sam2s_msgs.msg import TrackedObjectArray
    from sam2s_ros.nodes.client import Sam2sClient
    from sam2s_ros.nodes.messages import stamp_to_ns
    from sam2s_ros.nodes.synthetic_camera import MARKER, there_and_back

    run = Run()

    def take(array: Any) -> None:
        if array.frames_tracked:
            stamp_ns = stamp_to_ns(array.header.stamp)
            run.heard_s.setdefault(stamp_ns, time.monotonic())
            run.arrays.setdefault(stamp_ns, array)  # a heartbeat repeats it

    def wait(condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + UP_TIMEOUT_S
        while not condition():
            tracker.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {UP_TIMEOUT_S:g} s for {what}")
            time.sleep(0.001)

    parameters = {"model": args.model, "image_size": args.image_size, "prompts_file": folder / "prompts.yaml"}
    parameters |= {"kept_ms": round(1000 * (args.back + KEPT_BESIDES) / args.rate)}
    parameters |= {"kept_frames": args.back + KEPT_BESIDES + 1}
    with console_node(logs) as node, tracker_process(logs, parameters) as tracker:
        node.create_subscription(TrackedObjectArray, "/tracker/objects", take, 50)
        node.create_subscription(
            Header,
            "image/scene_frame",
            lambda marker: run.stamps_ns.append(stamp_to_ns(marker.stamp)),
            MARKER,
        )
        client = Sam2sClient(node, client="benchmark", timeout_s=UP_TIMEOUT_S)
        client.wait_until_up(UP_TIMEOUT_S, tracker.check)
        wait(lambda: client.state() == "active", "the node")
        with camera_process(logs, folder / "scene", args.rate, frames, markers=True) as camera:
            if back is not None:
                wait(lambda: max(run.by_step, default=0) >= PROMPTED_STEP + back, "the image")
                if PROMPTED_STEP not in run.by_step:
                    raise RuntimeError(
                        f"image {PROMPTED_STEP} was skipped, so none can click on it: {SLOWER}"
                    )
                mask = scene.mask(there_and_back(PROMPTED_STEP, scene.size.frames), 1)
                run.asked_s = time.monotonic()
                stamp_ns = run.stamps_ns[PROMPTED_STEP]
                run.answer = client.add_object("clicked", points=[middle_of(mask)], stamp_ns=stamp_ns)
                run.answered_s = time.monotonic()
                assert run.answer.stamp_ns == stamp_ns
            camera.wait(frames / args.rate + UP_TIMEOUT_S)
        time.sleep(2 / args.rate)
    if not run.stamps_ns or run.stamps_ns[0] not in run.arrays:
        raise RuntimeError(f"the first image was not tracked, so the runs cannot be compared: {SLOWER}")
    return run


def middle_of(mask: np.ndarray) -> tuple[float, float]:
    """The pixel x, y of a mask bool [H, W] that is farthest from its edge."""
    import cv2

    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x), float(y)


def mask_of(array: Any, object_id: int) -> np.ndarray | None:
    """Mask bool [H, W] of an object; None where none was made."""
    from sam2s_ros.tracking import rle

    for one in array.objects:
        if one.id == object_id and one.mask.height:
            return rle.decode(np.asarray(one.mask.counts), (one.mask.height, one.mask.width))
    return None


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two masks; 1 where both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def overlaps(first: Run, second: Run, ids: tuple[int, int], since: int) -> list[float]:
    """IoU of an object of each run on every image from `since` on that both have tracked."""
    pairs = (
        (mask_of(first.by_step[step], ids[0]), mask_of(second.by_step[step], ids[1]))
        for step in sorted(first.by_step.keys() & second.by_step.keys())
        if step >= since
    )
    return [overlap(one, other) for one, other in pairs if one is not None and other is not None]


def compare(runs: dict[str, Run], scene: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The three runs of one round."""
    late, in_time, without = runs["late"], runs["in_time"], runs["without"]
    joined = late.joined_step()
    own = overlaps(late, in_time, (late.answer.id, in_time.answer.id), joined)
    other = overlaps(late, without, (1, 1), 0)
    other_in_time = overlaps(in_time, without, (1, 1), 0)
    then, now = (scene.mask(step, 1) for step in (PROMPTED_STEP, PROMPTED_STEP + args.back))
    return {
        "instrument_overlap_with_itself_then": round(overlap(then, now), 3),
        "answer_ms": round(1000 * (late.answered_s - late.asked_s), 1),
        "frames_behind": late.answer.frames_behind,
        "joined_s": round(late.heard_s[late.stamps_ns[joined]] - late.asked_s, 3),
        "joined_after_images": joined - PROMPTED_STEP - args.back,
        "iou_to_in_time": {"least": round(min(own), 4), "median": round(float(np.median(own)), 4)},
        "images_compared": len(own),
        "other_iou_to_without": {
            "least": round(min(other), 5),
            "in_time_least": round(min(other_in_time), 5),
        },
        "skipped": {name: run.skipped for name, run in runs.items()},
        "tracked": {name: len(run.by_step) for name, run in runs.items()},
    }


def report(results: dict[str, Any], args: argparse.Namespace) -> None:
    """Print what was measured."""
    size = f"{args.image_size} px" if args.image_size else "the model's own input"
    print(
        f"{args.rate:g} Hz camera, {SIZE[1]}x{SIZE[0]}, {args.model} at {size}, {results['images']} images a run"
    )
    print(f"click on the image {args.back} images back; load average {results['load_average']:.1f}")
    for one in results["rounds"]:
        print(
            f"answered in {one['answer_ms']} ms, {one['frames_behind']} behind; joined after {one['joined_s']} s, "
            f"{one['joined_after_images']} images (goal {GOALS['join_s']:g} s); the instrument then overlapped with "
            f"its place at the click by IoU {one['instrument_overlap_with_itself_then']}"
        )
        iou, other = one["iou_to_in_time"], one["other_iou_to_without"]
        print(
            f"  IoU with the click in time on {one['images_compared']} images: least {iou['least']}, median "
            f"{iou['median']} (goal {GOALS['iou']:g}); other object without the click: least {other['least']} "
            f"(goal {GOALS['other_iou']:g}), in time {other['in_time_least']}"
        )
        print(f"  images skipped {one['skipped']}, tracked {one['tracked']} (goal: none skipped more)")


def parse_arguments() -> argparse.Namespace:
    """Arguments of this command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument(
        "--quick", action="store_true", help="one round at a low rate: a check, no measurement"
    )
    parser.add_argument("--model", default="nano", help="preset or weights file (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=0, help="side of the network's input; 0: its own")
    parser.add_argument("--rate", type=float, default=15.0, help="images a second (default: %(default)g)")
    parser.add_argument("--back", type=int, default=10, help="images that the click is late (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of three runs each (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2025, help="of the scene (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
