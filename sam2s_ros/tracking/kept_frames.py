"""The recent frames whose features the engine still has, found by their stamps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.errors import PromptError, UnknownStampError
from sam2s_ros.tracking.image_condition import ImageCondition

AHEAD = 2
"""Frames that may be encoded ahead: one that is about to be tracked, and the one after it."""


@dataclass(frozen=True, eq=False)
class KeptFrame:
    """One frame of the stream: its number since the tracker was made, its engine slot, its image stamp, and,
    where the settings ask for it, how the image moved since the frame before (`MotionEstimator.advance`);
    what its image is good for, and how many frames before it were good for nothing."""

    index: int
    slot: int
    stamp_ns: int
    flow: NDArray[np.float32] | None = None
    condition: ImageCondition = ImageCondition.UNKNOWN
    unusable_before: int = 0

    @property
    def clock(self) -> int:
        """Its number among the frames that may be remembered: time stands still for recent memories meanwhile."""
        return self.index - self.unusable_before


class KeptFrames:
    """The last `kept` frames in engine slots, of which there are `AHEAD` more for frames that come next.

    Numbers go on over `clear`, so they never repeat.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._next_index = 0
        self._unusable = 0
        self._frames: deque[KeptFrame] = deque()
        self._free = deque(range(kept + AHEAD))

    def take_slot(self) -> int:
        """An engine slot for a frame that is going to be encoded; `keep` it or `give_back` it."""
        return self._free.popleft()

    def give_back(self, slot: int) -> None:
        """The frame in this slot will not be kept."""
        self._free.append(slot)

    def keep(
        self,
        slot: int,
        stamp_ns: int,
        flow: NDArray[np.float32] | None = None,
        condition: ImageCondition = ImageCondition.UNKNOWN,
    ) -> KeptFrame:
        """Keep the frame that was encoded into a slot; the oldest is let go of when there are too many."""
        frame = KeptFrame(self._next_index, slot, stamp_ns, flow, condition, self._unusable)
        self._next_index += 1
        self._unusable += not condition.usable
        self._frames.append(frame)
        if len(self._frames) > self._kept:
            self._free.append(self._frames.popleft().slot)
        return frame

    def drop_newest(self) -> None:
        """Forget the newest frame, which could not be tracked; its number is not used again."""
        self._free.append(self._frames.pop().slot)

    def clear(self) -> None:
        """Forget all kept frames."""
        self._free.extend(frame.slot for frame in self._frames)
        self._frames.clear()

    @property
    def newest(self) -> KeptFrame | None:
        """None before the first frame."""
        return self._frames[-1] if self._frames else None

    @property
    def newest_usable(self) -> KeptFrame | None:
        """The newest frame whose image shows something; None when no such frame is kept."""
        return next((frame for frame in reversed(self._frames) if frame.condition.usable), None)

    def stamps_ns(self) -> list[int]:
        """Stamps of the kept frames, oldest first."""
        return [frame.stamp_ns for frame in self._frames]

    def find(self, stamp_ns: int) -> KeptFrame:
        """The newest kept frame of this stamp. UnknownStampError, giving the kept range, when there is
        none."""
        if not self._frames:
            raise PromptError(
                f"no frame with stamp {stamp_ns} ns: no frame has been tracked yet; step() one first"
            )
        for frame in reversed(self._frames):
            if frame.stamp_ns == stamp_ns:
                return frame
        stamps = self.stamps_ns()
        raise UnknownStampError(
            f"no kept frame has stamp {stamp_ns} ns; the {len(stamps)} kept frames span "
            f"{min(stamps)} .. {max(stamps)} ns. Name the exact stamp of one of them, or the newest"
        )

    def following(self, frame: KeptFrame) -> list[KeptFrame]:
        """The kept frames after this one, oldest first."""
        return [later for later in self._frames if later.index > frame.index]
