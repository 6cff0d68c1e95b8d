"""Tracker steps per second with 1, 4 and 8 objects: medians over alternating runs, every memory slot in use.

python test/benchmarks/tracker_steps.py [--model nano] [--engine auto] [--json FILE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from sam2s_ros import load_tracker
from sam2s_ros.data.sequences import render_sequence
from sam2s_ros.nodes.synthetic_camera import there_and_back

OBJECTS = (1, 4, 8)
SIZE = (720, 1280)
WARM_UP_STEPS = 24  # fills 6 recent memory slots and 15 recent pointers
FPS = 25.0


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    frames = [frame for frame, _ in render_sequence(7, 12, SIZE, FPS, objects=1)]
    trackers = {count: start_tracker(args, count, frames) for count in OBJECTS}
    rounds: dict[int, list[float]] = {count: [] for count in OBJECTS}
    for _ in range(1 if args.quick else 7):
        for count in OBJECTS:
            rounds[count].append(median_step_ms(trackers[count], frames, steps=5 if args.quick else 20))
    results = {
        str(count): {
            "step_ms": round(statistics.median(times), 2),
            "steps_per_second": round(1000 / statistics.median(times), 2),
            "rounds_ms": [round(value, 2) for value in times],
        }
        for count, times in rounds.items()
    }
    print(f"{'objects':>8} {'ms a step':>10} {'steps/s':>8}   fastest .. slowest round, ms")
    for count in OBJECTS:
        row = results[str(count)]
        spread = f"{min(row['rounds_ms']):.1f} .. {max(row['rounds_ms']):.1f}"
        print(f"{count:>8} {row['step_ms']:>10.1f} {row['steps_per_second']:>8.1f}   {spread}")
    engine = trackers[OBJECTS[0]].engine.describe()
    described = {
        "model": engine.model,
        "engine": engine.name,
        "precision": engine.precision,
        "threads": engine.threads,
    }
    if args.json:
        args.json.write_text(
            json.dumps({**described, "image_size": SIZE, "objects": results}, indent=2) + "\n"
        )


def start_tracker(args, count, frames):
    """A tracker with `count` objects side by side and all memory in use."""
    tracker = load_tracker(args.model, args.engine, max_objects=max(OBJECTS))
    begin(tracker, count, frames)
    return tracker


def begin(tracker, count, frames):
    """Start a tracker anew with `count` objects side by side and bring all memory into use."""
    tracker.reset()
    tracker.step(frames[0], 0)
    for index in range(count):
        mask = np.zeros(SIZE, bool)
        left = 40 + 150 * index
        mask[200:520, left : left + 120] = True
        tracker.add_object(None, mask=mask)
    median_step_ms(tracker, frames, WARM_UP_STEPS)


def median_step_ms(tracker, frames, steps):
    """Median wall time of a step."""
    times = []
    for step in range(steps):
        frame = frames[there_and_back(step, len(frames))]
        begun = time.perf_counter()
        tracker.step(frame, tracker.last_result.stamp_ns + int(1e9 / FPS))
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="preset or weights file")
    parser.add_argument("--engine", default="auto", help="engine to measure (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="one short round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
