"""`sam2s data convert`: a public data set, as it is unpacked, into the project's layout."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from sam2s_ros.data.convert import convert_with_bar
from sam2s_ros.data.source_table import SOURCES
from sam2s_ros.data.video_folder import SPLIT_NAMES

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


def run(arguments: argparse.Namespace) -> int:
    """Convert; 1 if a file was left out or a video not written, now or in an earlier run."""
    given = {"split": arguments.split, "frame_rate": arguments.frame_rate, "licence": arguments.licence}
    changes = {name: value for name, value in given.items() if value is not None}
    source = SOURCES[arguments.source]
    plans = [replace(plan, **changes) for plan in source.plan(arguments.input, source)]
    names = [(plan.split, plan.name) for plan in plans]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{arguments.input}: two videos of it are called {twice[0][1]} ({twice[0][0]})")
    if not plans:
        raise FileNotFoundError(f"nothing to convert under {arguments.input}: expected {source.layout}")
    without = next((plan.name for plan in plans if not plan.split), None)
    if without is not None:
        raise ValueError(
            f"{arguments.input} does not say which split {without} belongs to: give --split "
            f"({', '.join(SPLIT_NAMES)})"
        )
    outcomes = convert_with_bar(plans, arguments.out, arguments.jobs)
    skipped = [(outcome.name, text) for outcome in outcomes for text in outcome.skipped]
    for name, text in skipped:
        print(f"left out of {name}: {text}")
    empty = [outcome.name for outcome in outcomes if not outcome.frames]
    for name in empty:
        print(f"not written: {name}: it has no frame that can be used")
    before = sum(outcome.before for outcome in outcomes)
    print(
        f"{arguments.out}: {len(outcomes) - len(empty)} videos of {sum(o.frames for o in outcomes)} frames, "
        f"{before} of them from before; {len(skipped)} files left out, {len(empty)} videos not written"
    )
    return 1 if skipped or empty else 0
