"""Rendered validation sequences as something to evaluate: `rendered:SEED` or `rendered:FIRST-LAST`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2s_ros.data.sequences import render_sequence
from sam2s_ros.evaluation.sequences import LabelledFrame

PREFIX = "rendered:"
SIZE = (432, 540)
"""Height and width in pixels."""
RATE_HZ = 12.5
FRAMES = 100
OBJECTS = (1, 2, 3)
"""Instruments in view, by the seed's remainder."""


@dataclass(frozen=True)
class RenderedSequence:
    """One scene with instruments and a seed that training never sees; over real tissue where `data_root` is given."""

    seed: int
    data_root: Path | None = None

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.seed}"

    @property
    def label_names(self) -> Mapping[int, str]:
        return {index + 1: f"instrument {index + 1}" for index in range(self._objects)}

    @property
    def _objects(self) -> int:
        return OBJECTS[self.seed % len(OBJECTS)]

    def frames(self) -> Iterator[LabelledFrame]:
        """Each frame, rendered anew."""
        sequence = render_sequence(
            self.seed,
            FRAMES,
            SIZE,
            RATE_HZ,
            objects=self._objects,
            plain=False,
            data_root=self.data_root,
            render_scale=0.8,
        )
        values = np.arange(1, self._objects + 1, dtype=np.uint8)[:, None, None]
        for index, (image, masks) in enumerate(sequence):
            labels = (masks * values).max(axis=0)  # masks of a scene do not overlap
            yield LabelledFrame(round(index * 1e9 / RATE_HZ), image, labels)


def find_rendered_sequences(source: str, data_root: Path | None) -> list[RenderedSequence]:
    """The sequences that `rendered:...` stands for. ValueError when it is written otherwise."""
    match = re.fullmatch(rf"{PREFIX}(\d+)(?:-(\d+))?", source)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if last < first:
        raise ValueError(f"{source}: write {PREFIX}SEED or {PREFIX}FIRST-LAST, such as {PREFIX}0-5")
    return [RenderedSequence(seed, data_root) for seed in range(first, last + 1)]
