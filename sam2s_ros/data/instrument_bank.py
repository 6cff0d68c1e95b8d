"""The instrument bank as the user writes it: one YAML file of class names and what a text encoder reads for each."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

KINDS = ("instrument", "tissue")


@dataclass(frozen=True)
class InstrumentClass:
    """One class: what it is called, and what the text encoder reads for it in the template."""

    name: str
    kind: str
    """instrument or tissue."""
    prompt: str


@dataclass(frozen=True)
class InstrumentBank:
    """The classes of one file, in its order."""

    classes: tuple[InstrumentClass, ...]
    template: str
    """Prompt with {} for the class, as CLIP's are written."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.classes)

    @property
    def prompts(self) -> list[str]:
        """What the text encoder reads, in the order of the classes."""
        return [self.template.replace("{}", one.prompt) for one in self.classes]


def read_instrument_bank(path: str | Path) -> InstrumentBank:
    """Read a YAML file such as `config/instruments.yaml`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a mapping of template and classes, a class without name or of unknown kind, or a name or a
            prompt that occurs twice.
    """
    raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if (
        not isinstance(raw, dict)
        or set(raw) != {"template", "classes"}
        or not isinstance(raw["classes"], list)
    ):
        raise ValueError(f"{path}: expected `template: ...` and `classes: [...]`, and nothing else")
    template = str(raw["template"])
    if "{}" not in template:
        raise ValueError(f"{path}: the template {template!r} has no {{}} where the class belongs")
    bank = InstrumentBank(tuple(_one_class(entry, path) for entry in raw["classes"]), template)
    for what, values in (("name", bank.names), ("prompt", tuple(bank.prompts))):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"{path}: two classes have the {what} {twice[0]!r}; each needs its own")
    if not bank.classes:
        raise ValueError(f"{path}: no classes")
    return bank


def bundled_bank() -> Path:
    """`config/instruments.yaml` of the source tree or of the installation.

    Raises:
        FileNotFoundError: it is in neither, and where it was looked for.
    """
    shared = filter(None, [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix])
    places = [
        Path(__file__).resolve().parents[2] / "config/instruments.yaml",
        *(Path(prefix) / "share/sam2s_ros/config/instruments.yaml" for prefix in shared),
    ]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(f"no instruments.yaml at {', '.join(map(str, places))}; name one with --classes")


@lru_cache(maxsize=4)
def bank_kinds(path: Path | None = None) -> dict[str, str]:
    """Class name -> kind of the bank in a file, of the bundled one by default."""
    return {one.name: one.kind for one in read_instrument_bank(path or bundled_bank()).classes}


def _one_class(entry: object, path: str | Path) -> InstrumentClass:
    if not isinstance(entry, dict) or not entry.get("name") or set(entry) - {"name", "kind", "prompt"}:
        raise ValueError(f"{path}: {entry!r} is no class; give name, kind and, where it differs, prompt")
    if entry.get("kind") not in KINDS:
        raise ValueError(
            f"{path}: class {entry['name']!r} is of kind {entry.get('kind')!r}; use {' or '.join(KINDS)}"
        )
    return InstrumentClass(str(entry["name"]), entry["kind"], str(entry.get("prompt") or entry["name"]))
