"""`sam2s demo`: the tracker node at work on a real recording and a synthetic stream, judged by ground truth.

Part 1 replays the bundled bag over DDS into the real node, prompts each object by its true mask where it
first appears, records what the node publishes, and scores the masks that were received. Part 2 streams
synthetic images of 1280x720 at 25 Hz with three objects. Results: `summary.json`, `overlay.mp4`, pictures in
`frames/`, the recordings, the logs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

HELP = __doc__.splitlines()[0]

BUNDLED_BAG = "test/data/vocalfolds_seq4.mcap"
OWN_RESULTS = ("bag", "stream_bag", "logs", "frames", "scene", "overlay.mp4", "summary.json", "prompts.json")
GOALS = {  # key path in summary.json -> (comparison, goal)
    "jf_mean": (">=", 35.0),
    "stream.jf_mean": (">=", 80.0),
    "stream.tracked_percent": (">=", 90.0),
    "stream.latency_ms.p99": ("<=", 150.0),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sam2s demo`."""
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder of the results (default: %(default)s)"
    )
    parser.add_argument(
        "--bag", type=Path, help="recording with /ground_truth/labels (default: the bundled one)"
    )
    parser.add_argument("--model", default="nano", help="preset or weights file (default: %(default)s)")
    parser.add_argument("--engine", default="auto", help="engine of the node (default: %(default)s)")
    parser.add_argument(
        "--part", choices=("bag", "stream", "all"), default="all", help="what to run (default: %(default)s)"
    )
    parser.add_argument(
        "--stream-frames", type=int, default=1000, help="images of part 2 (default: %(default)s)"
    )
    parser.add_argument(
        "--stream-rate", type=float, default=25.0, help="images a second (default: %(default)s)"
    )
    parser.add_argument(
        "--scene-frames",
        type=int,
        default=250,
        help="images rendered for part 2, played to and fro (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=2025, help="seed of the synthetic scene (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when both parts came to their end, whether or not they met their goals."""
    previous = signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        return _run(args)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(args: argparse.Namespace) -> int:
    from sam2s_ros.nodes.client_results import TrackerError
    from sam2s_ros.nodes.demo_parts import run_bag_part, run_stream_part
    from sam2s_ros.nodes.demo_processes import ChildFailed
    from sam2s_ros.nodes.demo_report import format_table
    from sam2s_ros.nodes.demo_stage import isolated_domain
    from sam2s_ros.nodes.image_transport import image_transport_environment
    from sam2s_ros.nodes.machine import describe_run

    _clear(args.out)
    bag = args.bag or _bundled_bag()
    begun = time.monotonic()
    summary: dict[str, Any] = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **describe_run()}
    os.environ.update(image_transport_environment(args.out / "logs"))
    tracker_arguments = ["-p", f"model:={args.model}", "-p", f"engine:={args.engine}"]
    try:
        with isolated_domain(args.out / "logs"):
            if args.part in ("bag", "all"):
                report = run_bag_part(bag, args.out, tracker_arguments, _say)
                print(format_table(f"\nPart 1: {bag.name}", report), flush=True)
                summary.update(report)
            if args.part in ("stream", "all"):
                report = run_stream_part(args, tracker_arguments, _say)
                size = report["image_size"]
                print(
                    format_table(f"\nPart 2: {size[1]}x{size[0]} at {args.stream_rate:g} Hz", report),
                    flush=True,
                )
                summary["stream"] = report
    except (ChildFailed, TrackerError) as error:
        print(f"sam2s demo: failed after {time.monotonic() - begun:.0f} s: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(args.out / "scene", ignore_errors=True)
    summary["duration_s"] = round(time.monotonic() - begun, 1)
    summary["goals"] = judge(summary)
    (args.out / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    print_goals(summary)
    print(f"\n{summary['duration_s']:.0f} s; results, recordings and logs in {args.out}")
    return 0


def judge(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each goal whose value was measured, with the value and whether it is met."""
    judged = {}
    for path, (comparison, goal) in GOALS.items():
        value: Any = summary
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            met = value >= goal if comparison == ">=" else value <= goal
            judged[path] = {"value": value, "goal": f"{comparison} {goal:g}", "met": met}
            if not met:
                judged[path]["why"] = why_not_met(path, summary)
    return judged


def why_not_met(path: str, summary: dict[str, Any]) -> str:
    """The likely reason that a goal of GOALS was missed, and where to read on, in one line."""
    report = summary["stream"] if path.startswith("stream.") else summary
    machine = "the machine is too slow or busy for this rate, see docs/performance.md"
    skipped = report["frames_skipped"]
    missed = f"{skipped} of {report['frames_in']} images were skipped"
    if path.endswith("jf_mean"):
        waited = sum(item["frames_before_answer"] for item in report["objects"])
        if skipped:
            return f"{missed} and count as empty masks: {machine}"
        if waited:
            return f"prompts were answered {waited} images late in all, which count as empty masks: {machine}"
        return "no image was skipped, so the masks themselves are worse: see docs/results.md"
    return f"{missed}: {machine}" if skipped else machine


def _bundled_bag() -> Path:
    from sam2s_ros.nodes.shares import shipped_file

    return shipped_file(BUNDLED_BAG)


def _clear(out: Path) -> None:
    """Remove what an earlier run of the demo has left in `out`, and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for name in OWN_RESULTS:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _exit_on_signal(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    print(text, flush=True)


def print_goals(summary: dict[str, Any]) -> None:
    """A line for each goal that was judged, and under one that was missed another that says why."""
    print("\nGoals")
    for path, goal in summary["goals"].items():
        print(f"  {path:<24} {goal['value']:>8.2f}   {goal['goal']:<8} {'met' if goal['met'] else 'NOT MET'}")
        if not goal["met"]:
            print(f"      {goal['why']}")
