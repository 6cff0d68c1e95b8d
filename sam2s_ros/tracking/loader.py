"""From a model's name to a tracker that is ready for its first frame."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sam2s_ros.engines import create_engine
from sam2s_ros.network import PRESETS, Sam2Network, build_network, with_image_size
from sam2s_ros.network.checkpoint import detect_preset, read_metadata
from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.tracker import StreamingTracker

BUNDLED_WEIGHTS = {"nano": "sam2s_nano.safetensors"}
"""Models whose weights come with the package, and their file in `models/`."""


def load_tracker(
    model: str = "nano",
    engine: str = "auto",
    config: TrackerConfig | None = None,
    checkpoint: str | Path | None = None,
    threads: int = 0,
    precision: str = "auto",
    image_size: int = 0,
    **overrides: Any,
) -> StreamingTracker:
    """Build network, engine and tracker, and run them once, so that the first frame is not slow.

    The first time that weights are loaded on a machine, all engines but the eager one export them, which takes some
    20 s of one CPU (`sam2s_ros.engines.export`).

    Args:
        model: "nano", whose weights are bundled; the path of a weights file; or a preset's name with
        `checkpoint`.
        engine: "auto" or an engine's name.
        config: tracker settings; the defaults when None.
        checkpoint: weights for the preset `model`, instead of the bundled ones.
        threads: CPU threads of the engine, 0 to leave the process's setting alone.
        precision: "fp32", "bf16", "fp16" or "auto", see `sam2s_ros.engines.create_engine`.
        image_size: side of the network's square input in pixels, a multiple of 32; 0 for the model's own.
        overrides: single fields of `TrackerConfig` to replace, such as `max_objects=4`.

    Raises:
        ValueError: unknown model, engine or setting, or a weights file that does not fit.
        FileNotFoundError: no such weights file.
    """
    settings = override_config(config or TrackerConfig(), overrides)
    network = load_network(model, checkpoint, image_size)
    reads = network.config
    capacity = settings.engine_capacity(reads.num_maskmem - 1, reads.max_pointers - 1)
    runner = create_engine(engine, network, capacity, threads, precision)
    runner.warm_up()
    return StreamingTracker(runner, settings)


def load_network(model: str, checkpoint: str | Path | None = None, image_size: int = 0) -> Sam2Network:
    """The network that a model's name, or a path, means; `image_size` in pixels, 0 for its own.

    Raises:
        ValueError, FileNotFoundError: as `load_tracker`.
    """
    preset, weights = find_weights(model, checkpoint)
    network = build_network(preset, weights)
    return with_image_size(network, image_size) if image_size else network


def override_config(config: TrackerConfig, overrides: dict[str, Any]) -> TrackerConfig:
    """The config with some fields replaced. ValueError for a field that does not exist."""
    known = [field.name for field in fields(TrackerConfig)]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise ValueError(f"unknown tracker setting {unknown[0]!r}; the settings are {', '.join(known)}")
    return replace(config, **overrides)


def find_weights(model: str, checkpoint: str | Path | None = None) -> tuple[str, Path]:
    """The preset and the weights file that a model's name, or a path, means."""
    if model in PRESETS:
        if checkpoint is not None:
            return model, Path(checkpoint)
        if model in BUNDLED_WEIGHTS:
            return model, bundled_weights(BUNDLED_WEIGHTS[model])
        raise ValueError(
            f"no weights are bundled for {model!r}; give its official weights file as checkpoint"
        )
    path = Path(model)
    if path.suffix or path.exists():
        metadata = read_metadata(path)
        return (detect_preset(path) if metadata is None else metadata.preset), path
    raise ValueError(
        f"unknown model {model!r}; choose one of {', '.join(PRESETS)}, or give a weights file's path"
    )


def bundled_weights(file_name: str) -> Path:
    """The first place that has the file. FileNotFoundError names all places."""
    places = list(_model_folders())
    for folder in places:
        if (folder / file_name).is_file():
            return folder / file_name
    searched = ", ".join(str(folder) for folder in places)
    raise FileNotFoundError(
        f"the bundled weights {file_name} are missing; searched {searched}. Install the package again"
    )


def _model_folders() -> Iterator[Path]:
    """Source tree, package data, then the share folders of ROS and Python installations."""
    package = Path(__file__).resolve().parents[1]
    yield package.parent / "models"
    yield package / "models"
    for prefix in filter(None, [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]):
        yield Path(prefix) / "share" / "sam2s_ros" / "models"
