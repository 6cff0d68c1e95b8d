"""`sam2s data check`: everything that is wrong with videos of the layout of `docs/data.md`, each by name."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL.Image import Image
from tqdm import tqdm

from sam2s_ros.data.arrays import FloatArray
from sam2s_ros.data.conversion_record import RECORD_FILE, written_masks
from sam2s_ros.data.given_paths import given_videos, printable
from sam2s_ros.data.instrument_bank import bank_kinds
from sam2s_ros.data.provenance import PROVENANCE_FILE, read_provenance
from sam2s_ros.data.video_folder import (
    SPLIT_NAMES,
    VIDEO_FILE,
    VideoFolder,
    index_values,
    load_image,
    palette,
    read_video,
)
from sam2s_ros.data.worker_pool import worker_pool

HELP = (
    "report what is wrong with a data set in the project's layout; the exit status says whether anything is"
)
JUMP_SPEED = 1.0
"""Image diagonals per second."""
SWAP_OVERLAP = 0.5
FRAME_RATES = (0.01, 1000.0)
"""Numbers of frames per second that a camera may have."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file of a video."""

    kind: str
    """Its name, one of those in `docs/data.md`."""
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}: {self.text}"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data check`."""
    parser.add_argument("folder", type=Path, help="a video, or a folder with videos at any depth")
    parser.add_argument("--classes", type=Path, help="instrument bank (default: config/instruments.yaml)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument(
        "--jump-speed",
        type=float,
        default=JUMP_SPEED,
        help=f"image diagonals per second above which a masklet jumps (default: {JUMP_SPEED})",
    )
    parser.add_argument("--out", type=Path, help="JSON file for the problems")


def run(arguments: argparse.Namespace) -> int:
    """Check, print each problem; 1 if there are any."""
    paths = given_videos(arguments.folder)
    kinds = bank_kinds(arguments.classes)
    problems = [
        problem
        for found in check_all(paths, kinds, arguments.jump_speed, arguments.jobs)
        for problem in found
    ]
    for problem in problems:
        print(printable(str(problem)))
    if arguments.out:
        arguments.out.write_text(json.dumps([asdict(one) for one in problems], indent=1) + "\n")
    print(f"{len(paths)} videos, {len(problems)} problems")
    return 1 if problems else 0


def check_all(
    paths: Sequence[Path], kinds: Mapping[str, str], jump_speed: float = JUMP_SPEED, jobs: int = 1
) -> Iterator[list[Problem]]:
    """The problems of each video, in the order of the paths."""
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: at least 1 is needed")
    check = partial(check_video, kinds=dict(kinds), jump_speed=jump_speed)
    bar = partial(tqdm, total=len(paths), unit="video", mininterval=1.0, disable=None)
    if jobs == 1 or len(paths) == 1:
        yield from bar(map(check, paths))
        return
    try:
        with worker_pool(jobs) as pool:
            yield from bar(pool.map(check, paths))
    except BrokenProcessPool:
        raise OSError(
            f"a process that checked videos has died, perhaps for want of memory: give fewer --jobs than {jobs} and "
            "start again"
        ) from None


def check_video(path: Path, kinds: Mapping[str, str], jump_speed: float = JUMP_SPEED) -> list[Problem]:
    """What is wrong with one video. `kinds`: class name -> kind of the instrument bank."""
    try:
        video = read_video(path)
    except (OSError, ValueError) as error:
        return [Problem("video-json", str(path / VIDEO_FILE), str(error))]
    problems = list(_facts_problems(video, kinds))
    try:
        frames, masks = video.frames(), video.masks()
    except (OSError, ValueError) as error:
        return [*problems, Problem("frame-number", str(path), str(error))]
    if len(frames) != video.facts.frames:
        problems.append(
            Problem(
                "missing-frames",
                str(path / "frames"),
                f"{len(frames)} frames are there, {VIDEO_FILE} says {video.facts.frames}",
            )
        )
    sizes = {}
    for number, image in frames.items():
        size = _image_size(image, problems)
        if size is None:
            continue
        sizes[number] = size
        if not video.facts.stills and size != video.facts.size:
            problems.append(
                Problem(
                    "frame-size",
                    str(image),
                    f"{_pixels(size)}, {VIDEO_FILE} says {_pixels(video.facts.size)}",
                )
            )
    problems += _lost_masks(video, frames, masks)
    problems += _provenance_problems(video, masks)
    return [*problems, *_mask_problems(video, frames, masks, sizes, jump_speed)]


def _facts_problems(video: VideoFolder, kinds: Mapping[str, str]) -> Iterator[Problem]:
    """What is wrong in video.json."""
    where = str(video.path / VIDEO_FILE)
    seen: set[int] = set()
    for masklet in video.facts.masklets:
        if masklet.id in seen:
            yield Problem("duplicate-id", where, f"two masklets have the id {masklet.id}")
        seen.add(masklet.id)
        if not masklet.class_name:
            continue
        if masklet.class_name not in kinds:
            yield Problem(
                "unknown-class", where, f"masklet {masklet.id}: the bank has no class {masklet.class_name!r}"
            )
        elif kinds[masklet.class_name] != masklet.kind:
            yield Problem(
                "wrong-kind",
                where,
                f"masklet {masklet.id}: {masklet.class_name} is {kinds[masklet.class_name]}, not {masklet.kind}",
            )
    low, high = FRAME_RATES
    if not low <= video.facts.frame_rate <= high:
        yield Problem("frame-rate", where, f"{video.facts.frame_rate:g} per second, not {low:g} to {high:g}")
    if not 0 <= video.facts.prompt_area <= 1:
        yield Problem(
            "prompt-area", where, f"{video.facts.prompt_area:g}; it is a share of the image, 0 to 1"
        )
    for name in ("dataset", "licence"):
        if not getattr(video.facts, name).strip():
            yield Problem(
                "empty-entry", where, f"{name} is empty: say where the video is from and who may use it"
            )
    if video.path.parent.name in SPLIT_NAMES and video.path.parent.name != video.facts.split:
        yield Problem("wrong-split", where, f"{video.facts.split} in a folder named {video.path.parent.name}")
    for text in video.facts.skipped:
        yield Problem("skipped-source", where, f"left out when it was converted: {text}")


def _lost_masks(
    video: VideoFolder, frames: Mapping[int, Path], masks: Mapping[int, Path]
) -> Iterator[Problem]:
    """Label images that the conversion wrote and that are gone: which, where every frame had one."""
    written = written_masks(video.path)
    if written is None or written <= len(masks):
        return
    text = f"{len(masks)} label images are there, {RECORD_FILE} says {written}"
    if written == video.facts.frames:
        text += f", one for each frame; without one: {[one for one in frames if one not in masks][:5]}"
    yield Problem("missing-masks", str(video.path / "masks"), text)


def _provenance_problems(video: VideoFolder, masks: Mapping[int, Path]) -> Iterator[Problem]:
    """Whether each mask is said to be by a hand or by a model, where any is."""
    where = str(video.path / PROVENANCE_FILE)
    try:
        origins = read_provenance(video).origins
    except ValueError as error:
        yield Problem("provenance", where, str(error))
        return
    if video.facts.masklets and set(origins) != set(masks):
        frame = min(set(origins) ^ set(masks))
        yield Problem(
            "provenance", where, f"frame {frame} is in only one of the file and the folder of masks"
        )


def _image_size(path: Path, problems: list[Problem]) -> tuple[int, int] | None:
    try:
        return load_image(path).size
    except OSError as error:
        problems.append(Problem("unreadable-frame", str(path), str(error)))
        return None


def _mask_problems(
    video: VideoFolder,
    frames: Mapping[int, Path],
    masks: Mapping[int, Path],
    sizes: Mapping[int, tuple[int, int]],
    jump_speed: float,
) -> Iterator[Problem]:
    known = {masklet.id for masklet in video.facts.masklets}
    seen: set[int] = set()
    watch = _IdentityWatch(video, jump_speed)
    for number, path in masks.items():
        if number not in frames:
            yield Problem("mask-without-frame", str(path), f"there is no frame {number}")
        try:
            image = load_image(path)
            ids = index_values(image, path)
        except ValueError as error:
            yield Problem("wrong-palette", str(path), str(error))
            continue
        except OSError as error:
            yield Problem("unreadable-mask", str(path), str(error))
            continue
        yield from _encoding_problems(path, image)
        size = (ids.shape[1], ids.shape[0])
        if number in sizes and size != sizes[number]:
            yield Problem("mask-size", str(path), f"{_pixels(size)}, its frame {_pixels(sizes[number])}")
        areas = np.bincount(ids.ravel())
        present = [value for value in np.flatnonzero(areas).tolist() if value]
        unknown = [value for value in present if value not in known]
        if unknown:
            yield Problem("unknown-id", str(path), f"{VIDEO_FILE} has no masklet {unknown}")
        seen.update(present)
        if not video.facts.stills:
            yield from watch.next(number, path, ids, present)
    for value in sorted(known - seen):
        yield Problem("empty-masklet", str(video.path / VIDEO_FILE), f"masklet {value} is in no label image")


def _encoding_problems(path: Path, image: Image) -> Iterator[Problem]:
    """A label image is a PNG with DAVIS's palette or, for ids above 255, 16-bit grey."""
    colours = image.getpalette() if image.mode == "P" else None
    if image.mode.startswith("I"):
        return
    if colours is None:
        yield Problem("wrong-palette", str(path), f"a palette is needed, the image is {image.mode}")
    elif colours != palette()[: len(colours)]:
        yield Problem("wrong-palette", str(path), "its palette is not that of DAVIS")


class _IdentityWatch:
    """Sees masklets jump or change places from one label image to the next."""

    def __init__(self, video: VideoFolder, jump_speed: float) -> None:
        self._classes = {one.id: (one.class_name, one.source_class) for one in video.facts.masklets}
        self._rate, self._jump_speed = video.facts.frame_rate, jump_speed
        self._number = 0
        self._ids: np.ndarray | None = None
        self._present: list[int] = []

    def next(self, number: int, path: Path, ids: np.ndarray, present: list[int]) -> Iterator[Problem]:
        """The problems between the label image before and this one."""
        before = self._ids
        if before is not None and before.shape == ids.shape:
            seconds = (number - self._number) / self._rate
            diagonal = float(np.hypot(*ids.shape))
            swapped: set[int] = set()
            both = [value for value in present if value in self._present]
            for value in both:
                for other in both:
                    if value < other and self._swapped(before, ids, value, other):
                        swapped |= {value, other}
                        yield Problem(
                            "swapped-ids", str(path), f"masklets {value} and {other} have changed places"
                        )
            for value in both:
                old, new = before == value, ids == value
                speed = float(np.linalg.norm(_centre(new) - _centre(old))) / diagonal / seconds
                if value not in swapped and speed > self._jump_speed and not (old & new).any():
                    yield Problem(
                        "jump", str(path), f"masklet {value} moves {speed:.1f} image diagonals per second"
                    )
        self._number, self._ids, self._present = number, ids, present

    def _swapped(self, before: np.ndarray, now: np.ndarray, one: int, other: int) -> bool:
        if self._classes.get(one) != self._classes.get(other):
            return False
        crosswise = min(_overlap(before == one, now == other), _overlap(before == other, now == one))
        return crosswise > SWAP_OVERLAP


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _centre(mask: np.ndarray) -> FloatArray:
    return np.array([axis.mean() for axis in np.nonzero(mask)])


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
