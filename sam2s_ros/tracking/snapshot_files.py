"""Snapshots on disk: a checksum over a safetensors file, written beside its place and renamed, the last two kept.

A file is the line `MAGIC`, the SHA-256 of the rest, and the rest: safetensors with the facts as JSON in its metadata.
The checksum is looked at before anything is parsed, and nothing is ever unpickled. It tells damage, not forgery: what
keeps others from writing there are the modes, 0700 of the folder and 0600 of the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sam2s_ros.tracking.errors import SnapshotError
from sam2s_ros.tracking.snapshot import FORMAT_VERSION, Snapshot

MAGIC = b"sam2s snapshot\n"
FACTS = "sam2s_snapshot"
FILES = ("snapshot_a.sam2s", "snapshot_b.sam2s")
DRAFT = ".draft_"
LOCK = "lock"
STARTS = "starts"


def write_snapshot(path: str | Path, snapshot: Snapshot) -> None:
    """Write a snapshot, mode 0600: whoever reads the path finds all of it, or what was there before.

    It is on the disk when this returns. OSError where it cannot be written, and then nothing is left behind.
    """
    arrays = {name: np.ascontiguousarray(values) for name, values in snapshot.arrays.items()}
    content = save(arrays, metadata={FACTS: json.dumps(snapshot.facts)})
    _write_whole(Path(path), MAGIC + hashlib.sha256(content).digest(), content)


def _write_whole(path: Path, *parts: bytes) -> None:
    """Write the parts, one after another, to a file of mode 0600 that has its name once it is on the disk."""
    descriptor, draft = tempfile.mkstemp(prefix=DRAFT, dir=path.parent)  # mode 0600, never through a link
    try:
        with open(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path)  # takes the place of a link, and does not follow it
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    _sync_folder(path.parent)


def read_snapshot(path: str | Path) -> Snapshot:
    """Read a snapshot that `write_snapshot` wrote.

    Raises:
        FileNotFoundError: no such file.
        SnapshotError: cut short, altered, of another version, not a plain file, or not readable.
    """
    path = Path(path)
    content = _read_plain_file(path)
    body = content[len(MAGIC) + hashlib.sha256().digest_size :]
    if not content.startswith(MAGIC):
        raise SnapshotError(f"{path} is not a snapshot, or its beginning is damaged")
    if hashlib.sha256(body).digest() != content[len(MAGIC) : len(content) - len(body)]:
        raise SnapshotError(f"{path} is damaged: it was cut short or altered")
    try:
        facts = json.loads(_metadata(body)[FACTS])
        version = facts["format"]
        if version != FORMAT_VERSION:
            raise SnapshotError(f"{path} has format version {version}; this software reads {FORMAT_VERSION}")
        _check_facts(facts)
        return Snapshot(facts, load(body))
    except KeyError as error:
        raise SnapshotError(f"{path} is not a snapshot: it does not say {error}") from error
    except (SafetensorError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, SnapshotError):
            raise
        raise SnapshotError(f"{path} is not a snapshot: {error}") from error


@dataclass(frozen=True)
class FoundFile:
    """A file of the folder: its snapshot, or why there is none."""

    path: Path
    snapshot: Snapshot | None
    refusal: str = ""


class SnapshotFolder:
    """The last two snapshots of one tracker in a folder that no other process uses. One call at a time.

    The folder is made on first use and locked until `close`. OSError where it cannot be used, SnapshotError where
    another process does or it belongs to somebody else.

    start: how many times it was opened, this time included; counted on the disk before anything else is done, so that
    no two openings have the same number, however the one before ended. 0 before first use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._newest: Path | None = None
        self.start = 0

    def read(self) -> list[FoundFile]:
        """The files that are there, the newest first and those without a snapshot before all others."""
        self._open()
        found = []
        for path in (self.path / name for name in FILES):
            try:
                found.append(FoundFile(path, read_snapshot(path)))
            except FileNotFoundError:
                continue
            except SnapshotError as error:
                found.append(FoundFile(path, None, str(error)))
        found.sort(key=_saved_ns, reverse=True)
        good = [one.path for one in found if one.snapshot is not None]
        if self._newest is None and good:
            self._newest = good[0]
        return found

    def write(self, snapshot: Snapshot) -> Path:
        """Write one more in the place of the older one; gives its path."""
        self._open()
        paths = [self.path / name for name in FILES]
        older = paths[0] if self._newest is None else next(one for one in paths if one != self._newest)
        write_snapshot(older, snapshot)
        self._newest = older
        return older

    def delete(self) -> int:
        """Remove all snapshots; gives how many there were. SnapshotError for those that cannot be removed, after all
        others have been."""
        if self._lock is None and not self.path.exists():
            return 0
        self._open()
        removed, left = 0, []
        for path in (self.path / name for name in FILES):
            try:
                os.unlink(path)
                removed += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                left.append(f"{path} cannot be removed: {error.strerror}")
        _sync_folder(self.path)
        self._newest = None
        if left:
            raise SnapshotError("; ".join(left))
        return removed

    def close(self) -> None:
        """Let another process use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> None:
        """Make the folder, mode 0700, lock it, and sweep up what a process that was killed left half written."""
        if self._lock is not None and self.path.is_dir():
            return
        self.close()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        status = os.lstat(self.path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise SnapshotError(f"{self.path} is not a folder of this user: give another snapshot_dir")
        os.chmod(self.path, 0o700)
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise SnapshotError(
                f"{self.path} is in use by another node of this name: give each its own snapshot_dir"
            ) from error
        try:
            for draft in self.path.glob(f"{DRAFT}*"):
                draft.unlink(missing_ok=True)
            start = max(self.start, _read_count(self.path / STARTS)) + 1
            _write_whole(self.path / STARTS, str(start).encode())
        except BaseException:
            os.close(lock)  # not open: an opening without a number of its own is none
            raise
        self._lock, self.start = lock, start


def _check_facts(facts: dict[str, Any]) -> None:
    """What is used of them before the tracker looks at the rest; KeyError or TypeError."""
    saved, stream = facts["saved"], facts["stream"]
    size, last_ns = stream["image_size"], stream["last_stamp_ns"]
    numbers = [saved["wall_ns"], saved["boot_ns"], *size, *([] if last_ns is None else [last_ns])]
    if len(size) != 2 or not all(type(one) is int and abs(one) < 2**63 for one in numbers):
        raise TypeError(f"saved is {saved}, the size of its images {size}, their last stamp {last_ns}")
    if not isinstance(saved["boot_id"], str):
        raise TypeError(f"saved is {saved}")


def _saved_ns(found: FoundFile) -> float:
    return float("inf") if found.snapshot is None else float(found.snapshot.facts["saved"]["wall_ns"])


def _read_count(path: Path) -> int:
    """The number in a file; 0 where there is none."""
    try:
        return int(_read_plain_file(path))
    except FileNotFoundError:
        return 0
    except ValueError:
        raise SnapshotError(
            f"{path} is damaged: write a number into it that is larger than any it had"
        ) from None


def _read_plain_file(path: Path) -> bytes:
    """The content, unless the path is a link, a device or a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        linked = "; it is a symbolic link" if path.is_symlink() else ""
        raise SnapshotError(f"{path} cannot be read: {error.strerror}{linked}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SnapshotError(f"{path} is not a plain file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _metadata(body: bytes) -> dict[str, Any]:
    """The metadata in the header of a safetensors file, whose own reader gives them for paths only."""
    length = int.from_bytes(body[:8], "little")
    return dict(json.loads(body[8 : 8 + length])["__metadata__"])


def _sync_folder(path: Path) -> None:
    """Have the folder's names on the disk, too."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
