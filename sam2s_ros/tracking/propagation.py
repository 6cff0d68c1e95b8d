"""One frame of some objects through the engine: either tracked, or prompted.

Source: SAM 2 `track_step` and `SAM2VideoPredictor`, batched over objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import ABSENT_LOGIT, DROPPED_LOGIT, DecodeResult, Engine
from sam2s_ros.tracking.automatic_prompt import NO_PROMPT, automatic_prompts
from sam2s_ros.tracking.class_memory import ClassMemory
from sam2s_ros.tracking.components import keep_own_components_batch
from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.kept_frames import KeptFrame
from sam2s_ros.tracking.long_term import LongTermFilter
from sam2s_ros.tracking.memory_bank import EMPTY, MemoryBank
from sam2s_ros.tracking.object_table import ObjectRecord, ObjectTable, rows_of
from sam2s_ros.tracking.overlaps import FRESH_FRAMES, losing_twins, pairwise_iou
from sam2s_ros.tracking.prompts import Prompt, to_model_mask, to_prompt_batch
from sam2s_ros.tracking.stopwatch import Stopwatch


class Propagator:
    """Moves rows of the table from frame to frame. The features of the frame must be in the engine."""

    def __init__(
        self,
        engine: Engine,
        config: TrackerConfig,
        bank: MemoryBank,
        long_term: LongTermFilter,
        classes: ClassMemory,
        table: ObjectTable,
    ) -> None:
        self._engine = engine
        self._config = config
        self._bank = bank
        self._long_term = long_term
        self._classes = classes
        self._table = table
        self._unsettled: tuple[NDArray[np.int64], KeptFrame] | None = None
        self._stray_distance = round(config.stray_distance * engine.mask_size)

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on by another config that differs in `LIVE_SETTINGS` only."""
        self._config = config

    def track(
        self, rows: NDArray[np.int64], frame: KeptFrame, previous: KeptFrame | None, watch: Stopwatch
    ) -> None:
        """Find the rows' objects on a frame from their memory, and add the frame to it if its image shows something.

        The frame's memory need not be written when this returns (`settle`). Where the engine fails, nothing is known of
        the rows on that frame.
        """
        self.settle()
        if not len(rows):
            return
        try:
            self._track(rows, frame, previous, watch)
        except BaseException:
            self._forget(rows, frame)
            raise

    def _track(
        self, rows: NDArray[np.int64], frame: KeptFrame, previous: KeptFrame | None, watch: Stopwatch
    ) -> None:
        before = None if previous is None else self._table.observation(rows, previous).logits > 0
        with watch.stage("attend"):
            self._engine.attend(rows, frame.slot, self._bank.read(rows, frame.index, frame.clock))
        since_prompt = self._table.since_prompt(rows, frame)
        asked = self._classes.due(rows, self._table.ids(rows), frame.index, since_prompt)
        with watch.stage("decode"):
            seen = self._decode(rows, frame, before, previous, asked)
        with watch.stage("memorise"):
            seen, keep = self._clean(seen, before)
            if self._config.drop_twins and self._classes.names and frame.condition.usable:
                seen = self._without_twins(rows, frame, seen, since_prompt <= FRESH_FRAMES)
            if frame.condition.usable:
                slots = self._bank.recent_slots(rows, frame.clock)
                self._engine.memorise(rows, frame.slot, slots.memory, slots.pointer, keep)
                self._unsettled = rows, frame
                self._bank.record_recent(rows, frame.clock, slots)
                self._long_term.tracked(rows, frame, seen, slots.memory)
        if frame.condition.usable and seen.embedding is not None:
            self._classes.observe(rows, frame.index, seen, since_prompt)
        self._table.observe(rows, frame, seen, is_sight=frame.condition.usable)

    def settle(self) -> None:
        """Have the engine write what `track` left to it. Where it fails, nothing is known of the rows on that frame."""
        unsettled, self._unsettled = self._unsettled, None
        try:
            self._engine.settle()
        except BaseException:
            if unsettled is not None:
                self._forget(*unsettled)
            raise

    def _forget(self, rows: NDArray[np.int64], frame: KeptFrame) -> None:
        """What the engine may have written of a frame on which it failed is no memory."""
        self._unsettled = None
        self._table.forget(rows, frame)
        self._bank.forget_recent(rows, frame.clock)
        self._long_term.clear_candidates(rows)

    def prompt(
        self, record: ObjectRecord, frame: KeptFrame, prompt: Prompt, image_size: tuple[int, int]
    ) -> None:
        """Find one object on a frame from a prompt; the frame becomes a conditioning frame of its memory."""
        self.settle()
        rows = np.array([record.row], dtype=np.int64)
        if record.prompt_frame == frame.index:
            prompt = prompt.following(record.prompt)
        seen = self._answer(rows, frame, prompt, image_size)
        slots = self._bank.conditioning_slots(record.row, frame.index)
        self._engine.memorise(rows, frame.slot, slots.memory, slots.pointer, from_points=prompt.mask is None)
        self._engine.settle()
        ring_entry = frame.clock if frame.condition.usable else EMPTY
        self._bank.record_conditioning(record.row, frame.index, slots, ring_entry)
        self._long_term.conditioned(record.row, frame, first=frame.index == record.first.index)
        self._classes.observe(rows, frame.index, seen, np.zeros_like(rows))
        self._table.observe(rows, frame, seen)
        record.prompt, record.prompt_frame = prompt, frame.index

    def catch_up(
        self,
        records: Sequence[ObjectRecord],
        frame: KeptFrame,
        previous: KeptFrame | None,
        watch: Stopwatch,
    ) -> None:
        """Take objects that follow the stream later through one of its frames. What was prompted there stays, as in
        SAM 2. Where the engine fails, nothing is known of the others on that frame."""
        there = [frame.index in self._bank.conditioning_frames(record.row) for record in records]
        for record in (one for one, prompted in zip(records, there, strict=True) if prompted):
            self._table.note_seen(rows_of([record]), frame)
            self._long_term.conditioned(record.row, frame, first=False)
        rows = rows_of([one for one, prompted in zip(records, there, strict=True) if not prompted])
        if not len(rows):
            return
        self.track(rows, frame, previous, watch)
        self.settle()

    def _answer(
        self, rows: NDArray[np.int64], frame: KeptFrame, prompt: Prompt, image_size: tuple[int, int]
    ) -> DecodeResult:
        """A mask is the answer itself; clicks correct what the frame showed before, if anything."""
        engine = self._engine
        if prompt.mask is not None:
            return engine.decode_mask(rows, frame.slot, to_model_mask(prompt.mask, engine.image_size)[None])
        read = self._bank.read(rows, frame.index, frame.clock)
        engine.attend(rows, frame.slot, read if self._bank.has_memory(read) else None)
        previous = frame.slot if self._table.was_observed(rows, frame).all() else None
        return engine.decode(
            rows, frame.slot, to_prompt_batch(prompt, image_size, engine.image_size, previous)
        )

    def _decode(
        self,
        rows: NDArray[np.int64],
        frame: KeptFrame,
        before: NDArray[np.bool_] | None,
        previous: KeptFrame | None,
        asked: NDArray[np.bool_],
    ) -> DecodeResult:
        """Masks of all rows, with the previous mask as prompt where the settings say so, and classes as `asked`."""
        mode = self._config.previous_mask_prompt
        if mode == "off" or before is None or previous is None:
            return self._engine.decode(rows, frame.slot, NO_PROMPT, asked)
        if mode in ("mask", "flow") and not previous.in_engine:
            return self._engine.decode(rows, frame.slot, NO_PROMPT, asked)
        groups = automatic_prompts(mode, before, previous.slot, self._engine.image_size, frame.flow)
        seen = [
            self._engine.decode(rows[chosen], frame.slot, batch, asked[chosen]) for chosen, batch in groups
        ]
        order = np.argsort(np.concatenate([chosen for chosen, _ in groups]))
        embeddings = [one.embedding for one in seen if one.embedding is not None]
        return DecodeResult(
            logits=np.concatenate([one.logits for one in seen])[order],
            iou=np.concatenate([one.iou for one in seen])[order],
            object_score=np.concatenate([one.object_score for one in seen])[order],
            embedding=np.concatenate(embeddings)[order] if embeddings else None,
        )

    def _without_twins(
        self, rows: NDArray[np.int64], frame: KeptFrame, seen: DecodeResult, fresh: NDArray[np.bool_]
    ) -> DecodeResult:
        """The same with those out of view whose mask is, by its class, another object's; for the engine too."""
        config, iou = self._config, pairwise_iou(seen.logits > 0)
        most = iou.max(axis=1)
        twins = self._classes.contested[rows] = most > config.twin_iou
        if not twins.any():
            return seen
        lost = losing_twins(iou, self._classes.odds(rows, seen), fresh, config.twin_iou)
        if not lost.any():
            return seen
        owners = np.where(lost, 0.0, iou).argmax(axis=1)
        self._table.note_twins(rows[lost], frame, rows[owners[lost]], most[lost])
        self._engine.mark_absent(rows[lost], frame.slot)
        return replace(
            seen,
            logits=np.where(lost[:, None, None], np.float32(ABSENT_LOGIT), seen.logits),
            object_score=np.where(lost, -np.abs(seen.object_score), seen.object_score),
        )

    def _clean(
        self, seen: DecodeResult, before: NDArray[np.bool_] | None
    ) -> tuple[DecodeResult, NDArray[np.bool_] | None]:
        """The result without stray components and overlaps, as the settings say, and where the engine shall keep the
        mask (None: everywhere)."""
        keep, logits = None, seen.logits
        if self._config.drop_stray_components:
            masks = seen.logits > 0
            none = np.zeros_like(masks)
            keep = keep_own_components_batch(masks, none if before is None else before, self._stray_distance)
            logits = dropped(logits, keep)
        if self._config.exclusive_masks:
            alone = without_overlaps(logits)
            claims = (logits <= 0) | (alone > 0)
            if not claims.all():
                keep = claims if keep is None else keep & claims
            logits = alone
        if logits is seen.logits:
            return seen, None
        return replace(seen, logits=logits), keep


def without_overlaps(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Limit logits [N, h, w] of N objects so that at most one is positive anywhere, interpolation included.

    Where an object's logit is the highest and positive, the others are at most its negative. Nothing else changes.
    Source: SAM 2 `_apply_non_overlapping_constraints`, which sets them to -10 and so leaves gaps along borders.
    """
    if len(logits) < 2:
        return logits
    owner = logits.argmax(axis=0)
    highest = np.take_along_axis(logits, owner[None], axis=0)
    others = (owner != np.arange(len(logits))[:, None, None]) & (highest > 0)
    return np.where(others, np.minimum(logits, -highest), logits)


def dropped(logits: NDArray[np.float32], keep: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """The logits with everything outside of `keep` turned into background."""
    return logits if keep is None else np.where(keep, logits, np.minimum(logits, np.float32(DROPPED_LOGIT)))
