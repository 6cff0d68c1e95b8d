"""Writes long surgeries as image folders in the layout of DAVIS, one video after the other.

    OUT/JPEGImages/<video>/00000.jpg    frames
    OUT/Annotations/<video>/00000.png   label images with a palette: object ids from 1 on, 0 for everything else
    OUT/Annotations/<video>/objects.json

`objects.json` says how the video was made and lists its objects: id, class, name, and the stretches of frames
`in_view`, each as [first, last]. It is an addition of ours; a reader of DAVIS can do without it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray
from sam2s_ros.data.long_videos import LongVideos
from sam2s_ros.data.video_folder import write_index

OBJECTS_FILE = "objects.json"
JPEG_QUALITY = 92


def write_video(
    out: Path,
    videos: LongVideos,
    seed: int,
    backgrounds: Path | None = None,
    on_frame: Callable[[], object] = lambda: None,
) -> bool:
    """Write the video of one seed; False where it is complete already, from an earlier call.

    Frames are rendered and written one at a time into a hidden folder, which is moved to its place when it is
    complete: what was begun and cut off is begun again.

    Raises:
        ValueError: a complete video is there that was made with other settings.
    """
    video = f"long_{seed:04d}"
    images, labels = out / "JPEGImages" / video, out / "Annotations" / video
    facts = _facts(videos, seed, backgrounds)
    if images.is_dir() and (labels / OBJECTS_FILE).is_file():
        _check_same(labels / OBJECTS_FILE, facts)
        return False
    surgery = videos.surgery(seed, backgrounds)
    partial = out / ".partial" / video
    for folder in (images, labels, partial):
        if folder.exists():
            shutil.rmtree(folder)
    (partial / "images").mkdir(parents=True)
    (partial / "labels").mkdir()
    in_view = _Stretches(len(surgery.cast))
    for index, (frame, ids) in enumerate(surgery.frames(videos.frames, videos.fps)):
        _write_image(partial / "images" / f"{index:05d}.jpg", frame)
        write_index(partial / "labels" / f"{index:05d}.png", ids)
        in_view.add(index, ids)
        on_frame()
    objects = [
        {"id": number + 1, "class": member.name, "name": name, "in_view": in_view.found[number]}
        for number, (member, name) in enumerate(zip(surgery.cast, surgery.object_names, strict=True))
    ]
    (partial / "labels" / OBJECTS_FILE).write_text(json.dumps({**facts, "objects": objects}, indent=1) + "\n")
    images.parent.mkdir(parents=True, exist_ok=True)
    labels.parent.mkdir(parents=True, exist_ok=True)
    (partial / "images").rename(images)
    (partial / "labels").rename(labels)  # last: a video with this folder is complete
    partial.rmdir()
    if not any(partial.parent.iterdir()):
        partial.parent.rmdir()
    return True


def _facts(videos: LongVideos, seed: int, backgrounds: Path | None) -> dict[str, Any]:
    return {
        "seed": seed,
        "split": videos.split,
        "difficulty": videos.difficulty,
        "frames": videos.frames,
        "fps": videos.fps,
        "size": list(videos.size),
        "prompt_area": videos.prompt_area,
        "backgrounds": None if backgrounds is None else backgrounds.name,
    }


def _check_same(path: Path, facts: dict[str, Any]) -> None:
    written = json.loads(path.read_text())
    for name, value in facts.items():
        if written.get(name) != value:
            raise ValueError(
                f"{path.parent} was made with {name} {written.get(name)}, not {value}; "
                "delete it or choose another folder with --out"
            )


class _Stretches:
    """Collects the frames on which each object is in view as [first, last] pairs."""

    def __init__(self, objects: int) -> None:
        self.found: list[list[list[int]]] = [[] for _ in range(objects)]

    def add(self, index: int, ids: ByteArray) -> None:
        """Note the objects of frame `index`, given its label image."""
        for number in np.flatnonzero(np.bincount(ids.ravel(), minlength=2)[1:]).tolist():
            stretches = self.found[number]
            if stretches and stretches[-1][1] == index - 1:
                stretches[-1][1] = index
            else:
                stretches.append([index, index])


def _write_image(path: Path, frame: ByteArray) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    if not cv2.imwrite(str(path), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options):
        raise OSError(f"{path} could not be written; is the disk full?")
