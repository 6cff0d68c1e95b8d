"""What a converter makes of a data set before it opens an image: which files are which video's frames and labels."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from sam2s_ros.data.labels import LabelFile


@dataclass(frozen=True)
class FramePlan:
    """A frame: its number in steps of 1 / frame_rate, its image, and where its labels are (None: it has none)."""

    number: int
    image: Path
    labels: tuple[LabelFile, ...] | None


@dataclass(frozen=True)
class Crop:
    """The part that is kept of frames of one size; frames of other sizes are left as they are."""

    size: tuple[int, int]
    """(width, height) of the frames that are cropped."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom."""

    @property
    def cropped(self) -> tuple[int, int]:
        """(width, height) of what is kept."""
        left, top, right, bottom = self.box
        return right - left, bottom - top


@dataclass(frozen=True)
class VideoPlan:
    """A video to be written; `name` is that of its folder. An empty `split`: the source does not say.

    ValueError names a frame that is out of order, or a frame rate that is none.
    """

    name: str
    dataset: str
    split: str
    procedure: str
    licence: str
    frame_rate: float
    frames: tuple[FramePlan, ...]
    identities: str = "linked"
    stills: bool = False
    crop: Crop | None = None
    prompt_area: float = 0.0
    left_out: tuple[str, ...] = ()
    """What the source has for this video and the plan does not use: file and reason."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise ValueError(
                f"{self.name}: the frame rate is {self.frame_rate}; give frames per second above 0"
            )
        for before, after in itertools.pairwise(self.frames):
            if after.number <= before.number:
                raise ValueError(
                    f"{self.name}: {before.image} is frame {before.number} and {after.image}, after it, {after.number}"
                )


@dataclass(frozen=True)
class Unplanned:
    """A part of a data set that no video can be planned from: file or folder, and the reason."""

    text: str
