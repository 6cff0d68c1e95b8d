"""`sam2s evaluate`: a model on recorded video with ground truth, with the baselines beside it: metrics and a report."""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2s_ros.evaluation.bags import LABEL_TOPIC, BagSequence, is_bag
from sam2s_ros.evaluation.baselines import BASELINES
from sam2s_ros.evaluation.evaluate import evaluate_sequence
from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.long import PREFIX as LONG_PREFIX
from sam2s_ros.evaluation.long import LongSequence, find_long_sequences
from sam2s_ros.evaluation.outputs import EvaluationOutputs
from sam2s_ros.evaluation.prompts import PROMPTS
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.rendered import PREFIX, find_rendered_sequences
from sam2s_ros.evaluation.sequences import ImageFolderSequence, Sequence, find_folder_sequences
from sam2s_ros.evaluation.tables import absence_table, class_line, interval_table, score_table

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
        help="folder for report.html, summary.json, frames.parquet and a video of the model's masks per sequence",
    )
    parser.add_argument("--no-overlay", action="store_true", help="write no video into --out")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write the folder asked for, print the tables."""
    rule = ReturnRule(arguments.absent_frames, arguments.return_frames)
    bootstrap = Bootstrap(arguments.bootstrap)
    sequences = [found for source in arguments.source for found in find_sequences(source, arguments)]
    facts: dict[str, Any] = {"prompt": arguments.prompt, "nsd_tolerance_px": arguments.nsd_tolerance}
    with ExitStack() as stack:
        folder = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sam2s_")))
        with EvaluationOutputs(folder) as outputs:
            _evaluate_all(sequences, arguments, outputs, facts)
        document = outputs.finish(rule, bootstrap, facts)
    print(f"J&F (%), prompt: {arguments.prompt} (baselines: mask)")
    for text in (table(document) for table in (score_table, interval_table, absence_table, class_line)):
        if text:
            print(text)
    if arguments.out:
        print(f"report: {arguments.out / 'report.html'}")
    return 0


def _evaluate_all(
    sequences: list[Sequence],
    arguments: argparse.Namespace,
    outputs: EvaluationOutputs,
    facts: dict[str, Any],
) -> None:
    """Run the model, then the baselines, over all sequences; the first of them is also drawn."""
    objects = _parse_objects(arguments.objects) if arguments.objects else None
    runs: dict[str, tuple[Callable[[], Any], str]] = {}
    if arguments.model != "none":
        most = max(len(sequence.label_names) for sequence in sequences)
        runs[arguments.model] = model_maker(arguments, facts, most), arguments.prompt
    if arguments.model == "none" or not arguments.no_baselines:
        runs |= {name: (make, "mask") for name, make in BASELINES.items()}
    for number, (name, (make, prompt)) in enumerate(runs.items()):
        for sequence in sequences:
            with ExitStack() as stack:
                on_frame = None
                if number == 0:
                    video = "overlay" if len(sequences) == 1 else f"overlay_{sequence.name.replace('/', '_')}"
                    drawn = bool(arguments.out) and not arguments.no_overlay
                    on_frame = stack.enter_context(outputs.observer(video, drawn))
                area, tolerance = prompt_area_of(sequence), arguments.nsd_tolerance
                outputs.write(
                    evaluate_sequence(make, sequence, prompt, objects, on_frame, area, name, tolerance)
                )


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
        facts["classes"] = list(tracker.classes)
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


def _parse_objects(text: str) -> list[int | str]:
    items = [item.strip() for item in text.split(",")]
    return [int(item) if item.isdigit() else item for item in items]
