"""Objects that a prompts file adds to the stream without an operator, each on the first image that is due."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from sam2s_ros.nodes.audit_log import AuditLog
from sam2s_ros.tracking import FrameResult, StreamingTracker
from sam2s_ros.tracking.prompts_file import StartPrompt


class StartPrompts:
    """The prompts of a file that have not been given yet in this stream.

    Args:
        prompts: all of them.
        logger: of the node.
        audit: takes a line for each prompt that was given or refused.
    """

    def __init__(self, prompts: Sequence[StartPrompt], logger: Any, audit: AuditLog) -> None:
        self._waiting, self._logger, self._audit = list(prompts), logger, audit

    def add_due(self, tracker: StreamingTracker, result: FrameResult) -> FrameResult:
        """Add the objects that are due on the newest frame, whose result is given; its result with them."""
        due = [one for one in self._waiting if one.stamp_ns is None or result.stamp_ns >= one.stamp_ns]
        if not due:
            return result
        self._waiting = [one for one in self._waiting if one not in due]
        for one in due:
            facts = {"client": "prompts file", "request": {"name": one.name}, "stamp_ns": result.stamp_ns}
            try:
                object_id = tracker.add_object(None, **one.prompt.arguments(), name=one.name)
                self._logger.info(f"object {object_id} '{one.name}' added from the prompts file")
                self._note({**facts, "outcome": "done", "id": object_id})
            except ValueError as error:
                self._logger.error(f"prompts file: object '{one.name}' not added: {error}")
                self._note({**facts, "outcome": "INVALID_REQUEST", "message": str(error)})
        return tracker.last_result or result

    def leave_out_until(self, stamp_ns: int) -> None:
        """Leave out the prompts of frames up to this stamp, and those without one: a snapshot has given their objects,
        which may have been removed since."""
        self._waiting = [one for one in self._waiting if (one.stamp_ns or 0) > stamp_ns]

    def _note(self, facts: dict[str, Any]) -> None:
        """On a thread of its own: a disk that hangs must not hold up the tracker."""
        threading.Thread(target=self._audit.write, args=("add_object", facts), daemon=True).start()
