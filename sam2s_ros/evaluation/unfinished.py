"""What a run that was interrupted leaves behind, so that the same command goes on with the next video.

Each video that was run to its end is a part in `DIR/unfinished`: its records, and a file with what else is known of it,
written last. A part is there whole or not at all; a video that was interrupted starts again from its first frame. Once
all are there, the parts become frames.parquet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2s_ros.evaluation.records import FrameRecord, RecordWriter, join_records

FOLDER = "unfinished"
KEY_FILE = "run.json"


@dataclass(frozen=True)
class Part:
    """One video of a run: its records, a file of Parquet, and what else is known of it."""

    records: bytes
    facts: dict[str, Any]


class UnfinishedRun:
    """The parts of one run, taken in their order; those that are there already are not made again."""

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        """`folder`: where the run writes to. `key`: what a run must share with another to take over its parts."""
        self._folder = folder / FOLDER
        self._parts: list[Path] = []
        text = json.dumps(key, sort_keys=True)
        key_file = self._folder / KEY_FILE
        self.begins = not key_file.is_file() or key_file.read_text() != text
        """Whether there was nothing of this run to go on from."""
        if self.begins:
            self.remove()
            self._folder.mkdir(parents=True)
            _write(key_file, text)

    def take(
        self, frames: Callable[[], Iterable[tuple[FrameRecord, ...]]], facts: Callable[[], dict[str, Any]]
    ) -> tuple[Path, dict[str, Any]]:
        """The records of the next part and its facts: as they are there, else made, with the facts of afterwards."""
        number = len(self._parts)
        path = self._path(number)
        self._parts.append(path)
        if self.has(number):
            return path, self.facts(number)
        with RecordWriter(path) as writer:
            for records in frames():
                writer.write(records)
        found = facts()
        _write(path.with_suffix(".json"), json.dumps(found))
        return path, found

    def has(self, number: int) -> bool:
        """Whether a part, counted from 0, is there whole."""
        path = self._path(number)
        return path.is_file() and path.with_suffix(".json").is_file()

    def facts(self, number: int) -> dict[str, Any]:
        """What is known of a part that is there."""
        found: dict[str, Any] = json.loads(self._path(number).with_suffix(".json").read_text())
        return found

    def put(self, number: int, part: Part) -> None:
        """A part that was made elsewhere."""
        self._path(number).write_bytes(part.records)
        _write(self._path(number).with_suffix(".json"), json.dumps(part.facts))

    def parts(self) -> list[Part]:
        """All that have been taken, to be put into another run."""
        return [Part(path.read_bytes(), self.facts(number)) for number, path in enumerate(self._parts)]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.parquet"

    def join(self, path: Path) -> None:
        """Write the records of all parts taken into one file."""
        join_records(self._parts, path)

    def remove(self) -> None:
        """Forget the parts: the run has ended, or was another one."""
        (self._folder / KEY_FILE).unlink(missing_ok=True)  # first: without it no part counts
        shutil.rmtree(self._folder, ignore_errors=True)


def state_of(paths: Iterable[Path], leave_out: Path | None = None) -> dict[str, str]:
    """A checksum of names, sizes and times of change for each file or folder; what is no path on disk is left out.

    leave_out: a folder that may lie in one of them, of which nothing counts.
    """
    found = {}
    for path in paths:
        if path.exists():
            facts = [
                (str(one.relative_to(path)), one.stat().st_size, one.stat().st_mtime_ns)
                for one in _files(path)
                if leave_out is None or leave_out not in one.parents
            ]
            found[str(path.resolve())] = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return found


def _files(path: Path) -> Iterator[Path]:
    yield from sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _write(path: Path, text: str) -> None:
    """The whole text or no file."""
    part = path.with_suffix(".part")
    part.write_text(text)
    os.replace(part, path)
