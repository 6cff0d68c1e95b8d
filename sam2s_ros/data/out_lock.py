"""A lock on a folder that is written to: of two commands that would mix their files, the second one is refused.

The lock is the operating system's (`flock`): it ends with the process that holds it, however that process ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"
"""Hidden folder, in the folder that is written to, for what is not complete."""

_held: set[int] = set()
"""Descriptors of the lock files that this process holds."""


def _let_go() -> None:
    """A fork shares its parent's descriptors, and would hold the lock on where the parent is killed."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(out: Path, name: str) -> Iterator[Path]:
    """Hold the lock `name` of the folder `out`; gives the folder for what is not complete, and removes it if it is left
    empty.

    Raises:
        ValueError: another process holds the lock.
        OSError: `out` cannot be written to, or its file system has no locks.
    """
    partial = out / PARTIAL
    path = partial / f"{name}.lock"
    file = _open(path, out)
    _held.add(file)
    try:
        yield partial
    finally:
        with suppress(FileNotFoundError):
            path.unlink()  # while it is still held: whoever opens it now takes a new file
        _held.discard(file)
        os.close(file)
        remove_if_empty(partial)


def _open(path: Path, out: Path) -> int:
    """The lock file, locked: the one that is at its path, not one that its last holder has just removed."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # another process has just left, and removed the empty folder
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(file).st_ino:
                os.truncate(file, 0)
                os.write(file, f"{os.getpid()}\n".encode())
                return file
            os.close(file)
        except BlockingIOError:
            holder = os.read(file, 20).decode("ascii", "replace").strip()
            os.close(file)
            raise ValueError(
                f"{out} is being written to by another command{f' (process {holder})' if holder else ''}: wait until "
                "it ends, or choose another folder to write to"
            ) from None
        except OSError as error:
            os.close(file)
            raise OSError(
                f"{path} cannot be locked: {error.strerror}; choose a folder on another disk"
            ) from None


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing; another process may be writing there."""
    with suppress(OSError):
        folder.rmdir()
