"""`sam2s evaluate`: J&F of a model on recorded video with ground truth, with the baselines beside it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2s_ros.evaluation.bags import LABEL_TOPIC, BagSequence, is_bag
from sam2s_ros.evaluation.baselines import BASELINES
from sam2s_ros.evaluation.evaluate import evaluate_sequence
from sam2s_ros.evaluation.interface import MaskTracker
from sam2s_ros.evaluation.long import PREFIX as LONG_PREFIX
from sam2s_ros.evaluation.long import LongSequence, find_long_sequences
from sam2s_ros.evaluation.overlay import OverlayVideo
from sam2s_ros.evaluation.prompts import PROMPTS
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.rendered import PREFIX, find_rendered_sequences
from sam2s_ros.evaluation.report import absence_table, class_line, score_document, score_table
from sam2s_ros.evaluation.scoring import SequenceScore
from sam2s_ros.evaluation.sequences import (
    DEFAULT_RATE_HZ,
    ImageFolderSequence,
    Sequence,
    find_folder_sequences,
)

if TYPE_CHECKING:
    from sam2s_ros.tracking import StreamingTracker

HELP = "score a model on a bag or image folder with ground truth, beside the baselines"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s evaluate`."""
    parser.add_argument(
        "source",
        nargs="+",
        help="bags, data set folders, image folders, rendered:FIRST-LAST for rendered scenes of these seeds, or long: "
        "for the long test",
    )
    parser.add_argument(
        "--data", type=Path, help="folder with train/, whose pictures rendered scenes have as tissue"
    )
    parser.add_argument("--labels", type=Path, help="folder of label images, for a plain image folder")
    parser.add_argument("--image-topic", help="image topic of a bag (default: its only one)")
    parser.add_argument("--label-topic", default=LABEL_TOPIC, help="ground-truth topic of a bag")
    parser.add_argument(
        "--model", default="nano", help="preset or weights file; 'none' scores the baselines only"
    )
    parser.add_argument("--checkpoint", type=Path, help="weights for the preset named by --model")
    parser.add_argument("--engine", default="auto", help="engine that runs the model")
    parser.add_argument(
        "--precision", default="auto", help="fp32, bf16, or auto (default: what is fastest here)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a tracker setting (repeatable)"
    )
    parser.add_argument(
        "--prompt", choices=PROMPTS, default="mask", help="how each object is shown to the model"
    )
    parser.add_argument("--objects", help="label values or names, comma-separated (default: all)")
    parser.add_argument("--no-baselines", action="store_true", help="score the model only")
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
    parser.add_argument("--out", type=Path, help="JSON file for everything measured")
    parser.add_argument(
        "--overlay", type=Path, help="MP4 of the model's masks; one per sequence if there are more"
    )


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the table, write the files asked for."""
    rule = ReturnRule(arguments.absent_frames, arguments.return_frames)
    sequences = [found for source in arguments.source for found in find_sequences(source, arguments)]
    objects = _parse_objects(arguments.objects) if arguments.objects else None
    facts: dict[str, Any] = {"prompt": arguments.prompt, "return_rule": dataclasses.asdict(rule)}
    scores: dict[str, list[SequenceScore]] = {}
    if arguments.model != "none":
        make_tracker = model_maker(arguments, facts, max(len(sequence.label_names) for sequence in sequences))
        scores[arguments.model] = [
            _evaluate_with_overlay(make_tracker, sequence, arguments, objects, len(sequences) > 1)
            for sequence in sequences
        ]
    if arguments.model == "none" or not arguments.no_baselines:
        for name, make_baseline in BASELINES.items():
            scores[name] = [
                evaluate_sequence(
                    make_baseline, sequence, "mask", objects, prompt_area=prompt_area_of(sequence)
                )
                for sequence in sequences
            ]
    print(f"J&F (%), prompt: {arguments.prompt} (baselines: mask)")
    print(score_table(scores))
    absences = absence_table(scores, rule)
    if absences:
        print(absences)
    classes = class_line(scores)
    if classes:
        print(classes)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(score_document(scores, rule, **facts), indent=2) + "\n")
    return 0


def find_sequences(text: str, arguments: argparse.Namespace) -> list[Sequence]:
    """The sequences with ground truth that a source stands for: one for a bag, all below a folder."""
    if text.startswith(PREFIX):
        return list(find_rendered_sequences(text, arguments.data))
    if text.startswith(LONG_PREFIX):
        return list(find_long_sequences(text))
    source = Path(text)
    if not source.exists():
        raise FileNotFoundError(f"there is no bag or folder {source}")
    if is_bag(source):
        return [BagSequence(source, arguments.image_topic, arguments.label_topic)]
    return list(find_folder_sequences(source, arguments.labels))


def prompt_area_of(sequence: Sequence) -> float:
    """Share of the image that an object covers when it is prompted; synthetic videos say it, others show a pixel."""
    return sequence.prompt_area if isinstance(sequence, LongSequence | ImageFolderSequence) else 0.0


def model_maker(
    arguments: argparse.Namespace, facts: dict[str, Any], objects: int
) -> Callable[[], StreamingTracker]:
    """Makes the tracker that the arguments ask for; `facts` then says what runs (engine, weights, settings).

    It has room for at least as many objects as a sequence names, unless `--set max_objects` says otherwise.
    """
    # torch is loaded for a model only, not for the baselines
    from sam2s_ros.tracking import TrackerConfig, load_tracker

    settings = {"max_objects": max(objects, TrackerConfig().max_objects), **parse_settings(arguments.set)}

    def make_tracker() -> StreamingTracker:
        tracker = load_tracker(
            model=arguments.model,
            engine=arguments.engine,
            checkpoint=arguments.checkpoint,
            precision=arguments.precision,
            **settings,
        )
        facts["engine"] = dataclasses.asdict(tracker.engine.describe())
        facts["tracker"] = dataclasses.asdict(tracker.config)
        return tracker

    return make_tracker


def parse_settings(assignments: list[str]) -> dict[str, Any]:
    """NAME=VALUE texts as fields of `TrackerConfig`, each with its field's type."""
    from sam2s_ros.tracking import TrackerConfig

    defaults = {field.name: field.default for field in dataclasses.fields(TrackerConfig)}
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set {assignment}: write NAME=VALUE")
        settings[name] = _parse_value(name, text, defaults.get(name, text))
    return settings


def _parse_value(name: str, text: str, default: Any) -> Any:
    """The text as a value of the default's type."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(default)(text)
    except (KeyError, ValueError):
        kind = "true or false" if isinstance(default, bool) else f"a value like {default!r}"
        raise ValueError(f"--set {name}={text}: {name} takes {kind}") from None


def _evaluate_with_overlay(
    make_tracker: Callable[[], MaskTracker],
    sequence: Sequence,
    arguments: argparse.Namespace,
    objects: list[int | str] | None,
    several: bool,
) -> SequenceScore:
    with ExitStack() as stack:
        observer = None
        if arguments.overlay:
            path = arguments.overlay
            if several:
                path = path.with_name(f"{path.stem}_{sequence.name.replace('/', '_')}{path.suffix}")
            observer = stack.enter_context(OverlayVideo(path, DEFAULT_RATE_HZ)).write
        area = prompt_area_of(sequence)
        return evaluate_sequence(make_tracker, sequence, arguments.prompt, objects, observer, area)


def _parse_objects(text: str) -> list[int | str]:
    items = [item.strip() for item in text.split(",")]
    return [int(item) if item.isdigit() else item for item in items]
