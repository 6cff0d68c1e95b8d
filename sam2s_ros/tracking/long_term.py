"""Which frames enter an object's long-term memory: reliable ones, far apart in time, that look new.

Source: SAM2S (arXiv 2511.16618), section 4.2, DiveMem's inference rule, Eq. 2. Of a number of candidates the
one whose image feature is least like that of the latest long-term frame enters; before there is one, the
object's first conditioning frame stands for it. The latest frame does not change while candidates are
collected, so that only the best candidate so far is held, in the spare slot of the object's queue.

Our choices where the paper is silent: presence is an object score above 0; a frame that fails clears the
candidates; candidates are a time apart, which is 0 in the paper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import FIRST_FEATURE_SLOT, DecodeResult, Engine
from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.kept_frames import KeptFrame
from sam2s_ros.tracking.memory_bank import EMPTY, MemoryBank

NOT_SIMILAR = np.float32(np.inf)
"""Best similarity before there is a candidate: anything is less similar."""


class LongTermFilter:
    """The candidates of every object, [max_objects] each. Without long-term memory it does nothing."""

    def __init__(self, engine: Engine, config: TrackerConfig, bank: MemoryBank) -> None:
        self._engine = engine
        self._bank = bank
        self._enabled = config.num_long_term > 0
        self._wanted = config.long_term_candidates
        self._min_iou = config.long_term_min_iou
        self._interval_ns = round(1e9 * config.long_term_interval_s)
        objects = config.max_objects
        self.candidates = np.zeros(objects, dtype=np.int64)
        """Candidates collected since the last one entered or a frame failed."""
        self.best_similarity = np.full(objects, NOT_SIMILAR, dtype=np.float32)
        """Cosine between the best candidate's feature and the latest long-term frame's, -1 .. 1."""
        self.best_frame = np.full(objects, EMPTY, dtype=np.int64)
        """Number of the best candidate's frame."""
        self.last_stamp_ns = np.zeros(objects, dtype=np.int64)
        """Stamp of the previous candidate, or of a later prompt."""
        self.insertions = np.zeros(objects, dtype=np.int64)
        """Frames that have entered the long-term memory since the object was added."""

    def clear(self, row: int) -> None:
        """Forget everything of one object."""
        self.clear_candidates(np.array([row]))
        self.last_stamp_ns[row] = self.insertions[row] = 0

    def conditioned(self, row: int, frame: KeptFrame, first: bool) -> None:
        """A frame is now a conditioning frame of the object: what was thought of it from then on no longer counts.

        Its candidates and its long-term frames from this one on are dropped, and the time to the next candidate
        starts anew. `first`: it is the object's first, with which candidates are compared until one has entered.
        """
        if not self._enabled:
            return
        rows = np.array([row], dtype=np.int64)
        if first:
            self._engine.keep_feature(rows, frame.slot, np.array([FIRST_FEATURE_SLOT]))
        self.clear_candidates(rows)
        self._bank.forget_long_term(row, since=frame.index)
        self.last_stamp_ns[row] = frame.stamp_ns

    def tracked(
        self,
        rows: NDArray[np.int64],
        frame: KeptFrame,
        seen: DecodeResult,
        memory_slots: NDArray[np.int64],
    ) -> None:
        """Consider a tracked frame, whose memory the engine has just written to one slot of each row.

        Args:
            rows: int64 [N].
            frame: its features are in the engine.
            seen: what it showed of the rows.
            memory_slots: int64 [N].
        """
        if not self._enabled:
            return
        reliable = (seen.object_score > 0) & (seen.iou > self._min_iou)
        self.clear_candidates(rows[~reliable])
        # Stamps may go back, as when a recording starts over: the wait then starts from there.
        self.last_stamp_ns[rows] = np.minimum(self.last_stamp_ns[rows], frame.stamp_ns)
        due = reliable & (frame.stamp_ns - self.last_stamp_ns[rows] >= self._interval_ns)
        if due.any():
            self._add_candidate(rows[due], frame, memory_slots[due])

    def _add_candidate(
        self, rows: NDArray[np.int64], frame: KeptFrame, memory_slots: NDArray[np.int64]
    ) -> None:
        latest = feature_slots(self._bank.latest_long_term(rows))
        similarity = self._engine.similarity(rows, frame.slot, latest)
        better = similarity < self.best_similarity[rows]
        if better.any():
            self._hold(rows[better], frame, memory_slots[better])
            self.best_similarity[rows[better]] = similarity[better]
        self.candidates[rows] += 1
        self.last_stamp_ns[rows] = frame.stamp_ns
        complete = rows[self.candidates[rows] >= self._wanted]
        self._bank.record_long_term(complete, self.best_frame[complete])
        self.insertions[complete] += 1
        self.clear_candidates(complete)

    def _hold(self, rows: NDArray[np.int64], frame: KeptFrame, memory_slots: NDArray[np.int64]) -> None:
        """Put the best candidate so far into the spare slots."""
        spare = self._bank.spare_long_term(rows)
        self._engine.keep_memory(rows, memory_slots, self._bank.long_term_slots(spare))
        self._engine.keep_feature(rows, frame.slot, feature_slots(spare))
        self.best_frame[rows] = frame.index

    def clear_candidates(self, rows: NDArray[np.int64]) -> None:
        """Begin anew to count candidates in a row, as after a frame that failed."""
        self.candidates[rows] = 0
        self.best_similarity[rows] = NOT_SIMILAR
        self.best_frame[rows] = EMPTY

    def describe(self, row: int) -> str:
        """One line on an object's long-term memory and its candidates."""
        held = ", ".join(map(str, self._bank.long_term_frames(row))) or "none"
        entered = f"long-term frames {held} ({self.insertions[row]} entered)"
        if not self.candidates[row]:
            return f"{entered}; no candidate"
        return (
            f"{entered}; {self.candidates[row]} of {self._wanted} candidates, best frame {self.best_frame[row]} "
            f"with similarity {self.best_similarity[row]:.3f}, last at {self.last_stamp_ns[row]} ns"
        )


def feature_slots(long_term: NDArray[np.int64]) -> NDArray[np.int64]:
    """Feature slots of long-term slots counted from 0; `EMPTY` means the first conditioning frame's."""
    return np.where(long_term == EMPTY, FIRST_FEATURE_SLOT, 1 + long_term)
