"""Objects prompted on an older image, brought to now by the worker in slices between the images of the stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sam2s_ros.nodes.image_source import WARNING_PERIOD_S
from sam2s_ros.tracking import FrameResult, StreamingTracker

FRAMES_PER_IMAGE = 2
"""Kept frames through which objects are brought for each image of the stream, at least: with one they would never
come nearer, with two they come nearer by one."""


class LateObjects:
    """Gives objects that are behind the time that the worker has. To be called by the worker alone.

    While nothing waits they go on frame by frame, so an image or a call that comes then waits for one object's step at
    most. Only where an image always waits do they take time from the stream: `FRAMES_PER_IMAGE` for each image.

    Args:
        tracker: whose objects they are.
        refresh: takes the newest image's result once an object has joined it.
        logger: of the node.
    """

    def __init__(
        self, tracker: StreamingTracker, refresh: Callable[[FrameResult], None], logger: Any
    ) -> None:
        self._tracker, self._refresh, self._logger = tracker, refresh, logger
        self._owed = 0

    def after_image(self) -> None:
        """An image has been tracked: do what spare time since the one before was not enough for."""
        owed, self._owed = self._owed, FRAMES_PER_IMAGE
        if owed:
            self._advance(owed)

    def in_spare_time(self) -> bool:
        """Bring those furthest behind through one frame; whether there is more to do."""
        self._owed = max(0, self._owed - 1)
        return self._advance(1) > 0

    def _advance(self, frames: int) -> int:
        """How many frames the last is behind now; 0 also where the stream has to be reset first."""
        before = self._tracker.last_result
        if before is None or before.needs_reset:
            return 0
        try:
            behind = self._tracker.advance(frames)
        except Exception as error:
            behind = 1  # it goes on after the frame that failed
            self._logger.error(
                "the engine failed on a kept image while objects prompted on an older one were brought to now; they "
                f"leave it out: {type(error).__name__}: {error}",
                throttle_duration_sec=WARNING_PERIOD_S,
            )
        after = self._tracker.last_result
        if after is not None and after is not before:
            self._refresh(after)
        return behind
