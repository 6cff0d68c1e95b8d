"""How often the published uncertainties of centroid, tip, box, axis and 3-D position cover the true error.

2-D: instruments of rendered sequences of known masks, tracked after a mask prompt. The factors of `GeometryModel` were
set on the sequences 0 to 23; the default here are others. 3-D: tilted, textured patches at 5 to 20 cm
(`geometry_scenes`). Calibrated uncertainties of 95 % cover 0.95.

    python test/benchmarks/geometry_coverage.py [--sequences 24-35] [--patches 400] [--json FILE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from sam2s_ros import load_tracker
from sam2s_ros.evaluation.prompts import FirstSight, prompt_object
from sam2s_ros.evaluation.rendered import RenderedSequence
from sam2s_ros.tracking import FrameResult, StreamingTracker
from sam2s_ros.tracking.geometry import MaskGeometry, measure
from sam2s_ros.tracking.runs import MaskRuns

sys.path.insert(0, str(Path(__file__).parents[1]))
from geometry_scenes import COVERED_95, LIMITS_M, errors, render_patch  # noqa: E402

FRAMES = 50
LEAST_AREA = 20
"""Pixels of a true mask below which it is not measured."""


def main() -> None:
    """Measure, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", default="24-35", help="first and last seed (default: %(default)s)")
    parser.add_argument("--patches", type=int, default=400, help="3-D patches (default: %(default)s)")
    parser.add_argument("--model", default="nano", help="preset or weights file (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument(
        "--quick", action="store_true", help="one sequence and 20 patches: a check, no measurement"
    )
    args = parser.parse_args()
    first, last = (int(one) for one in args.sequences.split("-"))
    seeds = range(first, first + 1 if args.quick else last + 1)
    numbers = {
        "pixels": of_sequences(args.model, seeds),
        "metres": of_patches(20 if args.quick else args.patches),
    }
    if args.json:
        args.json.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n")


def of_sequences(model: str, seeds: range) -> dict[str, dict[str, float]]:
    """Share of errors that are covered, by the object's state and the measure."""
    tracker = load_tracker(model, "auto", max_objects=4)
    covered: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for seed in seeds:
        _follow(tracker, RenderedSequence(seed), covered)
    shares = {
        state: {
            "objects": float(len(one["centroid"])),
            **{name: float(np.mean(hits)) for name, hits in one.items()},
        }
        for state, one in covered.items()
    }
    for state, one in shares.items():
        print(state, "  ".join(f"{name} {value:.3f}" for name, value in one.items()), flush=True)
    return shares


def _follow(
    tracker: StreamingTracker, sequence: RenderedSequence, covered: dict[str, dict[str, list[bool]]]
) -> None:
    tracker.reset()
    ids: dict[int, int] = {}
    for number, frame in enumerate(sequence.frames()):
        if number >= FRAMES:
            break
        result = tracker.step(frame.image, frame.stamp_ns)
        for label, object_id in ids.items():
            row = result.index_of(object_id)
            true = frame.labels == label
            if true.sum() >= LEAST_AREA and result.masks[row].any():
                _compare(result, row, true, covered[result.states[row].name])
        if number == 0:
            for due in FirstSight("mask").due(frame, (), {}):
                ids[due.label] = prompt_object(tracker, frame, due)


def _compare(result: FrameResult, row: int, mask: np.ndarray, covered: dict[str, list[bool]]) -> None:
    found: MaskGeometry = result.geometry
    true = measure(MaskRuns.of_masks(mask[None]))
    for name in ("centroid", "tip"):
        off = (getattr(true, name)[0] - getattr(found, name)[row]).astype(float)
        covariance = getattr(found, f"{name}_covariance")[row].astype(float)
        if np.isfinite(off).all() and np.isfinite(covariance).all():
            covered[name].append(bool(off @ np.linalg.solve(covariance, off) <= COVERED_95[2]))
    sides = (true.box[0] - found.box[row]) ** 2 <= COVERED_95[1] * found.box_variance[row]
    covered["box"].extend(sides.tolist())
    along = abs(float(true.axis[0] @ found.axis[row]))
    if np.isfinite(along):
        covered["axis"].append(
            np.arccos(min(along, 1)) ** 2 <= COVERED_95[1] * found.axis_angle_variance[row]
        )


def of_patches(count: int) -> dict[str, dict[str, float]]:
    """Errors of 3-D centroids relative to their depth, and the share that the covariances cover."""
    from sam2s_ros.tracking.depth import locate_in_depth
    from sam2s_ros.tracking.stereo import locate_in_pair

    patches, found = [], {"stereo": [], "depth": []}
    for number in range(count):
        one = render_patch(np.random.default_rng([11, number]))
        at = (one.runs, one.geometry)
        found["stereo"].append(locate_in_pair(one.left, one.right, *at, one.pair, LIMITS_M))
        found["depth"].append(locate_in_depth(one.depth, 1.0, *at, one.pair.left, LIMITS_M))
        patches.append(one.without_images())
    numbers = {}
    for source, positions in found.items():
        relative, distance = errors(patches, positions)
        known = np.isfinite(relative)
        numbers[source] = {
            "located": float(known.mean()),
            "median": float(np.median(relative[known])),
            "largest": float(relative[known].max()),
            "covered": float((distance[known] <= COVERED_95[3]).mean()),
        }
        print(source, "  ".join(f"{name} {value:.4f}" for name, value in numbers[source].items()), flush=True)
    return numbers


if __name__ == "__main__":
    main()
