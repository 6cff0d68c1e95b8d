"""What a tracker refuses, one class per kind of mistake. Every message names the input and what to do
instead.

A refused call changes nothing: no object is half added, no frame is half taken.
"""

from __future__ import annotations


class FrameError(ValueError):
    """A frame that is not an RGB image: wrong type, shape or dtype, or without pixels."""


class PromptError(ValueError):
    """Clicks, a box or a mask that cannot prompt."""


class TooManyObjectsError(ValueError):
    """All rows of the tracker are taken."""


class UnknownObjectError(KeyError):
    """No object has this id (any more)."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would put the message in quotes


class UnknownStampError(ValueError):
    """A stamp of no kept frame; the message gives the range that is kept."""


class SnapshotError(ValueError):
    """A snapshot that cannot be taken, written, read or restored; the message says why."""


class ImageSizeChangedError(ValueError):
    """The stream's image size changed while objects were tracked; a reset is needed."""


class ObjectBehindError(ValueError):
    """The object has not come to the frame that is meant yet; `StreamingTracker.advance` brings it there."""
