"""A set of long synthetic surgeries as one frozen value: what `sam2s data synth` writes and the long test renders."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from sam2s_ros.data.backgrounds import TissueLibrary, library_of_folder
from sam2s_ros.data.splits import SPLITS
from sam2s_ros.data.surgery import DIFFICULTIES, Surgery, random_surgery

SMALLEST_SIDE, LARGEST_SIDE = 64, 4096


@dataclass(frozen=True)
class LongVideos:
    """Surgeries of these seeds. ValueError names the setting that cannot be rendered and what would do."""

    seeds: tuple[int, ...] = tuple(range(8))
    frames: int = 750
    fps: float = 12.5
    size: tuple[int, int] = (480, 384)
    """Width and height in pixels."""
    difficulty: str = "medium"
    split: str = "test"
    """Whose designs and seeds are drawn from; those of another split never occur."""
    prompt_area: float = 0.01
    """Share of the image that an object covers when a tracker is first shown it."""

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds {list(self.seeds)}: give at least one, from 0 on, such as 0-7")
        if self.frames < 1:
            raise ValueError(f"frames {self.frames}: at least 1 is needed")
        if not 0 < self.fps <= 1000:
            raise ValueError(f"fps {self.fps}: give frames per second above 0, at most 1000")
        if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in self.size):
            raise ValueError(
                f"size {self.size[0]}x{self.size[1]}: width and height must be {SMALLEST_SIDE} to {LARGEST_SIDE}"
            )
        for name, known in (("difficulty", DIFFICULTIES), ("split", SPLITS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r}: choose from {', '.join(known)}")
        if not 0 <= self.prompt_area < 1:
            raise ValueError(f"prompt_area {self.prompt_area}: give a share of the image, 0 to below 1")

    def surgery(self, seed: int, backgrounds: Path | None = None) -> Surgery:
        """The surgery of one seed, over the pictures of a folder or, without one, over procedural tissue."""
        split = SPLITS[self.split]
        if backgrounds is None:
            library = TissueLibrary(procedural_share=1.0, first_plate=split.first_plate, plates=split.plates)
        else:
            library = library_of_folder(backgrounds)
        width, height = self.size
        duration = self.frames / self.fps
        return random_surgery(seed, split, library, (height, width), duration, DIFFICULTIES[self.difficulty])


def read_long_videos(path: Path) -> LongVideos:
    """The set defined by a YAML file: the fields of LongVideos, seeds as a list or as "FIRST-LAST", size as "WxH".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a field is unknown or its value does not fit.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no definition of long videos {path}")
    values = yaml.safe_load(path.read_text())
    if not isinstance(values, dict):
        raise ValueError(f"{path}: write one setting per line, such as `frames: 750`")
    known = [field.name for field in fields(LongVideos)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{path}: unknown settings {', '.join(unknown)}; known are {', '.join(known)}")
    settings: dict[str, Any] = dict(values)
    if "seeds" in settings:
        seeds = settings["seeds"]
        settings["seeds"] = tuple(seeds) if isinstance(seeds, list) else parse_seeds(str(seeds))
    if "size" in settings:
        settings["size"] = parse_size(str(settings["size"]))
    try:
        return LongVideos(**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def parse_seeds(text: str) -> tuple[int, ...]:
    """`7` or `0-7` as seeds; ValueError when it is written otherwise."""
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
        raise ValueError(f"seeds {text!r}: write SEED or FIRST-LAST, such as 0-7")
    return tuple(range(int(first), int(last or first) + 1))


def parse_size(text: str) -> tuple[int, int]:
    """`480x384` as width and height; ValueError when it is written otherwise."""
    width, _, height = text.partition("x")
    if not width.isdecimal() or not height.isdecimal():
        raise ValueError(f"size {text!r}: write WIDTHxHEIGHT in pixels, such as 480x384")
    return int(width), int(height)
