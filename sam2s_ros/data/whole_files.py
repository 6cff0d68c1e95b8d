"""Whether all that training will read of converted videos is there as a whole, found faster than by decoding it."""

from __future__ import annotations

import os
from pathlib import Path

from sam2s_ros.data.png_file import SIGNATURE, require_whole
from sam2s_ros.data.video_folder import find_videos, load_image, read_video

PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


def check_files(root: Path, split: str = "train") -> int:
    """Look at the labelled frames of the videos of one split at or below a folder; gives how many there are.

    Of a label image every byte is read, as its pixels are the truth, and of a picture the beginning and the end.

    Raises:
        OSError, FileNotFoundError: a file is cut off, is no image or cannot be read, or a checksum is wrong.
        ValueError: a `video.json` or a file's name is not what the layout has.
    """
    count = 0
    for path in find_videos(root):
        video = read_video(path)
        if video.facts.split != split:
            continue
        frames = video.frames()
        for number, mask in video.masks().items():
            if number in frames:
                _require_label_image(mask)
                _require_picture(frames[number])
                count += 1
    return count


def _require_label_image(path: Path) -> None:
    data = path.read_bytes() if path.is_file() else b""
    if data.startswith(SIGNATURE):
        require_whole(data, path)
    else:
        load_image(path)


def _require_picture(path: Path) -> None:
    """A file that does not end as its format does is decoded: there may be something behind the end."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, or is no file; get it again")
    with path.open("rb") as file:
        start = file.read(len(SIGNATURE))
        file.seek(max(0, os.fstat(file.fileno()).st_size - len(PNG_END)))
        end = file.read()
    is_png = start == SIGNATURE and end == PNG_END
    is_jpeg = start.startswith(JPEG_START) and end.endswith(JPEG_END)
    if not (is_png or is_jpeg):
        load_image(path)
