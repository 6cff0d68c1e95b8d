"""Writes the videos of a data set in the layout of `docs/data.md`: in parallel, resumable, nothing half-written.

A data set is a list of `VideoPlan`s, which name files and open none. Each is written by one process, frame after frame,
into a hidden folder that is moved to its place when it is complete.
"""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from sam2s_ros.data.labels import LabelFile
from sam2s_ros.data.linking import Linker
from sam2s_ros.data.video_folder import (
    VIDEO_FILE,
    VideoFacts,
    load_image,
    read_video,
    write_index,
    write_video_facts,
)

JPEG_QUALITY = 95
COPIED_SUFFIXES = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png"}
"""Images of these kinds are copied byte by byte, unless they are cropped; others become PNG."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""They end a conversion; any other trouble with a file is that file's."""
IN_FLIGHT = 2
"""Videos per process that are planned ahead."""


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


@dataclass(frozen=True)
class VideoPlan:
    """A video to be written; `name` is that of its folder. An empty `split`: the source does not say."""

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
    without_image: tuple[Path, ...] = ()
    """Files with labels of images that the source does not have."""

    def __post_init__(self) -> None:
        for before, after in itertools.pairwise(self.frames):
            if after.number <= before.number:
                raise ValueError(
                    f"{self.name}: {before.image} is frame {before.number} and {after.image}, after it, {after.number}"
                )


@dataclass(frozen=True)
class Outcome:
    """What became of a video: how many frames it has (0: not written), what was left out, and whether it was there
    before."""

    name: str
    frames: int
    skipped: tuple[str, ...]
    before: bool = False


def convert(plans: Iterable[VideoPlan], out: Path, jobs: int) -> Iterator[Outcome]:
    """Write videos with `jobs` processes and yield what became of each, in the order in which they are finished.

    A video that is complete already is not written again. Raises ValueError where its folder holds another video.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: at least 1 is needed")
    if jobs == 1:
        yield from (write_planned(plan, out) for plan in plans)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        running: set[Future[Outcome]] = set()
        for plan in plans:
            running.add(pool.submit(write_planned, plan, out))
            while len(running) >= IN_FLIGHT * jobs:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in done)


def convert_with_bar(plans: list[VideoPlan], out: Path, jobs: int) -> list[Outcome]:
    """`convert` with a bar of frames; the outcomes in the order of the names."""
    outcomes = []
    total = sum(len(plan.frames) + len(plan.without_image) for plan in plans)
    with tqdm(total=total, unit="frame", mininterval=1.0) as bar:
        for outcome in convert(plans, out, jobs):
            bar.update(outcome.frames + len(outcome.skipped))
            outcomes.append(outcome)
    return sorted(outcomes, key=lambda one: one.name)


def folder_of(plan: VideoPlan, out: Path) -> Path:
    """Where a video is written to: its data set, its split, its name."""
    return out / plan.dataset / plan.split / plan.name


def write_planned(plan: VideoPlan, out: Path) -> Outcome:
    """Write one video, unless it is complete; frames with a broken file are left out and named in the outcome, as are
    labels without an image.

    Raises:
        ValueError: the folder holds a video of another number of frames.
        OSError: the disk is full.
    """
    folder = folder_of(plan, out)
    label = folder.relative_to(out).as_posix()
    if (folder / VIDEO_FILE).is_file():
        facts = read_video(folder).facts
        if facts.frames + len(facts.skipped) != len(plan.frames) + len(plan.without_image):
            raise ValueError(
                f"{folder} has {facts.frames} frames and {len(facts.skipped)} files left out, and the source has "
                f"{len(plan.frames)} and {len(plan.without_image)}: delete it, or choose another folder to write to"
            )
        return Outcome(label, facts.frames, facts.skipped, before=True)
    partial = out / ".partial" / f"{plan.dataset}_{plan.split}_{plan.name}"
    for old in (partial, folder):
        if old.exists():
            shutil.rmtree(old)
    (partial / "frames").mkdir(parents=True)
    (partial / "masks").mkdir()
    linker = Linker(plan.stills)
    skipped = [f"{path} labels an image that is not there" for path in plan.without_image]
    sizes: list[tuple[int, int]] = []
    for frame in plan.frames:
        try:
            sizes.append(_write_frame(frame, plan, linker, partial, sizes[:1]))
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            skipped.append(str(error))
    if not sizes:
        shutil.rmtree(partial)
        _remove_if_empty(partial.parent)
        return Outcome(label, 0, tuple(skipped))
    facts = VideoFacts(
        plan.dataset, plan.split, plan.procedure, plan.frame_rate,
        (0, 0) if plan.stills else sizes[0], len(sizes), plan.licence, plan.identities, linker.masklets,
        plan.stills, plan.prompt_area, tuple(skipped),
    )  # fmt: skip
    write_video_facts(partial, facts)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(partial, folder)
    _remove_if_empty(partial.parent)
    return Outcome(label, len(sizes), tuple(skipped))


def _write_frame(
    frame: FramePlan, plan: VideoPlan, linker: Linker, partial: Path, first: list[tuple[int, int]]
) -> tuple[int, int]:
    """Write image and label image; (width, height). Nothing is written or linked where a file is broken."""
    image = load_image(frame.image)
    size = image.size
    crop = plan.crop if plan.crop is not None and plan.crop.size == size else None
    suffix = COPIED_SUFFIXES.get(frame.image.suffix.lower())
    pixels = None if suffix and crop is None else np.asarray(image.convert("RGB"))
    regions = None
    if frame.labels is not None:
        regions = [region for one in frame.labels for region in one.regions((size[1], size[0]))]
    if crop is not None and pixels is not None:
        left, top, right, bottom = crop.box
        window = (slice(top, bottom), slice(left, right))
        pixels, size = pixels[window], (right - left, bottom - top)
        if regions is not None:
            cut = [type(one)(one.mask[window], one.label, one.track, one.whole) for one in regions]
            regions = [one for one in cut if one.mask.any()]
        suffix = ".jpg"
    if first and not plan.stills and first[0] != size:
        raise ValueError(f"{frame.image} is {size[0]}x{size[1]} pixels, the frames before {first[0]}")
    target = partial / "frames" / f"{frame.number:06d}{suffix or '.png'}"
    if pixels is None:
        shutil.copyfile(frame.image, target)
    elif not cv2.imwrite(
        str(target), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    ):
        raise OSError(errno.ENOSPC, f"{target} could not be written; is the disk full?")
    if regions is not None:
        write_index(partial / "masks" / f"{frame.number:06d}.png", linker.ids(regions, (size[1], size[0])))
    return size


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # another process is still writing there
