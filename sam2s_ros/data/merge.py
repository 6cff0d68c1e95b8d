"""`sam2s data merge`: label images corrected by hand, put over those of a propagated video."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from sam2s_ros.data.given_paths import check_out_folder, given_video
from sam2s_ros.data.provenance import (
    CORRECTED,
    Origin,
    Provenance,
    new_version,
    place_of,
    read_provenance,
    write_provenance,
)
from sam2s_ros.data.review import LIST_FILE, read_list
from sam2s_ros.data.video_folder import (
    VIDEO_FILE,
    Masklet,
    VideoFolder,
    numbered,
    read_index,
    read_video,
    write_index,
    write_video_facts,
)

HELP = "put corrected label images over those of a propagated video, and note which masks are by hand"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data merge`."""
    parser.add_argument("video", type=Path, help="the propagated video; it is not changed")
    parser.add_argument(
        "corrections",
        type=Path,
        help=f"folder of label images named by frame (000225.png) with the video's ids, or a video with {VIDEO_FILE} "
        "and masks/",
    )
    parser.add_argument("out", type=Path, help="folder for OUT/<source>/<split>/<video>")
    parser.add_argument(
        "--frames",
        type=Path,
        metavar=LIST_FILE,
        help="take only the frames of this list of `sam2s data review`",
    )
    parser.add_argument(
        "--ids", help="correct these masklets only, comma-separated (default: the whole image)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Merge and say what has changed."""
    video = given_video(arguments.video, "VIDEO")
    check_out_folder(arguments.out, "OUT")
    corrections = find_corrections(arguments.corrections)
    if arguments.frames is not None:
        wanted = read_list(arguments.frames, video)
        missing = [number for number in wanted if number not in corrections]
        if missing or not wanted:
            what = f"no label image of frame {missing[0]}" if missing else f"nothing for {place_of(video)}"
            where = arguments.corrections if missing else arguments.frames
            raise ValueError(f"{where} has {what}, and --frames asks for it")
        corrections = {number: corrections[number] for number in wanted}
    ids = None if arguments.ids is None else _parse_ids(arguments.ids)
    added = new_masklets(video, arguments.corrections)
    changed = merge(video, corrections, arguments.out, added, ids, arguments.corrections.name)
    merged = read_video(arguments.out / place_of(video))
    counts = read_provenance(merged).counts
    print(
        f"{merged.path}: {len(corrections)} frames corrected, {changed} of their pixels changed; "
        f"masks: {', '.join(f'{count} {name}' for name, count in counts.items())}"
    )
    return 0


def find_corrections(folder: Path) -> dict[int, Path]:
    """Frame number -> corrected label image.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none, or no such folder.
    """
    if not folder.is_dir():
        wrong, kind = (
            ("is a file", NotADirectoryError) if folder.exists() else ("is not there", FileNotFoundError)
        )
        raise kind(f"CORRECTIONS {folder} {wrong}; name a folder of label images, or a video")
    masks = folder / "masks" if (folder / VIDEO_FILE).is_file() else folder
    found = numbered(masks, (".png",))
    if not found:
        raise FileNotFoundError(f"{masks} holds no label image; name them by frame, such as 000225.png")
    return found


def new_masklets(video: VideoFolder, corrections: Path) -> tuple[Masklet, ...]:
    """Masklets that only the corrections' `video.json` has.

    Raises:
        ValueError: one of theirs has the id of another class.
    """
    if not (corrections / VIDEO_FILE).is_file():
        return ()
    known = {masklet.id: masklet for masklet in video.facts.masklets}
    added = []
    for masklet in read_video(corrections).facts.masklets:
        own = known.get(masklet.id)
        if own is None:
            added.append(masklet)
        elif (own.class_name, own.source_class) != (masklet.class_name, masklet.source_class):
            raise ValueError(
                f"{corrections}: masklet {masklet.id} is {masklet.name}, in {video.path} it is {own.name}; "
                "ids stay those of the video"
            )
    return tuple(added)


def merge(
    video: VideoFolder,
    corrections: dict[int, Path],
    out: Path,
    added: tuple[Masklet, ...] = (),
    ids: Collection[int] | None = None,
    source: str = "",
) -> int:
    """Write the video with its corrections to its place below `out`; how many pixels are others than before.

    A correction takes the place of a frame's label image, or of the masklets `ids` in it. All masks that it says
    something about, absences included, are then by hand. Ids are those of the video, and those `added`.

    Raises:
        ValueError: a correction has no frame, another size or an id that is not known; or the video is there already.
        OSError: a correction is no image.
    """
    masks, frames = video.masks(), video.frames()
    masklets = video.facts.masklets + added
    known = {masklet.id for masklet in masklets}
    unknown = sorted(set(ids or ()) - known)
    if unknown:
        raise ValueError(f"--ids {unknown[0]}: {video.path} has the masklets {sorted(known)}")
    said = known if ids is None else set(ids)
    origins = {number: dict(row) for number, row in read_provenance(video).origins.items()}
    width, height = video.facts.size
    changed = 0
    with new_version(video, out) as partial:
        for number, path in masks.items():
            if number not in corrections:
                shutil.copyfile(path, partial / "masks" / f"{number:06d}.png")
        for number, path in corrections.items():
            if number not in frames:
                raise ValueError(f"{path}: {video.path} has no frame {number}")
            new = read_index(path)
            if new.shape != (height, width):
                raise ValueError(
                    f"{path} is {new.shape[1]}x{new.shape[0]} pixels, the video {width}x{height}"
                )
            foreign = sorted(set(np.unique(new).tolist()) - {0} - known)
            if foreign:
                raise ValueError(
                    f"{path} has the id {foreign[0]}; {video.path} has the masklets {sorted(known)}"
                )
            old = read_index(masks[number]) if number in masks else np.zeros_like(new)
            if old.shape != new.shape:
                raise ValueError(
                    f"{masks[number]} is {old.shape[1]}x{old.shape[0]} pixels, the video {width}x{height}; "
                    "mend it first (`sam2s data check` lists such images)"
                )
            kept = np.where(np.isin(old, sorted(said)), 0, old)
            merged = np.where(np.isin(new, sorted(said)), new, kept)
            changed += int((merged != old).sum())
            write_index(partial / "masks" / f"{number:06d}.png", merged)
            row = origins.setdefault(number, {})
            row.update({one: Origin(CORRECTED, source=source) for one in said})
        write_video_facts(partial, replace(video.facts, masklets=masklets))
        write_provenance(partial, Provenance(origins))
    return changed


def _parse_ids(text: str) -> set[int]:
    try:
        return {int(part) for part in text.split(",")}
    except ValueError:
        raise ValueError(f"--ids {text}: give masklet ids such as 1,4") from None
