"""The command-line arguments that say which tracker is to be judged, and the tracker that they make."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2s_ros.tracking import StreamingTracker


def add_model_arguments(parser: argparse.ArgumentParser, or_none: str = "") -> None:
    """Declare the model, its engine and its settings; `or_none` says what the model "none" does, if it may be."""
    other = f"; 'none' {or_none}" if or_none else ""
    parser.add_argument("--model", default="nano", help=f"preset or weights file (default: nano){other}")
    parser.add_argument("--checkpoint", type=Path, help="weights for the preset named by --model")
    parser.add_argument(
        "--engine",
        default="auto",
        help="auto (default: the best that this machine has), openvino, onnxruntime, eager or tensorrt",
    )
    parser.add_argument(
        "--precision", default="auto", help="fp32, bf16, or auto (default: what is fastest here)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a tracker setting, of those in sam2s_ros/tracking/config.py (repeatable)",
    )


def model_maker(
    arguments: argparse.Namespace, facts: dict[str, Any], objects: int
) -> Callable[[], StreamingTracker]:
    """Makes the tracker that the arguments ask for; `facts` then says what runs (engine, weights, settings).

    It has room for at least as many objects as a sequence names, unless `--set max_objects` says otherwise.
    """
    # torch is loaded for a model only, not for the baselines
    from sam2s_ros.engines.cuda_device import DeviceError
    from sam2s_ros.tracking import TrackerConfig, load_tracker

    settings = {"max_objects": max(objects, TrackerConfig().max_objects), **parse_settings(arguments.set)}

    def make_tracker() -> StreamingTracker:
        try:
            tracker = load_tracker(
                model=arguments.model,
                engine=arguments.engine,
                checkpoint=arguments.checkpoint,
                precision=arguments.precision,
                **settings,
            )
        except (DeviceError, ImportError) as error:  # of an engine that was asked for by name
            raise ValueError(
                f"--engine {arguments.engine} cannot run here: {error}; --engine auto takes what this machine has"
            ) from error
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
