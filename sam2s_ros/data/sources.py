"""What the converters of data sets share: how a data set is described, and how its files are found and numbered."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sam2s_ros.data.labels import LabelFile
from sam2s_ros.data.video_plan import Crop, FramePlan, Unplanned, VideoPlan

Item = TypeVar("Item")
Planned = VideoPlan | Unplanned

OWN_TERMS = "the data set's own terms"
IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
STILLS_PER_FOLDER = 250
MANY_IMAGES = 50
"""A folder with as many has no folders below that matter."""


@dataclass(frozen=True)
class DataSet:
    """A data set, and the function that plans its videos from the folder it was unpacked to."""

    name: str
    title: str
    layout: str
    """What the folder given must hold, in a line."""
    plan: Callable[[Path, DataSet], Iterator[Planned]]
    procedure: str = ""
    licence: str = OWN_TERMS
    frame_rate: float = 1.0
    rows: tuple[tuple[str, str], ...] = ()
    """(split, row of Table 1 of the SAM2S paper)."""

    def video(
        self,
        name: str,
        split: str,
        frames: Iterable[FramePlan],
        *,
        identities: str = "linked",
        stills: bool = False,
        crop: Crop | None = None,
        frame_rate: float | None = None,
        label_files: Iterable[Path] = (),
        left_out: Iterable[str] = (),
    ) -> VideoPlan:
        """A video of this data set.

        `name` becomes a folder's name: what may not be in one is replaced by _. Frames are put in the order of their
        numbers; of two with one number the second is left out. `label_files`: all that the source has for this video;
        those that no frame refers to are reported, since their image is missing. `left_out` is reported too.
        """
        said = list(left_out)
        by_number: dict[int, FramePlan] = {}
        for frame in sorted(frames, key=lambda one: one.number):
            first = by_number.setdefault(frame.number, frame)
            if first is not frame:
                said.append(
                    f"{frame.image} is frame {frame.number}, as {first.image} is: remove or rename one"
                )
        kept = tuple(by_number.values())
        unused = _unused(label_files, (frame.labels for frame in kept))
        said += [f"{path} labels an image that is not there, or that another file labels" for path in unused]
        return VideoPlan(
            name=re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.") or "video",
            dataset=self.name,
            split=split,
            procedure=self.procedure,
            licence=self.licence,
            frame_rate=self.frame_rate if frame_rate is None else frame_rate,
            frames=kept,
            identities=identities,
            stills=stills,
            crop=crop,
            left_out=tuple(said),
        )

    def stills(
        self,
        split: str,
        images: Sequence[tuple[Path, tuple[LabelFile, ...]]],
        label_files: Iterable[Path] = (),
        left_out: Iterable[str] = (),
    ) -> Iterator[VideoPlan]:
        """Folders of stills, `STILLS_PER_FOLDER` images each; `label_files` and `left_out` as for `video`."""
        unused, said = _unused(label_files, (labels for _, labels in images)), list(left_out)
        for start in range(0, max(1, len(images)) if unused or said else len(images), STILLS_PER_FOLDER):
            part = images[start : start + STILLS_PER_FOLDER]
            frames = [FramePlan(number, image, labels) for number, (image, labels) in enumerate(part)]
            name = f"stills_{start // STILLS_PER_FOLDER:03d}"
            yield self.video(name, split, frames, stills=True, label_files=unused, left_out=said)
            unused, said = (), []


def _unused(label_files: Iterable[Path], used: Iterable[tuple[LabelFile, ...] | None]) -> tuple[Path, ...]:
    """The label files that no frame refers to, in natural order."""
    named = {label.path for labels in used for label in labels or ()}
    return tuple(sorted(set(label_files) - named, key=natural))


def each(items: Iterable[Item], plan: Callable[[Item], Iterable[Planned]]) -> Iterator[Planned]:
    """What `plan` makes of each item; where a file of one is missing or wrong, that is said, and the next follows."""
    for item in items:
        try:
            yield from plan(item)
        except (OSError, ValueError) as error:
            yield Unplanned(str(error))


def with_numbers(
    paths: Iterable[Path], left_out: list[str], number: Callable[[Path], int] | None = None
) -> list[tuple[int, Path]]:
    """(number, path) in the order of the numbers (default: `last_number`); a path without one, and the second of two
    with the same, go to `left_out`."""
    found: dict[int, Path] = {}
    for path in paths:
        try:
            key = (number or last_number)(path)
        except ValueError as error:
            left_out.append(str(error))
            continue
        other = found.setdefault(key, path)
        if other is not path:
            left_out.append(f"{path} has the number {key}, as {other} has: remove or rename one")
    return sorted(found.items())


def files(folder: Path, suffixes: tuple[str, ...] = IMAGES) -> list[Path]:
    """Files of a folder with these suffixes, in the natural order of their names (2 before 10).

    Raises:
        FileNotFoundError: it is not a folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; unpack the data set as it comes")
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in suffixes), key=natural)


def folders_beside(
    root: Path, pattern: str, labels: str, images_of: Callable[[Path], Path], layout: str
) -> tuple[list[Path], list[Unplanned]]:
    """`folders` with images, and what to say of those with labels (whose path ends in `labels`) that have none.

    `images_of`: the folder with the images of a folder of labels. FileNotFoundError: there is neither.
    """
    lost = []
    for path in (
        sorted((path for path in _walk(root) if path.match(labels)), key=natural) if root.is_dir() else ()
    ):
        if not (images := images_of(path)).is_dir() and any(one.is_file() for one in path.iterdir()):
            lost.append(
                Unplanned(f"{path} labels images that are not there: unpack them to {images}, or remove it")
            )
    try:
        return folders(root, pattern, layout), lost
    except FileNotFoundError:
        if not lost:
            raise
        return [], lost


def folders(root: Path, pattern: str, layout: str) -> list[Path]:
    """Folders below `root` whose path ends in `pattern` (as `Path.match` has it), in natural order.

    Folders full of images are not searched, nor hidden ones.

    Raises:
        FileNotFoundError: there is none, and what was expected.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; give the one that the data set was unpacked to")
    found = sorted((path for path in _walk(root) if path.match(pattern)), key=natural)
    if not found:
        raise FileNotFoundError(f"nothing to convert under {root}: expected {layout}")
    return found


def _walk(root: Path) -> Iterator[Path]:
    below, images = [], 0
    with os.scandir(root) as entries:
        for entry in entries:
            images += entry.name.lower().endswith(IMAGES)
            if not entry.name.startswith(".") and entry.is_dir():
                below.append(Path(entry.path))
    for path in below:
        yield path
        if images < MANY_IMAGES:
            yield from _walk(path)


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which numbers in a path count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.as_posix())]


def last_number(path: Path) -> int:
    """The last number in a file's name. ValueError: there is none."""
    numbers = re.findall(r"\d+", path.stem)
    if not numbers:
        raise ValueError(f"{path} has no number in its name")
    return int(numbers[-1])


def runs(numbers: Sequence[int], step: int) -> Iterator[list[int]]:
    """Increasing numbers, cut where the next is more than `step` further on."""
    run: list[int] = []
    for number in numbers:
        if run and number - run[-1] > step:
            yield run
            run = []
        run.append(number)
    if run:
        yield run
