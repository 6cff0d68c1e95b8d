"""Who asked for what, when, on which image, and what came of it: a line of JSON for every call that changes something.

Never an image: of a mask only its size and how many pixels it has. The file is bounded (`MAX_BYTES` and `BACKUPS` older
ones beside it) and readable by its owner alone. A disk that fails stops nothing: the failure is logged and said in the
call's response, and the first line after it says how many are missing.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import threading
from datetime import datetime, timezone
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node

from sam2s_ros.nodes.messages import ERROR_NAMES, stamp_to_ns
from sam2s_ros.nodes.service_limits import TEXT_LIMITS
from sam2s_ros.tracking.config import MAX_PROMPT_POINTS

MAX_BYTES = 10 * 2**20
BACKUPS = 4
MODE = 0o600
PATIENCE_S = 1.0
"""How long a call waits for another's line, so that a disk that hangs holds up one call and not all of them."""


class AuditLog:
    """A JSON lines file of calls. Any thread may write.

    Args:
        path: the file, ~ being the home; empty for none. Its folder is made, of mode 0700, if it does not exist.
        session: of the node's ids, written with each line.
        node: whose clock dates the lines, and whose log says when the disk fails and works again.
        max_bytes: size at which the file becomes `path`.1, `path`.1 becomes `path`.2 and so on.
        backups: how many of these are kept.

    Raises:
        OSError: the folder cannot be made, or the file cannot be opened.
    """

    def __init__(
        self,
        path: str,
        session: str,
        node: Node,
        max_bytes: int = MAX_BYTES,
        backups: int = BACKUPS,
    ) -> None:
        self._path = str(Path(path).expanduser()) if path else ""
        self._session, self._node = session, node
        self._lock = threading.Lock()
        self._missing = 0
        try:
            self._file = _PrivateFile(self._path, max_bytes, backups) if path else None
        except OSError as error:
            raise OSError(
                error.errno,
                f"parameter audit_log is '{path}', which cannot be written ({error.strerror}): give a file in a folder "
                "that is yours or can be made, or '' for none",
            ) from error

    def write(self, service: str, facts: dict[str, Any]) -> str:
        """Write one line. Returns why it could not be written, empty if it was."""
        if self._file is None:
            return ""
        if not self._lock.acquire(timeout=PATIENCE_S):
            return self._note_missing(service, "the disk does not answer")
        try:
            if self._missing:
                self._write("audit_log", {"missing_lines": self._missing})
                self._node.get_logger().error(
                    f"audit log {self._path} is written again; {self._missing} lines are missing"
                )
                self._missing = 0
            self._write(service, facts)
        except OSError as error:
            return self._note_missing(service, error.strerror or str(error))
        finally:
            self._lock.release()
        return ""

    def _note_missing(self, service: str, why: str) -> str:
        self._missing += 1
        reason = f"not in the audit log {self._path}: {why}"
        self._node.get_logger().error(f"{service} is {reason}")
        return reason

    def go_on_as(self, session: str) -> None:
        """The ids are a snapshot's from now on: take on its session."""
        self._session = session

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, service: str, facts: dict[str, Any]) -> None:
        assert self._file is not None
        line = {
            "wall": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "node_ns": int(self._node.get_clock().now().nanoseconds),
            "session": self._session,
            "service": service,
            **facts,
        }
        text = json.dumps(known(line), allow_nan=False, ensure_ascii=False)
        self._file.emit(logging.LogRecord("audit", logging.INFO, "", 0, text, None, None))


def audit_facts(request: Any, response: Any, code: int) -> dict[str, Any]:
    """What the audit log says of one call: who, what was asked, on which image, and what came of it.

    `code` is one of the constants of sam2s_msgs/ErrorCode. Texts are cut off at the limit of their field.
    """
    fields = request.get_fields_and_field_types()
    asked: dict[str, Any] = {
        field: _text(getattr(request, field), limit)
        for field, limit in TEXT_LIMITS.items()
        if field in fields and field != "client"
    }
    for field in ("id", "clear_class"):
        if field in fields:
            asked[field] = getattr(request, field)
    if "prompt" in fields:
        asked["prompt"] = _prompt_facts(request.prompt)
    facts: dict[str, Any] = {
        "client": _text(getattr(request, "client", ""), TEXT_LIMITS["client"]),
        "request": asked,
        "outcome": ERROR_NAMES[code] if code else "done",
        "message": response.message,
    }
    if hasattr(response, "id"):
        facts["id"] = response.id
    if hasattr(response, "stamp"):
        facts["stamp_ns"] = stamp_to_ns(response.stamp)
    if hasattr(response, "frames_behind"):
        facts["frames_behind"] = response.frames_behind
    if hasattr(response, "mask"):
        mask = response.mask
        facts["mask"] = {"state": mask.state, "area": mask.area, "predicted_iou": mask.predicted_iou}
    return facts


def _prompt_facts(prompt: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"stamp_ns": stamp_to_ns(prompt.stamp)}
    if len(prompt.points):
        facts["points"] = [[point.x, point.y] for point in prompt.points[:MAX_PROMPT_POINTS]]
        facts["point_labels"] = [int(label) for label in prompt.point_labels[:MAX_PROMPT_POINTS]]
    if prompt.has_box:
        facts["box"] = [prompt.box.x_min, prompt.box.y_min, prompt.box.x_max, prompt.box.y_max]
    if prompt.mask.height or prompt.mask.width:
        pixels = int(np.asarray(prompt.mask.counts, np.int64)[1::2].sum())
        facts["mask"] = {"height": prompt.mask.height, "width": prompt.mask.width, "pixels": pixels}
    return facts


def _text(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def known(value: Any) -> Any:
    """The value with what is not known (NaN) or infinite as None, which JSON can say."""
    if isinstance(value, dict):
        return {key: known(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [known(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _PrivateFile(RotatingFileHandler):
    """A rotating file of mode 0600 that writes each line at once and raises what goes wrong."""

    def __init__(self, path: str, max_bytes: int, backups: int) -> None:
        self._cut_off = False
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(path, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")

    def _open(self) -> Any:
        def private(path: str, flags: int) -> int:
            descriptor = os.open(path, flags | os.O_CLOEXEC, MODE)
            os.fchmod(descriptor, MODE)  # of a file that was there before
            return descriptor

        return open(self.baseFilename, self.mode, encoding=self.encoding, opener=private)

    def emit(self, record: logging.LogRecord) -> None:
        """Append the line unbuffered, so that none waits in memory for a disk with room. OSError."""
        if self.shouldRollover(record):
            self.doRollover()
        stream: Any = self.stream
        line = ("\n" if self._cut_off else "") + self.format(record) + "\n"
        data = line.encode("utf-8", errors="backslashreplace")
        try:
            written = os.write(stream.fileno(), data)
        except OSError:
            self.close()  # opened anew for the next line
            raise
        self._cut_off = written < len(data)
        if self._cut_off:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
