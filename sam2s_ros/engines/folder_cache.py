"""Files that take long to make, kept in folders named after what they were made from.

A folder holds some files and a manifest: what they were made from, and a checksum and some facts of each. Whatever is
wrong with a folder, it counts as empty. It is written beside its place and renamed, so who reads sees all of it or
nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedFile:
    """A file's content, and facts about it that JSON can hold."""

    content: bytes
    facts: dict[str, Any] = field(default_factory=dict)


def cache_folder() -> Path:
    """Where things are kept: $SAM2S_CACHE, or sam2s in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("SAM2S_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sam2s"


def folder_for(made_from: Mapping[str, Any], cache: Path | None = None) -> Path:
    """The folder of the cache (`cache_folder()` if None) for what is made from this; any JSON."""
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
    return (cache or cache_folder()) / key


def read_folder(folder: Path, made_from: Mapping[str, Any], what: str) -> dict[str, CachedFile] | None:
    """The files in a folder by name, or None where they are missing, damaged or made from something else.

    `what` names them in the warning: "the exported graphs".
    """
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["made_from"] != made_from:
            raise ValueError("they were made from something else")
        return {name: _read(folder / name, entry) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s in %s cannot be used: %s", what, folder, error)
        return None


def _read(path: Path, entry: dict[str, Any]) -> CachedFile:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"{path.name} is damaged")
    return CachedFile(content, dict(entry["facts"]))


def write_folder(
    folder: Path,
    files: Mapping[str, CachedFile],
    made_from: Mapping[str, Any],
    what: str,
    replace: bool = False,
) -> None:
    """Put files into a folder's place, all at once.

    What is in its place was found unusable, or was put there meanwhile by a process that made the same, and then stays
    unless `replace`.

    Raises:
        OSError: nothing can be written there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        entries = {}
        for name, file in files.items():
            (draft / name).write_bytes(file.content)
            entries[name] = {"sha256": hashlib.sha256(file.content).hexdigest(), "facts": file.facts}
        manifest = {"made_from": made_from, "files": entries}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        draft.chmod(0o755)
        if folder.exists():
            if not replace and read_folder(folder, made_from, what) is not None:
                return
            with contextlib.suppress(FileNotFoundError):  # another process is as far as this one
                folder.rename(draft / "replaced")
        with contextlib.suppress(FileExistsError):
            _move(draft, folder)
            shutil.rmtree(folder / "replaced", ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _move(draft: Path, folder: Path) -> None:
    """Rename; FileExistsError where another process was faster."""
    try:
        draft.rename(folder)
    except OSError as error:
        if folder.exists():
            raise FileExistsError(str(folder)) from error
        raise
