"""What an image is good for, as one word."""

from __future__ import annotations

from enum import IntEnum


class ImageCondition(IntEnum):
    """What an image is good for; the numbers are those of `sam2s_msgs/TrackedObjectArray`."""

    UNKNOWN = 0
    """Not judged."""
    USABLE = 1
    BLACK = 2
    SATURATED = 3
    FROZEN = 4
    """One that came before, under a later stamp: the same again, or the next of a short ring of images."""
    TORN = 5
    """Parts of two images, or missing rows."""
    OBSCURED = 6
    """Without detail: lens cleaning, fog, defocused to nothing."""
    OUT_OF_BODY = 7

    @property
    def usable(self) -> bool:
        """Whether objects may be learnt from it."""
        return self in (ImageCondition.UNKNOWN, ImageCondition.USABLE)

    @property
    def reason(self) -> str:
        """One phrase for people; empty for a usable image."""
        return REASONS.get(self, "")


REASONS = {
    ImageCondition.BLACK: "the image is black",
    ImageCondition.SATURATED: "the image is overexposed",
    ImageCondition.FROZEN: "the image is the same as one before: the camera is frozen",
    ImageCondition.TORN: "the image is torn: rows are missing or belong to another image",
    ImageCondition.OBSCURED: "the image shows no detail: the lens is covered, fogged or out of focus",
    ImageCondition.OUT_OF_BODY: "the image shows no tissue: the endoscope is out of the body",
}
