"""How good `sam2s data propagate` is on videos labelled throughout, of which it is shown every Nth label only.

    python test/benchmarks/propagation.py FOLDER [--every 10] [--model nano] [--json FILE]

FOLDER holds videos of the layout of docs/data.md. Scored are the frames between the labels, beside the same labels
carried forwards only, and the nearest label copied. The review is judged by the frames with a mask of an IoU below 0.5
(masklets that no label shows left aside: those the command names): how many of them are among the least sure.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sam2s_ros.data.review import doubtful
from sam2s_ros.data.video_folder import find_videos, read_index, read_video
from sam2s_ros.evaluation.mask_scores import agreement
from sam2s_ros.evaluation.metrics import region_and_boundary
from sam2s_ros.evaluation.model_arguments import add_model_arguments, model_maker
from sam2s_ros.evaluation.propagate import Labels, follow, propagate
from sam2s_ros.evaluation.propagate_command import labels_of

WRONG = 0.5
SHARES = (0.1, 0.2, 0.3)
Table = dict[tuple[int, int], tuple[float, float, bool]]
"""(frame, masklet) -> J, F, and whether the truth shows the masklet."""


def main() -> None:
    """Measure each video, print a table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a video, or a folder with videos, each frame labelled")
    parser.add_argument("--every", type=int, default=10, help="labels that are shown (default: each 10th)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    add_model_arguments(parser)
    arguments = parser.parse_args()
    videos = [read_video(path) for path in find_videos(arguments.folder)]
    facts: dict[str, Any] = {}
    tracker = model_maker(arguments, facts, max(len(video.facts.masklets) for video in videos))()
    results = {}
    print(
        f"{'J&F, in brackets where seen':32}{'frames':>7}{'propagate':>15}{'forwards':>15}{'nearest':>15}",
        end="",
    )
    print("".join(f"{f'{share:.0%} least sure':>16}" for share in SHARES))
    for video in videos:
        found = measure(labels_of(video, arguments.every), tracker)
        results[video.name] = found
        cells = [f"{one[0]:.1f} ({one[1]:.1f})" for one in (found[name] for name in METHODS)]
        shares = [
            f"{found['among_least_sure'][f'{share:.0%}']} of {found['wrong_frames']}" for share in SHARES
        ]
        print(f"{video.name:32}{found['frames']:>7}" + "".join(f"{cell:>15}" for cell in cells), end="")
        print("".join(f"{share:>16}" for share in shares), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"model": facts["engine"], "videos": results}, indent=2) + "\n")


METHODS = ("propagate", "forwards", "nearest")


def measure(labels: Labels, tracker: Any) -> dict[str, Any]:
    """Scores of the three ways, and where the review has the wrong frames of the first."""
    video = labels.video
    truth = video.masks()
    held_out = [number for number in truth if number not in labels.provenance.origins]
    masklets = [one.id for one in video.facts.masklets]
    forwards = {number: opinion.ids for number, opinion in follow(labels, list(video.frames()), tracker)}
    nearest = nearest_labels(labels, held_out)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / video.name
        propagate(labels, out, tracker, "benchmark")
        made = read_video(next(iter(find_videos(out))))
        masks = {number: read_index(path) for number, path in made.masks().items()}
        order = [one.frame for one in doubtful(made, 1.1, len(masks))]
    tables = {
        name: table_of(truth, version, held_out, masklets)
        for name, version in zip(METHODS, (masks, forwards, nearest), strict=True)
    }
    unseen = {one.id for one in labels.unseen}
    wrong = {
        frame
        for (frame, masklet), (j, _, _) in tables["propagate"].items()
        if j < WRONG and masklet not in unseen
    }
    results: dict[str, Any] = {"frames": len(held_out), "masklets": len(masklets)}
    for name, table in tables.items():
        score = agreement({key: ((j + f) / 2, seen) for key, (j, f, seen) in table.items()}, held_out)
        results[name] = [round(score.all_frames, 1), round(score.present, 1)]
    results["wrong_frames"] = len(wrong)
    results["among_least_sure"] = {
        f"{share:.0%}": len(wrong & set(order[: round(share * len(held_out))])) for share in SHARES
    }
    return results


def nearest_labels(labels: Labels, frames: Iterable[int]) -> dict[int, np.ndarray]:
    """Frame -> the label image that is shown nearest to it, the earlier of two."""
    shown = sorted(labels.provenance.origins)
    return {
        frame: read_index(labels.paths[min(shown, key=lambda one: (abs(one - frame), one))])
        for frame in frames
    }


def table_of(
    truth: Mapping[int, Path], made: Mapping[int, np.ndarray], frames: Iterable[int], masklets: list[int]
) -> Table:
    """J and F of each masklet on each frame."""
    table: Table = {}
    for frame in frames:
        wanted = read_index(truth[frame])
        for masklet in masklets:
            mask = wanted == masklet
            j, f = region_and_boundary(made[frame] == masklet, mask)
            table[frame, masklet] = (j, f, bool(mask.any()))
    return table


if __name__ == "__main__":
    main()
