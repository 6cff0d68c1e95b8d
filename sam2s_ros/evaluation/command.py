"""`sam2s evaluate`: a model on recorded video with ground truth, with the baselines beside it: metrics and a report."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sam2s_ros import __version__
from sam2s_ros.evaluation.interactive import MAX_ROUNDS
from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.many_machines import LOCAL, run_missing_sequences
from sam2s_ros.evaluation.model_arguments import add_model_arguments
from sam2s_ros.evaluation.outputs import EvaluationOutputs
from sam2s_ros.evaluation.prompts import PROMPTS
from sam2s_ros.evaluation.real_time import MAX_ALLOWANCE_S
from sam2s_ros.evaluation.records import FrameRecord
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.runs import MODES, evaluate_all
from sam2s_ros.evaluation.sources import add_source_arguments, find_all_sequences
from sam2s_ros.evaluation.tables import absence_table, class_line, drop_line, interval_table, score_table
from sam2s_ros.evaluation.unfinished import state_of

HELP = "score a model on bags, videos or image folders with ground truth, beside the baselines"
NOT_IN_KEY = {
    *("out", "run", "live", "command", "traceback", "absent_frames", "return_frames", "bootstrap"),
    *("ray", "ray_cpus"),
}
"""Arguments that change nothing of what is recorded of a video."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s evaluate`."""
    add_source_arguments(parser)
    add_model_arguments(parser, or_none="scores the baselines only")
    parser.add_argument(
        "--prompts",
        default="mask",
        metavar="PROTOCOL|FILE",
        help=f"how each object is shown to the model: {', '.join(PROMPTS)}, at its first appearance, or a prompts file",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=0,
        metavar="N",
        help=f"rounds of correction, up to {MAX_ROUNDS}: before each, a click on the worst frame of each object "
        "(default: %(default)s)",
    )
    add_mode_arguments(parser)
    parser.add_argument("--objects", help="label values or names, comma-separated (default: all)")
    parser.add_argument("--no-baselines", action="store_true", help="score the model only")
    add_output_arguments(parser)
    add_machine_arguments(parser)


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the sequences run."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help="run the sequences on a Ray cluster (HOST:PORT, auto, ray://HOST:PORT), or without ADDRESS beside each "
        "other here; sources and weights have the same paths on all its machines",
    )
    parser.add_argument(
        "--ray-cpus",
        type=int,
        default=2,
        metavar="N",
        help="processors, and so threads, of each sequence with --ray (default: %(default)s)",
    )


def add_mode_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how time passes."""
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="every-frame",
        help="every-frame: the model sees every frame; real-time: in the recorded time, frames that come while it is "
        "busy are skipped, simulated; live: the node, through DDS, at the recorded pace (default: %(default)s)",
    )
    parser.add_argument(
        "--step-time",
        type=float,
        metavar="S",
        help="real-time: seconds of a step and of a prompt (default: as measured here); live: at least so long",
    )
    parser.add_argument(
        "--prepare-time",
        type=float,
        metavar="S",
        help="real-time: seconds to decode and encode ahead (default: as measured here, 0 beside --step-time)",
    )
    parser.add_argument(
        "--allowance",
        type=float,
        default=0.0,
        metavar="S",
        help="real-time, live: a mask published up to so many seconds after an image still counts for it (default: 0)",
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is computed of the records, and where it goes."""
    rule = ReturnRule()
    parser.add_argument(
        "--absent-frames",
        type=int,
        default=rule.absent_frames,
        metavar="N",
        help=f"a return counts after at least N frames out of view (default: {rule.absent_frames})",
    )
    parser.add_argument(
        "--return-frames",
        type=int,
        default=rule.return_frames,
        metavar="K",
        help=f"frames within which an object that returned must be found (default: {rule.return_frames})",
    )
    parser.add_argument(
        "--nsd-tolerance",
        type=float,
        metavar="PX",
        help="tolerance of NSD (default: that of F, 0.8 %% of the image diagonal)",
    )
    bootstrap = Bootstrap()
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=bootstrap.resamples,
        metavar="N",
        help=f"draws for the intervals over sequences (default: {bootstrap.resamples})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for report.html, summary.json, frames.parquet and a video of the model's masks per sequence; "
        "the same command goes on with a run that was interrupted",
    )
    parser.add_argument("--no-overlay", action="store_true", help="write no video into --out")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write the folder asked for, print the tables."""
    rule = ReturnRule(arguments.absent_frames, arguments.return_frames)
    bootstrap = Bootstrap(arguments.bootstrap)
    check_mode(arguments)
    check_machines(arguments)
    sequences = find_all_sequences(arguments)
    with ExitStack() as stack:
        folder = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sam2s_")))
        outputs = EvaluationOutputs(folder, run_key(arguments))
        if arguments.ray is not None:
            run_missing_sequences(sequences, arguments, outputs.unfinished)
        evaluate_all(sequences, arguments, outputs)
        document = outputs.finish(rule, bootstrap)
    beside = "" if arguments.no_baselines else " (baselines: mask, every frame)"
    print(f"J&F (%), prompts: {arguments.prompts}, mode: {arguments.mode}{beside}")
    tables = (score_table, interval_table, absence_table, class_line, drop_line)
    for text in (table(document) for table in tables):
        if text:
            print(text)
    if arguments.out:
        print(f"report: {arguments.out / 'report.html'}")
    return 0


def check_mode(arguments: argparse.Namespace) -> None:
    """ValueError for options that do not go together, or are out of range."""
    if not 0 <= arguments.rounds <= MAX_ROUNDS:
        raise ValueError(f"--rounds {arguments.rounds}: give 0 to {MAX_ROUNDS}")
    if arguments.rounds and arguments.mode != "every-frame":
        raise ValueError("--rounds goes back to frames that have passed: only with --mode every-frame")
    times = {"--step-time": arguments.step_time, "--prepare-time": arguments.prepare_time}
    for name, value in times.items():
        if value is not None and not 0 <= value < 3600:
            raise ValueError(f"{name} {value}: give 0 or more seconds")
    if not 0 <= arguments.allowance <= MAX_ALLOWANCE_S:
        raise ValueError(f"--allowance {arguments.allowance}: give 0 to {MAX_ALLOWANCE_S:g} seconds")
    if arguments.mode == "live" and arguments.prepare_time is not None:
        raise ValueError("--prepare-time is simulated: only with --mode real-time")
    given = [name for name, value in times.items() if value is not None]
    given += ["--allowance"] if arguments.allowance else []
    if arguments.mode == "every-frame" and given:
        raise ValueError(f"{given[0]} says how time passes: only with --mode real-time or live")


def check_machines(arguments: argparse.Namespace) -> None:
    """ValueError for options that do not go together, or are out of range."""
    if arguments.ray is None:
        return
    if arguments.out is None:
        raise ValueError("--ray needs --out DIR, where the results of all machines come together")
    if arguments.mode == "live":
        raise ValueError("--mode live runs the node beside its player: only without --ray")
    if arguments.mode == "real-time" and arguments.step_time is None:
        raise ValueError(
            "--mode real-time measures this machine's steps: with --ray, give them with --step-time"
        )
    if arguments.ray_cpus < 1:
        raise ValueError(f"--ray-cpus {arguments.ray_cpus}: give at least 1")


def run_key(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a run must share with one that was interrupted to go on with it: arguments, what the files named by them
    hold, the version, what a record has and what the tracker does by default."""
    named = [*arguments.source, arguments.ground_truth, arguments.data, arguments.prompts]
    paths = [Path(one) for one in named if one is not None] + _weights(arguments)
    options = {name: str(value) for name, value in vars(arguments).items() if name not in NOT_IN_KEY}
    return {
        "arguments": options,
        "files": state_of(paths, arguments.out),
        "version": __version__,
        "columns": [field.name for field in fields(FrameRecord)],
        "defaults": _defaults(arguments),
    }


def _defaults(arguments: argparse.Namespace) -> dict[str, Any]:
    """The tracker's settings where the arguments give none."""
    if arguments.model == "none":
        return {}
    from sam2s_ros.tracking import TrackerConfig

    return asdict(TrackerConfig())


def _weights(arguments: argparse.Namespace) -> list[Path]:
    if arguments.model == "none":
        return []
    from sam2s_ros.tracking.loader import find_weights

    return [find_weights(arguments.model, arguments.checkpoint)[1]]
