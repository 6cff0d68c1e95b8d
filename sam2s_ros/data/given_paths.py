"""Paths as a person gives them to a command: what is wrong with one is said with the argument that it was given as."""

from __future__ import annotations

from pathlib import Path

from sam2s_ros.data.video_folder import VIDEO_FILE, VideoFolder, find_videos, read_video


def given_video(path: Path, argument: str) -> VideoFolder:
    """The video in a folder.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such folder, or it holds no `video.json`.
        ValueError: its `video.json` is not what the layout has.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{argument} {path} is not there; name the folder of a video, with its {VIDEO_FILE}"
        )
    if not path.is_dir():
        raise NotADirectoryError(
            f"{argument} {path} is a file; name the folder of a video, with its {VIDEO_FILE}"
        )
    if not (path / VIDEO_FILE).is_file():
        raise FileNotFoundError(f"{argument} {path} has no {VIDEO_FILE}; name the folder of one video")
    return read_video(path)


def given_videos(folder: Path) -> list[Path]:
    """The folders of all videos in a folder.

    Raises:
        FileNotFoundError: it is none, or holds no video.
    """
    paths = list(find_videos(folder))
    if not paths:
        raise FileNotFoundError(
            f"no video under {folder}: no folder there has a {VIDEO_FILE}; `sam2s data convert DATASET` makes such "
            "folders of a data set, and `sam2s data convert synth` of what `sam2s data synth` has written"
        )
    return paths


def printable(text: str) -> str:
    """The text with what a terminal cannot show, such as bytes of a file's name that are no UTF-8, as \\udcff."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_out_folder(path: Path, argument: str) -> None:
    """NotADirectoryError where a folder to write to is a file, or would lie in one."""
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"{argument} {path}: {existing} is a file; name a folder to write to")
