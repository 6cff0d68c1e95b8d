"""Which preset a set of tensors fits, and in what it differs; from names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import torch

from sam2s_ros.network.class_bank import CLASS_EMBEDDINGS
from sam2s_ros.network.presets import PRESETS
from sam2s_ros.network.sam2 import Sam2Network
from sam2s_ros.network.semantics import LONG_TERM_TPOS, has_class_reader

Shapes = Mapping[str, tuple[int, ...]]

LISTED = 10
SAM_2_0_LACKS = frozenset({"no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias"})
"""What SAM 2.1 added to SAM 2.0's state dict (source: SAM 2's `configs/sam2/` beside `configs/sam2.1/`)."""


@cache
def preset_shapes(
    preset: str, long_term: bool = False, class_bank: tuple[int, int] = (0, 0), class_reader: bool = False
) -> Shapes:
    """Names and shapes of a preset's state dict; nothing is allocated for it.

    With `long_term`, those of the preset's network with long-term memory; with `class_bank` (K, D), of the one with a
    bank of K classes and D channels and a class token or, with `class_reader`, a class reader. Raises ValueError for an
    unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(sorted(PRESETS))}")
    count, dim = class_bank
    names = tuple(map(str, range(count)))
    config = replace(
        PRESETS[preset],
        long_term=long_term,
        semantic_dim=dim,
        class_names=names,
        class_reader=class_reader,
    )
    with torch.device("meta"):
        network = Sam2Network(config)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def shapes_with_parts_of(preset: str, shapes: Shapes) -> Shapes:
    """The preset's names and shapes with those parts of SAM2S that the tensors of these shapes have.

    Raises ValueError for an unknown preset.
    """
    bank = shapes.get(CLASS_EMBEDDINGS, (0, 0))
    count, dim = bank if len(bank) == 2 and min(bank) > 0 else (0, 0)
    return preset_shapes(
        preset, LONG_TERM_TPOS in shapes, (count, dim), bool(dim) and has_class_reader(shapes)
    )


def fitting_preset(shapes: Shapes, preferred: str | None = None) -> str | None:
    """The preset that has exactly these names and shapes, with or without the parts of SAM2S, or None.

    `preferred` decides between several.
    """
    fitting = [preset for preset in PRESETS if shapes_with_parts_of(preset, shapes) == shapes]
    if preferred in fitting:
        return preferred
    return fitting[0] if fitting else None


def list_misfits(found: Shapes, expected: Shapes) -> str:
    """What does not fit, at most `LISTED` names a kind, and the likely fix; empty when everything fits."""
    lines = _misfit_lines(found, expected)
    return "\n".join([*lines, f"  {likely_fix(found)}"]) if lines else ""


def _misfit_lines(found: Shapes, expected: Shapes) -> list[str]:
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    misshaped = [
        f"{name} {list(found[name])} instead of {list(expected[name])}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    return [
        f"  {kind} {len(names)} of {total}: {_first(names)}"
        for kind, names, total in (
            ("missing", missing, len(expected)),
            ("unexpected", unexpected, len(found)),
            ("wrong shape", misshaped, len(expected)),
        )
        if names
    ]


def misfits_of_closest(found: Shapes) -> str:
    """What these tensors are likely to be, and what of them does not fit the preset that most of them fit."""
    closest = _closest(found)
    lines = _misfit_lines(found, preset_shapes(closest))
    return "\n".join([likely_fix(found), f"Compared with {closest}:", *lines])


def _closest(found: Shapes) -> str:
    return max(PRESETS, key=lambda name: _shared(found, preset_shapes(name)) / len(preset_shapes(name)))


def likely_fix(found: Shapes) -> str:
    """One sentence on what these tensors are."""
    preset = fitting_preset(found)
    if preset is not None:
        parts = {"long-term memory": LONG_TERM_TPOS, "a class bank": CLASS_EMBEDDINGS}
        kind = " and ".join(part for part, key in parts.items() if key in found)
        return f"These are the weights of preset {preset}{kind and f' with {kind}'}; ask for that preset."
    closest = _closest(found)
    expected = preset_shapes(closest)
    matching = _shared(found, expected)
    if expected.keys() - found.keys() == SAM_2_0_LACKS:
        return f"This looks like SAM 2.0's version of {closest}; only SAM 2.1 is supported, take its file."
    if matching < len(expected) // 2:
        return "These are not weights of a SAM 2.1 network in its official naming."
    return f"The closest preset is {closest}: {matching} of its {len(expected)} tensors fit."


def _shared(found: Shapes, expected: Shapes) -> int:
    return sum(found.get(name) == shape for name, shape in expected.items())


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(names[:LISTED])
    return f"{shown} and {len(names) - LISTED} more" if len(names) > LISTED else shown
