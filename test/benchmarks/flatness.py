"""Nothing grows: memory and step time of the tracker over 10,000 frames.

Resident memory at the end against frame 200, and the medians of 500-frame windows of the step time against each
other. Two objects leave and two come in their place every 1,000 frames, so that what a removed object leaves
behind would show. A second tracker that is begun anew in every window takes every fourth frame in turn with the
first: the ratio of their steps shows ageing where the machine's own speed moves by more than the goal.

    python test/benchmarks/flatness.py [--frames 10000] [--model nano] [--json FILE] [--quick]
    python test/benchmarks/flatness.py --reference [--frames 2000]

`--reference` runs the public SAM 2 reference instead (SAM 2.1 tiny with random weights, nano's input size, one
object), which keeps the outputs of all frames as its video predictor does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from sam2s_ros import load_tracker
from sam2s_ros.data.sequences import render_sequence
from sam2s_ros.nodes.synthetic_camera import there_and_back

SIZE = (480, 640)
OBJECTS = 4
WINDOW = 500
SETTLED_FRAME = 200
CHANGE_EVERY = 1000
YOUNG_EVERY = 4
PERIOD_NS = 40_000_000
REFERENCE_SIZE = 256


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    total = 1000 if args.quick else args.frames
    result = follow_reference(total) if args.reference else follow(args.model, total)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def follow_reference(total):
    """Resident memory and step time of the public reference."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from sam2_reference import ReferenceStream, build_reference, reference_features
    from tracking_cases import disc, moving_images

    reference = build_reference("sam2.1_hiera_t", REFERENCE_SIZE, seed=2)
    shape = (REFERENCE_SIZE, REFERENCE_SIZE)
    images = [torch.from_numpy(one).permute(2, 0, 1)[None] / 255 - 0.5 for one in moving_images(20, shape)]
    features = {}
    stream = ReferenceStream(reference, features)
    mask = torch.from_numpy(disc(128, 128, 50, shape)).float()[None, None]
    step_ms, resident = [], []
    for index in range(total + 1):
        begun = time.perf_counter()
        (features[index],) = reference_features(reference, [images[there_and_back(index, len(images))]])
        stream.step(index, mask=mask if index == 0 else None)
        del features[index]
        step_ms.append(1000 * (time.perf_counter() - begun))
        resident.append(resident_bytes())
        if index and index % WINDOW == 0:
            report_window(index, step_ms, resident)
    result = {
        "frames": total,
        "resident_mib_at_200": round(resident[SETTLED_FRAME] / 2**20, 2),
        "resident_mib_at_end": round(resident[-1] / 2**20, 2),
        "window_medians_ms": window_medians(step_ms[1:]),
    }
    per_frame = (resident[-1] - resident[SETTLED_FRAME]) / 1024 / (total - SETTLED_FRAME)
    print(f"resident memory after frame {SETTLED_FRAME}: {per_frame:+.0f} KiB a frame")
    return result


def report_window(index, step_ms, resident):
    window = statistics.median(step_ms[-WINDOW:])
    print(
        f"frame {index:>6}: median step {window:6.2f} ms, resident {resident[-1] / 2**20:7.1f} MiB",
        flush=True,
    )


def follow(model, total):
    """Resident memory and step time of the tracker."""
    frames = [frame for frame, _ in render_sequence(11, 50, SIZE, 25.0, objects=1)]
    tracker, young = load_tracker(model), load_tracker(model)
    ids = begin(tracker, frames[0], 0)
    # written to, so that they are in memory at once
    step_ms, cpu_ms, resident = (np.ones(total) for _ in range(3))
    ratios = np.ones(total // YOUNG_EVERY)
    for index in range(1, total + 1):
        frame = frames[there_and_back(index, len(frames))]
        if index % WINDOW == 1:
            begin(young, frame, index * PERIOD_NS)
        begun, cpu_begun = time.perf_counter(), time.process_time()
        _ = tracker.step(frame, index * PERIOD_NS).masks  # painted when asked for
        step_ms[index - 1] = 1000 * (time.perf_counter() - begun)
        cpu_ms[index - 1] = 1000 * (time.process_time() - cpu_begun)
        if index % YOUNG_EVERY == 0:
            begun = time.perf_counter()
            _ = young.step(frame, index * PERIOD_NS).masks
            ratios[index // YOUNG_EVERY - 1] = step_ms[index - 1] / (1000 * (time.perf_counter() - begun))
        resident[index - 1] = resident_bytes()
        if index % CHANGE_EVERY == 0:
            ids = replace_two(tracker, ids)
        if index % WINDOW == 0:
            report_window(index, step_ms[:index], resident[:index])
    result = {
        "frames": total,
        "objects": OBJECTS,
        "resident_mib_at_200": round(resident[SETTLED_FRAME - 1] / 2**20, 2),
        "resident_mib_at_end": round(resident[-1] / 2**20, 2),
        "resident_growth_percent": round(100 * (resident[-1] / resident[SETTLED_FRAME - 1] - 1), 3),
        "window_medians_ms": window_medians(step_ms),
        "window_spread_percent": spread_percent(window_medians(step_ms)),
        "cpu_window_spread_percent": spread_percent(window_medians(cpu_ms)),
        "window_medians_to_young": window_medians(ratios, WINDOW // YOUNG_EVERY),
        "window_spread_to_young_percent": spread_percent(window_medians(ratios, WINDOW // YOUNG_EVERY)),
    }
    print(
        f"resident memory after frame {SETTLED_FRAME}: {result['resident_growth_percent']:+.2f} % "
        "(goal < 1 %)"
    )
    print(
        f"medians of {WINDOW}-frame windows: slowest {result['window_spread_percent']:.1f} % above fastest "
        f"(goal <= 10 %), in processor time {result['cpu_window_spread_percent']:.1f} %, "
        f"relative to a young tracker {result['window_spread_to_young_percent']:.1f} %"
    )
    return result


def begin(tracker, frame, stamp_ns):
    """Start anew on a frame with OBJECTS objects; their ids."""
    tracker.reset()
    tracker.step(frame, stamp_ns)
    return [tracker.add_object(None, mask=band(index)) for index in range(OBJECTS)]


def replace_two(tracker, ids):
    """Remove the two oldest objects and add two, as an operator would in a long operation."""
    for object_id in ids[:2]:
        tracker.remove_object(object_id)
    return ids[2:] + [tracker.add_object(None, mask=band(index)) for index in range(2)]


def band(index):
    """A mask [H, W] for one of the objects."""
    mask = np.zeros(SIZE, bool)
    mask[100:380, 40 + 150 * index : 140 + 150 * index] = True
    return mask


def resident_bytes():
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise OSError("/proc/self/status has no VmRSS")


def window_medians(values, window=WINDOW):
    return [
        round(statistics.median(values[start : start + window]), 3)
        for start in range(0, len(values) - window + 1, window)
    ]


def spread_percent(medians):
    return round(100 * (max(medians) / min(medians) - 1), 2)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--model", default="nano", help="preset or weights file")
    parser.add_argument("--reference", action="store_true", help="the public SAM 2 reference instead")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="1,000 frames only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
