"""Tracker steps per second with 1, 4 and 8 objects: medians over alternating runs, every memory slot in use, without
long-term memory (SAM 2) and with four long-term entries of each object (DiveMem).

python test/benchmarks/tracker_steps.py [--model nano] [--engine auto] [--json FILE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from sam2s_ros import load_tracker
from sam2s_ros.data.sequences import render_sequence
from sam2s_ros.nodes.synthetic_camera import there_and_back

OBJECTS = (1, 4, 8)
SIZE = (720, 1280)
WARM_UP_STEPS = (
    30  # fills 6 recent memory slots, 15 recent pointers, and 4 long-term entries of 5 candidates each
)
WARM_UP_PERIOD_NS = 1_000_000_000
"""As the default `long_term_interval_s`, so that each frame of the warm-up is a candidate."""
LONG_TERM = 4
ANY_IOU = {"long_term_min_iou": 0.0}
"""Settings with which every frame that shows the object may be a candidate, so that long-term memory is soon full."""
PERIOD_NS = 40_000_000
FPS = 1e9 / PERIOD_NS


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    scene = list(render_sequence(7, 12, SIZE, FPS, objects=1))
    frames = [frame for frame, _ in scene]
    kinds = [(count, entries) for count in OBJECTS for entries in (0, LONG_TERM)]
    trackers = {kind: start_tracker(args, *kind, scene) for kind in kinds}
    rounds: dict[tuple[int, int], list[float]] = {kind: [] for kind in kinds}
    for _ in range(1 if args.quick else 7):
        for kind in kinds:
            rounds[kind].append(median_step_ms(trackers[kind], frames, steps=5 if args.quick else 20))
    results = {str(count): {} for count in OBJECTS}
    for (count, entries), times in rounds.items():
        pairs = zip(times, rounds[count, 0], strict=True)
        results[str(count)]["divemem" if entries else "sam2"] = {
            "step_ms": round(statistics.median(times), 2),
            "steps_per_second": round(1000 / statistics.median(times), 2),
            "to_sam2": round(statistics.median(one / other for one, other in pairs), 3),
            "rounds_ms": [round(value, 2) for value in times],
        }
    print(
        f"{'objects':>8} {'memory':>8} {'ms a step':>10} {'steps/s':>8} {'to sam2':>8}   fastest .. slowest, ms"
    )
    for count, memories in results.items():
        for memory, row in memories.items():
            spread = f"{min(row['rounds_ms']):.1f} .. {max(row['rounds_ms']):.1f}"
            print(
                f"{count:>8} {memory:>8} {row['step_ms']:>10.1f} {row['steps_per_second']:>8.1f} "
                f"{row['to_sam2']:>8.2f}   {spread}"
            )
    engine = trackers[kinds[0]].engine.describe()
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


def start_tracker(args, count, entries, scene):
    """A tracker that follows the instrument `count` times over, with so many long-term entries of each, all in use."""
    settings = {"max_objects": max(OBJECTS), "num_long_term": entries, **ANY_IOU}
    tracker = load_tracker(args.model, args.engine, **settings)
    begin(tracker, count, scene)
    kept = min(one.long_term_insertions for one in tracker.objects())
    if kept < entries:
        print(f"the model sees too little of the scene: {kept} of {entries} long-term entries are in use")
    return tracker


def begin(tracker, count, scene):
    """Start a tracker anew that follows the instrument `count` times over, and bring all memory into use."""
    frames = [frame for frame, _ in scene]
    tracker.reset()
    tracker.step(frames[0], 0)
    for _ in range(count):
        tracker.add_object(None, mask=scene[0][1][0])
    median_step_ms(tracker, frames, WARM_UP_STEPS, WARM_UP_PERIOD_NS)


def median_step_ms(tracker, frames, steps, period_ns=PERIOD_NS):
    """Median wall time of a step. A candidate for the long-term memory is among 25 of them, as in use."""
    times = []
    for step in range(steps):
        frame = frames[there_and_back(step, len(frames))]
        begun = time.perf_counter()
        _ = tracker.step(frame, tracker.last_result.stamp_ns + period_ns).masks  # painted when asked for
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
