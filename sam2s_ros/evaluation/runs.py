"""The runs of one evaluation: the model that is judged, in the mode asked for, then the baselines, over all videos."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sam2s_ros.evaluation.baselines import BASELINES
from sam2s_ros.evaluation.evaluate import FrameObserver, evaluate_sequence
from sam2s_ros.evaluation.interactive import Corrections
from sam2s_ros.evaluation.model_arguments import model_maker
from sam2s_ros.evaluation.outputs import EvaluationOutputs
from sam2s_ros.evaluation.prompts import FirstSight, make_prompter
from sam2s_ros.evaluation.real_time import StreamTimes, evaluate_real_time
from sam2s_ros.evaluation.records import FrameRecord
from sam2s_ros.evaluation.sequences import Sequence
from sam2s_ros.evaluation.sources import prompt_area_of

if TYPE_CHECKING:
    from sam2s_ros.tracking import StreamingTracker

MODES = ("every-frame", "real-time", "live")
Records = Iterator[tuple[FrameRecord, ...]]


def with_baselines(arguments: argparse.Namespace) -> bool:
    """Whether the baselines are run too."""
    return arguments.model == "none" or not arguments.no_baselines


def evaluate_all(
    sequences: list[Sequence],
    arguments: argparse.Namespace,
    outputs: EvaluationOutputs,
    only: int | None = None,
) -> None:
    """Run the model, then the baselines, over all sequences; the model, before any correction, is also drawn.

    only: the number of the one sequence to run, as it is run among the others.
    """
    objects: Collection[int | str] | None = parse_objects(arguments.objects) if arguments.objects else None
    outputs.facts |= {
        "mode": arguments.mode,
        "prompts": arguments.prompts,
        "nsd_tolerance_px": arguments.nsd_tolerance,
    }
    if arguments.mode != "every-frame":
        outputs.facts |= {
            "step_time_s": arguments.step_time,
            "prepare_time_s": _prepare_time_s(arguments),
            "allowance_s": arguments.allowance,
        }
    chosen, several = (sequences if only is None else [sequences[only]]), len(sequences) > 1
    if arguments.model != "none":
        most = max(len(sequence.label_names) for sequence in sequences)
        make_tracker = model_maker(arguments, outputs.facts, most)
        for sequence in chosen:
            _evaluate_model(make_tracker, sequence, objects, arguments, outputs, several)
        objects = make_prompter(arguments.prompts, objects).objects
    for number, (name, make) in enumerate(BASELINES.items() if with_baselines(arguments) else ()):
        for sequence in chosen:
            with ExitStack() as stack:
                on_frame = None
                if arguments.model == "none" and number == 0:
                    on_frame = _observer(stack, sequence, arguments, outputs, several)
                prompter = FirstSight("mask", objects, prompt_area_of(sequence))
                options = {"on_frame": on_frame, "name": name, "nsd_tolerance_px": arguments.nsd_tolerance}
                outputs.write(_later(evaluate_sequence, make, sequence, prompter, **options))


def _evaluate_model(
    make_tracker: Callable[[], StreamingTracker],
    sequence: Sequence,
    objects: Collection[int | str] | None,
    arguments: argparse.Namespace,
    outputs: EvaluationOutputs,
    several: bool,
) -> None:
    """One sequence in the mode asked for, and once more after each round of correction, as a tracker of its own."""
    prompter = make_prompter(arguments.prompts, objects, prompt_area_of(sequence))
    options: dict[str, Any] = {"name": arguments.model, "nsd_tolerance_px": arguments.nsd_tolerance}
    with ExitStack() as stack:
        options["on_frame"] = _observer(stack, sequence, arguments, outputs, several)
        if arguments.mode == "live":
            outputs.write(_later(arguments.live.evaluate_live, sequence, prompter, arguments, **options))
            return
        if arguments.mode == "real-time":
            times = StreamTimes(arguments.step_time, _prepare_time_s(arguments))
            more = {"times": times, "allowance_s": arguments.allowance}
            outputs.write(_later(evaluate_real_time, make_tracker, sequence, prompter, **more, **options))
            return
        records, _ = outputs.write(_later(evaluate_sequence, make_tracker, sequence, prompter, **options))
    corrections = Corrections()
    for done in range(1, arguments.rounds + 1):
        corrections.plan(records)
        options |= {"name": f"{arguments.model} +{done}", "on_frame": None, "correct": corrections}
        frames = _later(evaluate_sequence, make_tracker, sequence, prompter, **options)
        records, clicks = outputs.write(frames, corrections.document)
        corrections = Corrections(clicks)


def _later(evaluate: Callable[..., Records], *arguments: Any, **options: Any) -> Callable[[], Records]:
    """What runs the evaluation when it is called."""
    return lambda: evaluate(*arguments, **options)


def _observer(
    stack: ExitStack,
    sequence: Sequence,
    arguments: argparse.Namespace,
    outputs: EvaluationOutputs,
    several: bool,
) -> FrameObserver:
    video = f"overlay_{sequence.name.replace('/', '_')}" if several else "overlay"
    drawn = bool(arguments.out) and not arguments.no_overlay
    return stack.enter_context(outputs.observer(video, drawn))


def _prepare_time_s(arguments: argparse.Namespace) -> float | None:
    if arguments.prepare_time is None and arguments.step_time is not None:
        return 0.0
    return float(arguments.prepare_time) if arguments.prepare_time is not None else None


def parse_objects(text: str) -> list[int | str]:
    """Label values and names, separated by commas."""
    items = [item.strip() for item in text.split(",")]
    return [int(item) if item.isdigit() else item for item in items]
