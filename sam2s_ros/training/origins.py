"""What a run begins with beside its settings. A run that goes on must find the same, or it would be another run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam2s_ros.data.clips import folder_of
from sam2s_ros.data.video_folder import FRAME_SUFFIXES, VIDEO_FILE, find_videos
from sam2s_ros.training.config import TrainConfig

MAY_DIFFER = ("save_every_steps", "threads", "workers")
"""Settings that a run may go on with other values of, as they change no number."""
BY_CONTENT = ("init", "class_bank")
"""Paths, which may differ too: what they hold is compared instead."""


def origins_of(config: TrainConfig, data: Path) -> dict[str, str]:
    """What is compared of the weights begun with and of the converted videos, by what names them in the settings.

    Of videos that is how many there are, their `video.json`, and names and sizes of their frames and label images.
    `data` is the folder that theirs are relative to.
    """
    found = {"init": "random weights" if not config.init else f"sha256 {file_sha256(config.init)[:16]}"}
    for name in (*config.sources, *config.image_sources, config.validation):
        folder = folder_of(name)
        if folder is not None:
            found[name] = videos_digest(data / folder)
    return found


def file_sha256(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).expanduser().open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def videos_digest(root: Path) -> str:
    """The videos at or below a folder: their number, that of their images, and a checksum of what `origins_of` says."""
    digest, videos, images = hashlib.sha256(), 0, 0
    for path in find_videos(root):
        digest.update(f"{path.relative_to(root)}\n".encode())
        for part in ("frames", "masks"):
            files = _sizes(path / part)
            digest.update(f"{part} {' '.join(f'{name} {size}' for name, size in files)}\n".encode())
            images += len(files)
        digest.update((path / VIDEO_FILE).read_bytes())
        videos += 1
    return f"{videos} videos of {images} images, sha256 {digest.hexdigest()[:16]}"


def _sizes(folder: Path) -> list[tuple[str, int]]:
    """Name and bytes of each image. No times: a copy of the videos, as on another machine, is the same."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as files:
        return sorted(
            (one.name, one.stat().st_size) for one in files if one.name.lower().endswith(FRAME_SUFFIXES)
        )


def check_same_run(
    checkpoint: Path,
    was: Mapping[str, Any],
    now: Mapping[str, Any],
    began: Mapping[str, str],
    begins: Mapping[str, str],
) -> None:
    """Refuse to go on with a run that was another one.

    Args:
        checkpoint: for the error.
        was, now: settings as nested mappings, of the checkpoint and of this call.
        began, begins: `origins_of` both.

    Raises:
        ValueError: with each difference, and what may differ.
    """
    old, new = _flat({**was}), _flat({**now})
    skipped = {*MAY_DIFFER, *BY_CONTENT}
    differing = [
        f"{name} was {old.get(name, 'not there')}, is {new.get(name, 'not there')}"
        for name in dict.fromkeys((*new, *old))
        if name not in skipped and old.get(name) != new.get(name)
    ]
    if not differing:  # with other settings, other videos are no wonder
        differing = [
            f"what {name} names was {began.get(name, 'not there')}, is {begins.get(name, 'not there')}"
            for name in dict.fromkeys((*begins, *began))
            if began.get(name) != begins.get(name)
        ]
    if differing:
        raise ValueError(
            f"{checkpoint} was begun with other settings ({'; '.join(differing)}); go on with those, or give another "
            f"--out. Only {', '.join(MAY_DIFFER)} may change in a run"
        )


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """Nested settings by names such as `loss.mask` and `stages[0].steps`."""
    if isinstance(values, Mapping) and values:
        parts = {f"{name}.{key}" if name else str(key): value for key, value in values.items()}
    elif isinstance(values, (list, tuple)) and values:
        parts = {f"{name}[{index}]": value for index, value in enumerate(values)}
    else:
        return {name: values}
    return {key: leaf for part, value in parts.items() for key, leaf in _flat(value, part).items()}
