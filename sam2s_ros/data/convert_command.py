"""`sam2s data convert`: a public data set, as it is unpacked, into the project's layout."""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from sam2s_ros.data.convert import Outcome, convert_with_bar
from sam2s_ros.data.given_paths import printable
from sam2s_ros.data.source_table import SOURCES
from sam2s_ros.data.video_folder import SPLIT_NAMES
from sam2s_ros.data.video_plan import Unplanned, VideoPlan

HELP = "convert a public data set into the project's layout"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data convert`."""
    parser.add_argument(
        "source", choices=list(SOURCES), metavar="SOURCE", help=f"one of {', '.join(SOURCES)} (docs/data.md)"
    )
    parser.add_argument("input", type=Path, metavar="IN", help="folder that the data set was unpacked to")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for OUT/<source>/<split>/<video>")
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(4, os.cpu_count() or 1),
        help="processes (default: the cores, at most 4)",
    )
    parser.add_argument(
        "--split",
        choices=SPLIT_NAMES,
        help="put all videos in this split; needed where the source says none, else against the source's own",
    )
    parser.add_argument(
        "--frame-rate", type=float, help="numbers of frames per second, where you know better"
    )
    parser.add_argument("--licence", help="what is written down as the licence")
    parser.add_argument(
        "--redo",
        action="store_true",
        help="write videos again that OUT has of other files or settings (default: they are named and stay)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert; 1 if a file was left out or a video not written, now or in an earlier run."""
    rate = arguments.frame_rate
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"--frame-rate {rate}: give frames per second above 0")
    source = SOURCES[arguments.source]
    _require_apart(arguments.input, arguments.out, source.name)
    given = {"split": arguments.split, "frame_rate": rate, "licence": arguments.licence}
    changes = {name: value for name, value in given.items() if value is not None}
    planned = list(source.plan(arguments.input, source))
    plans = [replace(plan, **changes) for plan in planned if isinstance(plan, VideoPlan)]
    unplanned = [one.text for one in planned if isinstance(one, Unplanned)]
    for text in unplanned:
        print(printable(f"left out: {text}"))
    names = Counter((plan.split, plan.name) for plan in plans)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise ValueError(f"{arguments.input}: two videos of it are called {twice[0][1]} ({twice[0][0]})")
    if not plans:
        why = ", and what is there was left out" if unplanned else ""
        raise FileNotFoundError(f"nothing to convert under {arguments.input}: expected {source.layout}{why}")
    without = next((plan.name for plan in plans if not plan.split), None)
    if without is not None:
        raise ValueError(
            f"{arguments.input} does not say which split {without} belongs to: give --split "
            f"({', '.join(SPLIT_NAMES)})"
        )
    outcomes = convert_with_bar(plans, arguments.out, arguments.jobs, arguments.redo)
    return _tell(outcomes, len(unplanned), arguments.out)


def _tell(outcomes: list[Outcome], unplanned: int, out: Path) -> int:
    """Say what was left out and what was written; the exit status."""
    skipped = [(outcome.name, text) for outcome in outcomes for text in outcome.skipped]
    for name, text in skipped:
        print(printable(f"left out of {name}: {text}"))
    for outcome in outcomes:
        if outcome.lost and outcome.frames:
            print(f"written again: {outcome.name}: what was there had lost {outcome.lost}")
    missing = [outcome for outcome in outcomes if not outcome.frames]
    for outcome in missing:
        print(f"not written: {outcome.name}: {outcome.refused or 'it has no frame that can be used'}")
    before, left_out = sum(outcome.before for outcome in outcomes), len(skipped) + unplanned
    print(
        f"{out}: {len(outcomes) - len(missing)} videos of {sum(o.frames for o in outcomes)} frames, "
        f"{before} of them from before; {left_out} files left out, {len(missing)} videos not written"
    )
    return 1 if left_out or missing else 0


def _require_apart(source: Path, out: Path, name: str) -> None:
    """ValueError: what is written would lie in the folder that is read, and be read in its turn."""
    inside = source.resolve()
    for folder in (out, out / name):
        if folder.resolve().is_relative_to(inside):
            raise ValueError(
                f"{folder} lies in {source}, which is read: choose a folder to write to outside of it"
            )
