"""Writes the videos of a data set in the layout of `docs/data.md`: in parallel, resumable, nothing half-written.

A data set is a list of `VideoPlan`s, which name files and open none. Each is written by one process, frame after frame,
into a hidden folder that is moved to its place when it is complete.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from sam2s_ros.data.arrays import ByteArray
from sam2s_ros.data.conversion_record import (
    ConversionRecord,
    lost_files,
    read_record,
    record_of,
    write_record,
)
from sam2s_ros.data.labels import Region
from sam2s_ros.data.linking import Linker
from sam2s_ros.data.out_lock import PARTIAL, locked, remove_if_empty
from sam2s_ros.data.video_folder import (
    SPLIT_NAMES,
    VIDEO_FILE,
    VideoFacts,
    image_size,
    load_image,
    read_video,
    write_index,
    write_video_facts,
)
from sam2s_ros.data.video_plan import FramePlan, VideoPlan
from sam2s_ros.data.worker_pool import worker_pool

JPEG_QUALITY = 95
COPIED_SUFFIXES = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png"}
"""Images of these kinds are copied byte by byte, unless they are cropped; others become PNG."""
IN_FLIGHT = 2
"""Videos per process that are planned ahead."""
LOCK, UNFINISHED = "convert", "convert_"
"""Name of the lock of a conversion, and how the names of the folders of videos that it has not finished begin."""


@dataclass(frozen=True)
class Outcome:
    """What became of a video: how many frames it has (0: not written), what was left out, whether it was there before,
    why what was there stays, though the plan is another one, and what was lost of one that is written again."""

    name: str
    frames: int
    skipped: tuple[str, ...]
    before: bool = False
    refused: str = ""
    lost: str = ""


def convert(plans: Iterable[VideoPlan], out: Path, jobs: int, redo: bool = False) -> Iterator[Outcome]:
    """Write videos with `jobs` processes and yield what became of each, in the order in which they are finished.

    A video that is complete already is not written again. One that is there but of other files or settings is refused,
    or with `redo` written again.

    Raises:
        ValueError: another conversion writes to `out`.
        OSError: something cannot be written, or a process has died.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs}: at least 1 is needed")
    with locked(out, LOCK) as partial:
        for old in partial.glob(
            f"{UNFINISHED}*/"
        ):  # of a conversion that was killed: nobody else has the lock
            shutil.rmtree(old, ignore_errors=True)
        if jobs == 1:
            yield from (write_planned(plan, out, redo) for plan in plans)
            return
        try:
            yield from _side_by_side(plans, out, jobs, redo)
        except BrokenProcessPool:
            raise OSError(
                f"a process that wrote videos to {out} has died, perhaps for want of memory: give fewer --jobs than "
                f"{jobs} and start again; complete videos stay"
            ) from None


def _side_by_side(plans: Iterable[VideoPlan], out: Path, jobs: int, redo: bool) -> Iterator[Outcome]:
    with worker_pool(jobs) as pool:
        running: set[Future[Outcome]] = set()
        try:
            for plan in plans:
                running.add(pool.submit(write_planned, plan, out, redo))
                while len(running) >= IN_FLIGHT * jobs:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def convert_with_bar(plans: list[VideoPlan], out: Path, jobs: int, redo: bool = False) -> list[Outcome]:
    """`convert` with a bar of frames; the outcomes in the order of the names."""
    outcomes = []
    total = sum(len(plan.frames) + len(plan.left_out) for plan in plans)
    with tqdm(total=total, unit="frame", mininterval=1.0) as bar:
        for outcome in convert(plans, out, jobs, redo):
            bar.update(outcome.frames + len(outcome.skipped))
            outcomes.append(outcome)
    return sorted(outcomes, key=lambda one: one.name)


def folder_of(plan: VideoPlan, out: Path) -> Path:
    """Where a video is written to: its data set, its split, its name."""
    return out / plan.dataset / plan.split / plan.name


def write_planned(plan: VideoPlan, out: Path, redo: bool = False) -> Outcome:
    """Write one video, unless it is complete; frames with a broken file are left out and named in the outcome, as is
    what the plan leaves out. One of the same files and settings that has lost files since is written again.

    Raises:
        OSError: something cannot be written.
    """
    folder = folder_of(plan, out)
    label = folder.relative_to(out).as_posix()
    record = record_of(plan)
    if folder.exists() and not (folder / VIDEO_FILE).is_file():
        return Outcome(
            label, 0, (), refused=f"{folder} is there and is no video (no {VIDEO_FILE}): move it away"
        )
    twins, lost = _in_other_splits(plan, out, record), ""
    if not redo and (folder.exists() or twins):
        try:
            other = _refusal(folder, twins, record)
            facts = None if other else read_video(folder).facts
        except (OSError, ValueError) as error:
            other, facts = str(error), None
        if facts is None:
            advice = "give --redo to write it again, or choose another folder to write to"
            return Outcome(label, 0, (), refused=f"{other}; {advice}")
        lost = lost_files(folder, facts.frames)
        if not lost:
            return Outcome(label, facts.frames, facts.skipped, before=True)
    partial = out / PARTIAL / f"{UNFINISHED}{uuid.uuid4().hex}"
    (partial / "frames").mkdir(parents=True)
    (partial / "masks").mkdir()
    try:
        outcome = replace(_write_video(plan, label, partial), lost=lost)
        if outcome.frames:
            write_record(partial, record)
            _move_to(folder, partial, twins)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        remove_if_empty(partial.parent)
    return outcome


def _in_other_splits(plan: VideoPlan, out: Path, record: ConversionRecord) -> list[Path]:
    """Where the same video, of the same files, is in another split."""
    found = []
    for split in SPLIT_NAMES:
        folder = out / plan.dataset / split / plan.name
        if split != plan.split and folder.is_dir():
            try:
                same = read_record(folder).files == record.files
            except (OSError, ValueError):
                same = False
            found += [folder] if same else []
    return found


def _refusal(folder: Path, twins: list[Path], record: ConversionRecord) -> str:
    """Why what is there cannot be taken for what is planned; "" where it can."""
    if twins:
        return f"{twins[0]} is the same video in another split"
    try:
        differences = read_record(folder).differences(record)
    except FileNotFoundError:
        return f"{folder} does not say what it was converted from"
    return f"{folder} is of an earlier conversion: {'; '.join(differences)}" if differences else ""


def _move_to(folder: Path, partial: Path, twins: list[Path]) -> None:
    """Put a complete video in its place, and remove those that it replaces."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number, old in enumerate([*twins, *([folder] if folder.exists() else [])]):
        aside = partial.with_name(f"{partial.name}_{number}")
        os.replace(old, aside)
        shutil.rmtree(aside)
    os.replace(partial, folder)


def _write_video(plan: VideoPlan, label: str, partial: Path) -> Outcome:
    """Write frames, label images and facts of a video into `partial`; nothing but frames if there are none."""
    linker = Linker(plan.stills)
    skipped = list(plan.left_out)
    sizes: list[tuple[int, int]] = []
    common = None if plan.stills else _commonest_size(plan)
    for frame in plan.frames:
        try:
            read = _read_frame(frame, plan, common)
        except (OSError, ValueError) as error:
            skipped.append(str(error))
            continue
        _write_frame(frame, read, linker, partial)
        sizes.append(read.size)
    if sizes:
        facts = VideoFacts(
            plan.dataset, plan.split, plan.procedure, plan.frame_rate,
            (0, 0) if common is None else common, len(sizes), plan.licence, plan.identities, linker.masklets,
            plan.stills, plan.prompt_area, tuple(skipped),
        )  # fmt: skip
        write_video_facts(partial, facts)
    return Outcome(label, len(sizes), tuple(skipped))


@dataclass(frozen=True)
class _Frame:
    """A frame that was read without trouble."""

    size: tuple[int, int]
    """(width, height)."""
    suffix: str
    """Of the image that is written."""
    pixels: ByteArray | None
    """uint8 RGB [H, W, 3]; None: the file is copied."""
    regions: list[Region] | None


def _commonest_size(plan: VideoPlan) -> tuple[int, int] | None:
    """The size (width, height) that most frames of a video have when they are cropped, of two the first one's.

    Files that cannot be opened do not count; None where none can.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    for frame in plan.frames:
        try:
            size = image_size(frame.image)
        except OSError:
            continue  # it is reported when it is read
        sizes[plan.crop.cropped if plan.crop is not None and plan.crop.size == size else size] += 1
    return sizes.most_common(1)[0][0] if sizes else None


def _read_frame(frame: FramePlan, plan: VideoPlan, common: tuple[int, int] | None) -> _Frame:
    """Image and labels of a frame; `common` is the size that it must have, None: any.

    Raises:
        OSError, ValueError: a file of the frame is missing, broken, or does not fit.
    """
    image = load_image(frame.image)
    size = image.size
    crop = plan.crop if plan.crop is not None and plan.crop.size == size else None
    suffix = COPIED_SUFFIXES.get(frame.image.suffix.lower(), "")
    pixels = None if suffix and crop is None else np.asarray(image.convert("RGB"))
    regions = None
    if frame.labels is not None:
        regions = [region for one in frame.labels for region in one.regions((size[1], size[0]))]
    if crop is not None and pixels is not None:
        left, top, right, bottom = crop.box
        window = (slice(top, bottom), slice(left, right))
        pixels, size = pixels[window], crop.cropped
        if regions is not None:
            cut = [type(one)(one.mask[window], one.label, one.track, one.whole) for one in regions]
            regions = [one for one in cut if one.mask.any()]
        suffix = ".jpg"
    if common not in (None, size):
        raise ValueError(
            f"{frame.image} is {size[0]}x{size[1]} pixels, most frames of its video {common[0]}x{common[1]}; get it "
            "again in that size"
        )
    return _Frame(size, suffix or ".png", pixels, regions)


def _write_frame(frame: FramePlan, read: _Frame, linker: Linker, partial: Path) -> None:
    """Write the image and, of a labelled frame, the label image."""
    target = partial / "frames" / f"{frame.number:06d}{read.suffix}"
    if read.pixels is None:
        shutil.copyfile(frame.image, target)
    else:
        pixels = cv2.cvtColor(read.pixels, cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(target), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(errno.ENOSPC, f"{target} could not be written; is the disk full?")
    if read.regions is not None:
        ids = linker.ids(read.regions, (read.size[1], read.size[0]))
        write_index(partial / "masks" / f"{frame.number:06d}.png", ids)
