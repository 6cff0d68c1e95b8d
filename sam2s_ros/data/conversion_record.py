"""What a video was converted from and with: `conversion.json` beside its `video.json`.

A later conversion into the same folder compares it with its own: only a video of the same files (names, sizes, times of
change) and settings is the one that it would write.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam2s_ros.data.video_plan import VideoPlan

RECORD_FILE = "conversion.json"


@dataclass(frozen=True)
class ConversionRecord:
    """Settings by name, and a checksum of the names, sizes and times of the files."""

    settings: dict[str, str]
    files: str

    def differences(self, other: ConversionRecord) -> list[str]:
        """What is not the same in `other`, each as "the frame rate was 25.0 and is 1.0"."""
        found = [
            f"{name} was {value} and is {other.settings.get(name)}"
            for name, value in self.settings.items()
            if other.settings.get(name) != value
        ]
        return [*found, "its files in the source have changed"] if self.files != other.files else found


def record_of(plan: VideoPlan) -> ConversionRecord:
    """The record of a plan, with the files as they are now."""
    meanings, files = hashlib.sha256(), hashlib.sha256()
    for frame in plan.frames:
        files.update(
            f"{frame.number} {_state(frame.image)} {frame.labels is not None}\n".encode(
                errors="surrogateescape"
            )
        )
        for label in frame.labels or ():
            files.update(f"{_state(label.path)}\n".encode(errors="surrogateescape"))
            meanings.update(f"{_without_path(label)}\n".encode())
    files.update(f"{len(plan.left_out)}".encode())
    settings = {
        "the split": plan.split,
        "the procedure": plan.procedure,
        "the licence": plan.licence,
        "the frame rate": f"{plan.frame_rate}",
        "the origin of identities": plan.identities,
        "the kind of data": "stills" if plan.stills else "video",
        "the crop": f"{plan.crop}",
        "the area of a prompt": f"{plan.prompt_area}",
        "the meaning of the labels": meanings.hexdigest()[:16],
    }
    return ConversionRecord(settings, files.hexdigest()[:16])


def read_record(folder: Path) -> ConversionRecord:
    """The record of a video that is complete.

    Raises:
        OSError: there is none.
        ValueError: it is not what `write_record` writes.
    """
    path = folder / RECORD_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        settings = {str(name): str(value) for name, value in raw["settings"].items()}
        return ConversionRecord(settings, str(raw["files"]))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no record of a conversion: {error!r}") from None


def write_record(folder: Path, record: ConversionRecord) -> None:
    """Write it into a video's folder, with how many files are there."""
    raw = {"settings": record.settings, "files": record.files, "written": _counts(folder)}
    (folder / RECORD_FILE).write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def written_masks(folder: Path) -> int | None:
    """How many label images a conversion wrote; None where no record says so."""
    try:
        return int(json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))["written"]["masks"])
    except (KeyError, OSError, TypeError, ValueError, RecursionError):
        return None


def lost_files(folder: Path, frames: int) -> str:
    """What a video that was complete has lost since, as "1 of 4 files in frames"; "" where it is whole.

    `frames`: how many its `video.json` has; its record says how many label images, but for one of an older version.
    """
    wanted = {"frames": frames, "masks": written_masks(folder) or 0}
    found = _counts(folder)
    lost = {name: count - found[name] for name, count in wanted.items() if found[name] < count}
    return ", ".join(f"{count} of {wanted[name]} files in {name}" for name, count in lost.items())


def _counts(folder: Path) -> dict[str, int]:
    """Files that are not empty, by the folder of a video that they are in."""
    return {
        name: sum(path.is_file() and path.stat().st_size > 0 for path in (folder / name).glob("*"))
        for name in ("frames", "masks")
    }


def _state(path: Path) -> str:
    """Name, size and time of change of a file, which a copy or a move of the whole source keeps."""
    try:
        found = path.stat()
    except OSError:
        return f"{path.name} missing"
    return f"{path.name} {found.st_size} {found.st_mtime_ns}"


def _without_path(label: Any) -> str:
    """What a reader of labels, a dataclass with the `path` of its file, makes of the file, as text."""
    return repr(replace(label, path=Path()))
