"""`sam2s data view`: labelled frames of a video with its masklets drawn in, as a contact sheet or a video."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray
from sam2s_ros.data.given_paths import check_out_folder, given_videos
from sam2s_ros.data.readers import read_rgb
from sam2s_ros.data.video_folder import VideoFolder, palette, read_index, read_video

HELP = "draw the masklets of a video into its frames: a contact sheet (PNG, JPEG) or a video (MP4)"
TILE_WIDTH = 320
COLUMNS = 4
SHEET_SUFFIXES = (".png", ".jpg", ".jpeg")
FILM_SUFFIX = ".mp4"
FOLDER = Path("view")
"""For the sheets of several videos where no other is named."""
OPACITY = 0.45


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data view`."""
    parser.add_argument("folder", type=Path, help="a video, or a folder with videos: one sheet for each")
    parser.add_argument(
        "--out",
        type=Path,
        help="a PNG, JPEG or MP4 file, or a folder for NAME.png (default: NAME.png in the folder that the command is "
        f"called in; of several videos {FOLDER}/SOURCE_SPLIT_NAME.png there)",
    )
    parser.add_argument("--frames", type=int, default=12, help="frames on a contact sheet (default: 12)")


def run(arguments: argparse.Namespace) -> int:
    """Write what was asked for and say where."""
    if arguments.frames < 1:
        raise ValueError(f"--frames {arguments.frames}: at least 1 is needed")
    root = arguments.folder.absolute()
    paths = given_videos(root)
    for path, target in zip(paths, targets_of(root, paths, arguments.out), strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        video = read_video(path)
        if target.suffix.lower() == FILM_SUFFIX:
            write_film(video, target)
        else:
            write_sheet(target, contact_sheet(video, spread(video, arguments.frames)))
        print(target)
    return 0


def targets_of(root: Path, paths: list[Path], out: Path | None) -> list[Path]:
    """The file that each of the videos at or below `root` is drawn into.

    Raises:
        NotADirectoryError: it would lie in a file.
        ValueError: no such kind of file is written, or several videos would be written to one file.
    """
    if len(paths) > 1:
        folder = out or FOLDER
        if folder.suffix and not folder.is_dir():
            raise ValueError(f"--out {folder}: there are {len(paths)} videos; name a folder for their sheets")
        targets = [folder / f"{'_'.join(path.relative_to(root).parts)}.png" for path in paths]
    elif out is None or out.is_dir() or not out.suffix:
        targets = [(out or Path()) / f"{paths[0].name}.png"]
    else:
        targets = [out]
    suffix = targets[0].suffix.lower()
    if suffix not in (*SHEET_SUFFIXES, FILM_SUFFIX):
        known = ", ".join((*SHEET_SUFFIXES, FILM_SUFFIX))
        raise ValueError(
            f"--out {out}: no {suffix} files are written; end the name with one of {known}, or name a folder"
        )
    check_out_folder(targets[0].parent, "--out")
    return targets


def write_sheet(path: Path, sheet: ByteArray) -> None:
    """Write an RGB picture; OSError where that cannot be."""
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise OSError(f"{path} could not be written: {' '.join(str(error).split())}") from None
    if not written:
        raise OSError(f"{path} could not be written; is there such a folder, and room in it?")


def drawn(video: VideoFolder, numbers: list[int]) -> Iterator[ByteArray]:
    """Frames of these numbers, uint8 RGB [H, W, 3], with masks, ids and outlines.

    Raises:
        ValueError: a frame is missing, or its label image has another size.
    """
    frames, masks = video.frames(), video.masks()
    colours = np.array(palette(), np.uint8).reshape(256, 3)
    for number in numbers:
        if number not in frames:
            raise ValueError(
                f"{video.path / 'frames'} has no image of frame {number}; `sam2s data check` says more"
            )
        picture = read_rgb(frames[number])
        ids = read_index(masks[number]) if number in masks else np.zeros(picture.shape[:2], np.uint8)
        if ids.shape != picture.shape[:2]:
            raise ValueError(
                f"{masks[number]} is of another size than {frames[number]}, {ids.shape[1]}x{ids.shape[0]} and "
                f"{picture.shape[1]}x{picture.shape[0]} pixels; mend it first (`sam2s data check` lists such images)"
            )
        tint = colours[ids & 255]
        blend = cv2.addWeighted(picture, 1 - OPACITY, tint, OPACITY, 0)
        picture = np.where((ids > 0)[..., None], blend, picture)
        for value in np.unique(ids[ids > 0]).tolist():
            mask = (ids == value).astype(np.uint8)
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, outlines, -1, colours[value % 256].tolist(), 2)
            rows, columns = np.nonzero(mask)
            _write(picture, str(value), (int(columns.mean()), int(rows.mean())), picture.shape[0] / 500)
        yield picture


def spread(video: VideoFolder, count: int) -> list[int]:
    """The numbers of at most `count` evenly spaced frames, labelled ones if there are any."""
    numbers = list(video.masks()) or list(video.frames())
    numbers = [number for number in numbers if number in video.frames()]
    if not numbers:
        raise ValueError(f"{video.path} has no frame to draw")
    return sorted({numbers[int(i)] for i in np.linspace(0, len(numbers) - 1, min(count, len(numbers)))})


def contact_sheet(video: VideoFolder, picked: list[int]) -> ByteArray:
    """Frames of these numbers, at least one, in a grid, with a line per masklet below: uint8 RGB."""
    tiles = []
    for number, picture in zip(picked, drawn(video, picked), strict=True):
        height = max(1, round(TILE_WIDTH * picture.shape[0] / picture.shape[1]))
        tile = cv2.resize(picture, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
        _write(tile, str(number), (6, 16), 0.5)
        tiles.append(tile)
    tallest = max(len(tile) for tile in tiles)
    tiles = [cv2.copyMakeBorder(t, 0, tallest - len(t), 0, 0, cv2.BORDER_CONSTANT) for t in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % min(COLUMNS, len(tiles)))
    across = min(COLUMNS, len(tiles))
    grid = np.vstack([np.hstack(tiles[i : i + across]) for i in range(0, len(tiles), across)])
    names = [f"{video.facts.dataset} {video.facts.split} {video.name}", *video.facts.names.values()]
    legend = np.zeros((18 * len(names) + 8, grid.shape[1], 3), np.uint8)
    for line, name in enumerate(names):
        _write(legend, name, (6, 18 * line + 16), 0.45)
    return np.vstack([grid, legend])


def write_film(video: VideoFolder, path: Path) -> None:
    """All frames of a video as MP4, at its frame rate if frames follow one another, at 5 per second else."""
    numbers = list(video.frames())
    dense = len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1
    width, height = video.facts.size
    if video.facts.stills or not numbers:
        raise ValueError(f"{video.path} holds stills; write a contact sheet (--out NAME.png)")
    rate = video.facts.frame_rate if dense else 5.0
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        raise OSError(f"{path} could not be opened for writing")
    try:
        for number, picture in zip(numbers, drawn(video, numbers), strict=True):
            if picture.shape[:2] != (height, width):
                raise ValueError(
                    f"{video.path}: frame {number} is {picture.shape[1]}x{picture.shape[0]} pixels, the video "
                    f"{width}x{height}; a film needs one size, write a contact sheet (--out NAME.png)"
                )
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()


def _write(picture: ByteArray, text: str, place: tuple[int, int], scale: float) -> None:
    """White text with a dark edge, in place."""
    scale = max(0.4, scale)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
