"""Files that come with the packages, found in a source tree, a colcon workspace, a ROS distro or a virtual
environment.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def shipped_file(relative: str) -> Path:
    """A file of this package by its path in the source tree, such as config/tracker.yaml; installed copies
    count too.

    Raises:
        FileNotFoundError: it is nowhere; the text names the places.
    """
    folders = [
        Path(__file__).resolve().parents[2],
        *(prefix / "share" / "sam2s_ros" for prefix in _prefixes()),
    ]
    for folder in folders:
        if (folder / relative).is_file():
            return folder / relative
    raise FileNotFoundError(f"{relative} is missing; searched {', '.join(map(str, folders))}")


def message_definitions(package: str) -> list[Path]:
    """The .msg files of an installed interface package; raises FileNotFoundError if it is not installed."""
    folders = [prefix / "share" / package / "msg" for prefix in _prefixes()]
    for folder in folders:
        if found := sorted(folder.glob("*.msg")):
            return found
    raise FileNotFoundError(f"{package} is not installed: no .msg file in {', '.join(map(str, folders))}")


def _prefixes() -> list[Path]:
    named = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return [Path(prefix) for prefix in [*filter(None, named), sys.prefix]]
