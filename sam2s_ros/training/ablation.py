"""An ablation as one frozen value: which variants are trained and how each is evaluated, read from one YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


@dataclass(frozen=True)
class Variant:
    """One row of the ablation: weights that are trained, taken from another variant or as they were given, and the
    tracker's settings they are evaluated with."""

    name: str
    """A folder's name."""
    train: Mapping[str, Any] | None = None
    """Settings of `TrainConfig` that replace those of the base, nested ones one by one; None: nothing is trained."""
    weights_of: str = ""
    """Variant whose weights are evaluated; empty: its own, or, where nothing is trained, the base's `init`."""
    tracker: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `TrackerConfig`."""


@dataclass(frozen=True)
class Measurement:
    """One column group: what is evaluated, as arguments of `sam2s evaluate`."""

    name: str
    source: str
    """`DATA/...` stands for the data folder."""
    prompts: str = "mask"


@dataclass(frozen=True)
class Ablation:
    """Variants that differ from one base; all trainings have the same number of clips."""

    base: Mapping[str, Any]
    """Settings of `TrainConfig`."""
    variants: tuple[Variant, ...]
    measurements: tuple[Measurement, ...]
    seeds: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        for name in [*names, *(measurement.name for measurement in self.measurements)]:
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a folder; use letters, digits, _, + and -")
        if len(set(names)) < len(names):
            raise ValueError(f"two variants have one name: {', '.join(sorted(names))}")
        if not self.variants or not self.measurements or not self.seeds:
            raise ValueError("variants, measurements and seeds need at least one entry each")
        trained = {variant.name for variant in self.variants if variant.train is not None}
        for variant in self.variants:
            if variant.weights_of and (variant.train is not None or variant.weights_of not in trained):
                raise ValueError(
                    f"{variant.name}: weights_of names a variant that is trained, and stands instead of train"
                )
            if variant.train is None and not variant.weights_of and not self.base.get("init"):
                raise ValueError(f"{variant.name}: it trains nothing, so the base needs init, its weights")

    def train_settings(self, variant: Variant, seed: int) -> dict[str, Any]:
        """The settings of a variant's training with a seed."""
        return {**merged(self.base, variant.train or {}), "seed": seed}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with changes; mappings within are merged too, lists replaced."""
    result = dict(base)
    for key, value in changes.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = merged(before, value)
        result[key] = value
    return result


def read_ablation(path: Path) -> Ablation:
    """Read an ablation; `base` may be settings or the path of a file with them, relative to this one.

    Raises:
        FileNotFoundError: the file, or the base's, does not exist.
        ValueError: an entry is unknown, is missing or does not fit.
    """
    values = _mapping(path)
    unknown = sorted(set(values) - {item.name for item in fields(Ablation)})
    if unknown:
        raise ValueError(f"{path}: unknown entries {', '.join(unknown)}")
    base = values.get("base")
    if isinstance(base, str):
        base = _mapping(path.parent / base)
    if not isinstance(base, Mapping):
        raise ValueError(f"{path}: base must be training settings, or the path of a file with them")
    try:
        return Ablation(
            base=base,
            variants=tuple(Variant(**entry) for entry in values.get("variants", ())),
            measurements=tuple(Measurement(**entry) for entry in values.get("measurements", ())),
            seeds=tuple(values.get("seeds", (1,))),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected a mapping of settings")
    return values
