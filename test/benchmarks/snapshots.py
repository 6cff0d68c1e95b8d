"""What snapshots cost the live step: how long taking one between two frames lasts, and whether steps are slower.

python test/benchmarks/snapshots.py [--model nano] [--engine auto] [--objects 8] [--rounds 20]

Steps with a snapshot written every second on another thread take turns with steps without, in rounds short enough that
the machine is about as fast in both; the ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from sam2s_ros import load_tracker
from sam2s_ros.data.sequences import render_sequence
from sam2s_ros.nodes.background import BackgroundThread
from sam2s_ros.nodes.synthetic_camera import there_and_back
from sam2s_ros.tracking.snapshot_files import SnapshotFolder

SIZE = (720, 1280)
FPS, PERIOD_S, STEPS = 25.0, 1.0, 25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    frames = [frame for frame, _ in render_sequence(7, 12, SIZE, FPS, objects=1)]
    tracker = load_tracker(args.model, args.engine, max_objects=args.objects)
    tracker.step(frames[0])
    for number in range(args.objects):
        x = 40 + number * 1200 // args.objects
        tracker.add_object(None, box=[x, 200, x + 100, 420])
    with tempfile.TemporaryDirectory() as folder:
        disk, files = BackgroundThread("disk"), SnapshotFolder(Path(folder) / "tracker")
        steps: dict[bool, list[float]] = {False: [], True: []}
        takes, writes, step = [], [], 0
        for turn in range(2 * args.rounds):
            saving, saved_s = bool(turn % 2), 0.0
            for _ in range(STEPS):
                step += 1
                begun = time.perf_counter()
                tracker.step(frames[there_and_back(step, len(frames))])
                steps[saving].append(1e3 * (time.perf_counter() - begun))
                if saving and time.monotonic() - saved_s >= PERIOD_S:
                    saved_s = time.monotonic()
                    begun = time.perf_counter()
                    snapshot = tracker.take_snapshot()
                    takes.append(1e3 * (time.perf_counter() - begun))

                    def write(snapshot: object = snapshot) -> None:
                        begun = time.perf_counter()
                        files.write(snapshot)
                        writes.append(1e3 * (time.perf_counter() - begun))

                    disk.submit(write)
        size = sum(values.nbytes for values in snapshot.arrays.values())
    without, saved = (np.array(steps[key]) for key in (False, True))
    print(f"{args.objects} objects, {size / 1e6:.1f} MB a snapshot, {len(takes)} of them")
    print(f"taken between two frames: median {statistics.median(takes):.2f} ms, longest {max(takes):.2f} ms")
    print(
        f"written on another thread: median {statistics.median(writes):.1f} ms, longest {max(writes):.1f} ms"
    )
    for name, times in (("without", without), ("with", saved)):
        print(
            f"steps {name} snapshots: median {np.median(times):.1f} ms, p95 {np.percentile(times, 95):.1f} ms"
        )
    ratios = np.median(saved.reshape(-1, STEPS), axis=1) / np.median(without.reshape(-1, STEPS), axis=1)
    low, middle, high = np.percentile(ratios, (10, 50, 90))
    print(f"with to without in the same round: median {middle:.3f}, p10 {low:.3f}, p90 {high:.3f}")


if __name__ == "__main__":
    main()
