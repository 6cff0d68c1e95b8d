"""The recent frames whose features the engine still has, found by their stamps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

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
    in_engine: bool = True
    """False for the last frame of a snapshot: what it showed is known, what the engine had of it is gone."""

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
        self._before: KeptFrame | None = None

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
        self._let_go_of_before()
        return frame

    @property
    def next_index(self) -> int:
        """Number of the next frame."""
        return self._next_index

    @property
    def unusable(self) -> int:
        """How many frames so far were good for nothing."""
        return self._unusable

    def resume(self, next_index: int, unusable: int, before: KeptFrame | None) -> KeptFrame | None:
        """Forget all kept frames and count on from a snapshot, whose last usable frame was `before`, if any.

        Gives that frame with the slot in which its observations may lie until the next frame is kept. It is the
        `newest_usable` one until then, and no prompt may refer to it.
        """
        self.clear()
        self._next_index, self._unusable = next_index, unusable
        if before is not None:
            self._before = replace(before, slot=self.take_slot(), in_engine=False)
        return self._before

    def _let_go_of_before(self) -> None:
        if self._before is not None:
            self._free.append(self._before.slot)
            self._before = None

    def drop_newest(self) -> None:
        """Forget the newest frame, which could not be tracked; its number is not used again."""
        self._free.append(self._frames.pop().slot)

    def clear(self) -> None:
        """Forget all kept frames."""
        self._free.extend(frame.slot for frame in self._frames)
        self._frames.clear()
        self._let_go_of_before()

    @property
    def newest(self) -> KeptFrame | None:
        """None before the first frame."""
        return self._frames[-1] if self._frames else None

    @property
    def newest_usable(self) -> KeptFrame | None:
        """The newest frame whose image shows something; None when no such frame is kept."""
        return next((frame for frame in reversed(self._frames) if frame.condition.usable), self._before)

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
