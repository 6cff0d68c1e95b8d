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
from sam2s_ros.network.checkpoint import detect_preset, read_checkpoint_bank, read_metadata
from sam2s_ros.network.class_bank import read_class_bank
from sam2s_ros.tracking.class_memory import KnownClasses
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
    class_bank: str | Path | None = None,
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
        class_bank: classes to know instead of those that the weights come with (`sam2s embed-classes`); None or "" for
            those. Only with weights that have a class token.
        overrides: single fields of `TrackerConfig` to replace, such as `max_objects=4`.

    Raises:
        ValueError: unknown model, engine or setting, a weights file that does not fit, or a class bank that cannot take
            the place of the weights' own.
        FileNotFoundError: no such weights file or class bank.
    """
    settings = override_config(config or TrackerConfig(), overrides)
    network = load_network(model, checkpoint, image_size, class_bank)
    classes = known_classes(network)
    reads = network.config
    capacity = settings.engine_capacity(reads.num_maskmem - 1, reads.max_pointers - 1)
    runner = create_engine(engine, network, capacity, threads, precision)
    runner.warm_up()
    return StreamingTracker(runner, settings, classes)


def known_classes(network: Sam2Network) -> KnownClasses | None:
    """The network's class bank; None for one that knows no class."""
    embeddings = network.sam2s.class_embeddings
    return None if embeddings is None else KnownClasses(network.config.class_names, embeddings.numpy().copy())


def _with_class_bank(preset: str, weights: Path, class_bank: str | Path) -> Sam2Network:
    if read_checkpoint_bank(weights) is None:
        raise ValueError(
            f"class_bank is {class_bank}, and {weights} knows no classes; "
            "leave class_bank empty, or take weights that were trained with one"
        )
    return build_network(preset, weights, class_bank=read_class_bank(class_bank))


def load_network(
    model: str,
    checkpoint: str | Path | None = None,
    image_size: int = 0,
    class_bank: str | Path | None = None,
) -> Sam2Network:
    """The network that a model's name, or a path, means; `image_size` in pixels, 0 for its own.

    Raises:
        ValueError, FileNotFoundError: as `load_tracker`.
    """
    preset, weights = find_weights(model, checkpoint)
    network = _with_class_bank(preset, weights, class_bank) if class_bank else build_network(preset, weights)
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
