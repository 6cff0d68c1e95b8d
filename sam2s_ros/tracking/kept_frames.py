"""The recent frames whose features the engine still has, found by their stamps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.tracking.errors import PromptError, UnknownStampError
from sam2s_ros.tracking.image_condition import ImageCondition

AHEAD = 2
"""Frames that may be encoded ahead: one that is about to be tracked, and the one after it."""
HELD_BESIDES = 1
"""Frames held besides those that a prompt may refer to: the newest whose image shows something, however old it is, or
the one from which an object that catches up goes on."""


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


@dataclass(frozen=True, eq=False)
class Lag:
    """How far an object that was prompted on an older frame has come: `reached` is the newest frame on which it has
    been tracked, `usable` the newest up to there whose image shows something, if such a frame is held."""

    reached: KeptFrame
    usable: KeptFrame | None


class KeptFrames:
    """Recent frames in engine slots, of which there are `AHEAD` more for frames that come next.

    A prompt may refer to the last `kept` of them, as far as they are at most `kept_ms` of image stamp older than the
    newest. Held besides are frames that the tracker itself still needs (`let_go`), `HELD_BESIDES` at most as long as no
    object lags more than `kept` frames. Numbers go on over `clear`, so they never repeat.
    """

    def __init__(self, kept: int, kept_ms: int) -> None:
        self._kept = kept
        self._kept_ms = kept_ms
        self._next_index = 0
        self._unusable = 0
        self._frames: list[KeptFrame] = []
        self._free = deque(range(slots_for(kept)))
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
        """Keep the frame that was encoded into a slot. To be followed by `let_go`."""
        frame = KeptFrame(self._next_index, slot, stamp_ns, flow, condition, self._unusable)
        self._next_index += 1
        self._unusable += not condition.usable
        self._frames.append(frame)
        self._let_go_of_before()
        return frame

    def let_go(self, lags: Sequence[Lag]) -> None:
        """Free the slots of all frames to which no prompt may refer, that none of the lagging objects has yet to come
        through or goes on from, and that are not the newest usable one."""
        needed = {frame.index for frame in self._window()}
        needed |= {lag.usable.index for lag in lags if lag.usable is not None}
        if (usable := self.newest_usable) is not None:
            needed.add(usable.index)
        since = min((lag.reached.index for lag in lags), default=self._next_index)
        held = [frame for frame in self._frames if frame.index > since or frame.index in needed]
        if len(held) < len(self._frames):
            indices = {frame.index for frame in held}
            self._free.extend(frame.slot for frame in self._frames if frame.index not in indices)
            self._frames = held

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
        """The newest frame whose image shows something; None when no such frame is held."""
        return self._before if self.newest is None else self.usable_until(self.newest)

    def usable_until(self, frame: KeptFrame) -> KeptFrame | None:
        """The newest held frame, none after this one, whose image shows something."""
        return next(
            (one for one in reversed(self._frames) if one.index <= frame.index and one.condition.usable), None
        )

    def stamps_ns(self) -> list[int]:
        """Stamps of the frames to which a prompt may refer, oldest first."""
        return [frame.stamp_ns for frame in self._window()]

    def find(self, stamp_ns: int) -> KeptFrame:
        """The newest frame of this stamp to which a prompt may refer. UnknownStampError, giving their range, when there
        is none."""
        if not self._frames:
            raise PromptError(
                f"no frame with stamp {stamp_ns} ns: no frame has been tracked yet; step() one first"
            )
        for frame in reversed(self._window()):
            if frame.stamp_ns == stamp_ns:
                return frame
        stamps = self.stamps_ns()
        raise UnknownStampError(
            f"no kept frame has stamp {stamp_ns} ns; the {len(stamps)} kept frames span "
            f"{min(stamps)} .. {max(stamps)} ns{self._too_old(stamp_ns)}. Name the exact stamp of one of them, or the "
            "newest"
        )

    def after(self, frame: KeptFrame) -> list[KeptFrame]:
        """The held frames after this one, oldest first."""
        return [later for later in self._frames if later.index > frame.index]

    def between(self, frame: KeptFrame, later: KeptFrame) -> int:
        """How many of the held frames after the first one come up to the later one."""
        return sum(frame.index < one.index <= later.index for one in self._frames)

    def _window(self) -> list[KeptFrame]:
        """The frames to which a prompt may refer, oldest first."""
        newest = self.newest
        if newest is None:
            return []
        oldest_ns = newest.stamp_ns - 1_000_000 * self._kept_ms
        newest_first = reversed(self._frames[-self._kept :])
        return list(takewhile(lambda frame: frame.stamp_ns >= oldest_ns, newest_first))[::-1]

    def _too_old(self, stamp_ns: int) -> str:
        """Why a stamp may be of a frame that was kept once; empty where it cannot."""
        age_ms = (min(self.stamps_ns()) - stamp_ns) * 1e-6
        if age_ms <= 0:
            return ""
        return f", {age_ms:.0f} ms after it: they go back kept_ms = {self._kept_ms}, kept_frames = {self._kept} at most"


def slots_for(kept: int) -> int:
    """Engine slots that `kept` frames take."""
    return kept + HELD_BESIDES + AHEAD
