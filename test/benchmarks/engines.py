"""Tracker steps of every engine with 1, 3, 4 and 8 objects, in turn, all memory slots in use: medians and ratios.

python test/benchmarks/engines.py [--threads 2] [--model nano] [--json FILE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from tracker_steps import FPS, SIZE, begin, median_step_ms

from sam2s_ros import load_tracker
from sam2s_ros.data.sequences import render_sequence

ENGINES = (
    ("eager", "bf16"),
    ("eager", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
)
OBJECTS = (1, 3, 4, 8)


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    rounds, steps = (1, 3) if args.quick else (9, 6)
    scene = list(render_sequence(7, 12, SIZE, FPS, objects=1))
    frames = [frame for frame, _ in scene]
    trackers = {engine: load(args, *engine) for engine in ENGINES}
    results = {}
    print(
        f"{'objects':>8} {'engine':>17} {'ms a step':>10} {'fastest':>8} {'slowest':>8} {'speed':>6}",
        flush=True,
    )
    for count in args.objects:
        for tracker in trackers.values():
            begin(tracker, count, scene)
        times: dict[tuple[str, str], list[float]] = {engine: [] for engine in ENGINES}
        for _ in range(rounds):
            for engine, tracker in trackers.items():
                times[engine].append(median_step_ms(tracker, frames, steps))
        results[str(count)] = {}
        for engine, values in times.items():
            ratios = [base / value for base, value in zip(times[ENGINES[0]], values, strict=True)]
            row = {
                "step_ms": round(statistics.median(values), 2),
                "rounds_ms": [round(value, 2) for value in values],
                "speed_to_eager_bf16": round(statistics.median(ratios), 3),
            }
            results[str(count)][" ".join(engine)] = row
            print(
                f"{count:>8} {' '.join(engine):>17} {row['step_ms']:>10.1f} {min(values):>8.1f} "
                f"{max(values):>8.1f} {row['speed_to_eager_bf16']:>6.2f}",
                flush=True,
            )
    if args.json:
        described = {"model": args.model, "threads": args.threads, "image_size": SIZE}
        args.json.write_text(json.dumps({**described, "objects": results}, indent=2) + "\n")


def load(args, engine, precision):
    return load_tracker(
        args.model, engine, threads=args.threads, precision=precision, max_objects=max(OBJECTS)
    )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="preset or weights file")
    parser.add_argument("--threads", type=int, default=2, help="of each engine (default: %(default)s)")
    parser.add_argument("--objects", type=int, nargs="+", default=OBJECTS, help="how many to track")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="one short round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
