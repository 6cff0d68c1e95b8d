"""The streaming tracker: frames in one after another, objects added, corrected and removed at any of them.

A frame's walk: `step` -> features (engine) -> memory read (`memory_bank`) -> masks and memory write
(`propagation`) -> masks at image size (`masks`) -> geometry -> `FrameResult`. Nothing grows with the number
of frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sam2s_ros.engines.base import Engine
from sam2s_ros.tracking.catching_up import CatchingUp
from sam2s_ros.tracking.class_memory import ClassMemory, KnownClasses
from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.errors import ObjectBehindError, PromptError, SnapshotError
from sam2s_ros.tracking.frame_check import check_frame, next_stamp
from sam2s_ros.tracking.image_judge import ImageJudge
from sam2s_ros.tracking.intake import FrameIntake
from sam2s_ros.tracking.kept_frames import KeptFrame, KeptFrames
from sam2s_ros.tracking.kinematics import Kinematics
from sam2s_ros.tracking.listing import list_objects
from sam2s_ros.tracking.long_term import LongTermFilter
from sam2s_ros.tracking.memory_bank import MemoryBank
from sam2s_ros.tracking.object_table import ObjectRecord, ObjectTable
from sam2s_ros.tracking.prompts import Prompt, read_prompt, require_positive
from sam2s_ros.tracking.propagation import Propagator
from sam2s_ros.tracking.reporting import report_frame, report_lost
from sam2s_ros.tracking.result import FrameResult, TrackedObjectInfo
from sam2s_ros.tracking.snapshot import (
    Remembered,
    Snapshot,
    StreamFacts,
    check_snapshot,
    restore_snapshot,
    take_snapshot,
)
from sam2s_ros.tracking.state_keeping import with_doubt
from sam2s_ros.tracking.states import doubted
from sam2s_ros.tracking.stopwatch import Stopwatch
from sam2s_ros.tracking.stream_size import StreamSize


class StreamingTracker:
    """Tracks up to `config.max_objects` objects through one stream of images of one size.

    With `classes`, and an engine whose network has a class token, each object has a class of these.
    Coordinates are pixels of the image, whole numbers being pixel centres. Stamps are any int64
    nanoseconds; frames that come without one count on from the last by `config.frame_interval_s`. The same
    calls give the same results. Not thread-safe: one caller at a time, but for `encode_ahead`.
    """

    def __init__(
        self, engine: Engine, config: TrackerConfig | None = None, classes: KnownClasses | None = None
    ) -> None:
        self.config = config or TrackerConfig()
        self.engine = engine
        expected = self.config.engine_capacity(engine.capacity.recent_slots, engine.capacity.recent_pointers)
        if engine.capacity != expected:
            raise ValueError(f"the engine was made for {engine.capacity}, the tracker needs {expected}")
        self.last_result: FrameResult | None = None
        """All objects on the newest frame."""
        self.last_prompted: FrameResult | None = None
        """The object prompted last, alone, on the frame that it was prompted on."""
        self._frames = KeptFrames(self.config.kept_frames, self.config.kept_ms)
        self._table = ObjectTable(engine.capacity, engine.mask_size, self.config.first_id)
        self._bank = MemoryBank(engine.capacity)
        self._long_term = LongTermFilter(engine, self.config, self._bank)
        self._classes = ClassMemory(self.config, classes)
        self._propagator = Propagator(
            engine, self.config, self._bank, self._long_term, self._classes, self._table
        )
        self._catching_up = CatchingUp(
            self._frames,
            self._table,
            self._propagator,
            lambda frame, records: self._report(frame, records, Stopwatch()),
            self.config.kept_frames,
        )
        self._remembered = Remembered(
            engine, self.config, self._frames, self._table, self._bank, self._long_term, self._classes
        )
        self._judge = ImageJudge(self.config)
        wants_flow = self.config.previous_mask_prompt == "flow"
        self._intake = FrameIntake(engine, self._frames, wants_flow, self._judge.look)
        self._kinematics = Kinematics(self.config)
        self._size = StreamSize(engine.mask_size)
        self._last_stamp_ns: int | None = None

    def reconfigure(self, config: TrackerConfig) -> None:
        """Go on by another config from the next frame on; objects and memory stay.

        Raises:
            ValueError: it differs in a field that is not among `LIVE_SETTINGS`; nothing is changed then.
        """
        config.require_live_change(self.config)
        self.config = config
        self._propagator.reconfigure(config)
        self._judge.reconfigure(config)

    def step(
        self,
        frame_rgb: NDArray[np.uint8],
        stamp_ns: int | None = None,
        copy: bool = True,
        settle: bool = True,
    ) -> FrameResult:
        """Advance by one frame: uint8 [H, W, 3] RGB, which must not change any more if no `copy` of it is kept.

        An image that shows nothing to learn from (`FrameResult.condition`) is not remembered, and no object is
        TRACKING on it. Should the image size have changed while objects are tracked, nothing is tracked: the result has
        all objects LOST and says so in `needs_reset`, from this frame until `reset`.

        Without `settle` the result comes before the engine has written what it remembers of the frame: call `settle`
        once the result is out.

        Raises:
            FrameError: not such an image, or not a stamp.
        """
        watch = Stopwatch()
        size = check_frame(frame_rgb)
        interval_s = self.config.frame_interval_s
        stamp_ns = self._last_stamp_ns = next_stamp(stamp_ns, self._last_stamp_ns, interval_s)
        if self._size.notice(size, tracking=len(self._table) > 0):
            self._forget_frames()
            self._size.set(size)
        if self._size.needs_reset:
            facts = (self._long_term.insertions, self._classes, watch)
            self.last_result = report_lost(self._table, size, stamp_ns, self._size.needs_reset, *facts)
            return self.last_result
        self._catching_up.make_room()
        previous = self._frames.newest_usable
        frame = self._intake.keep(
            frame_rgb,
            stamp_ns,
            lambda look: self._judge.judge(look, frame_rgb, stamp_ns, self._intake.newest_images),
            self._table.lags,
            watch,
            copy,
        )
        with self._forgotten_on_failure():
            self._propagator.track(self._table.live_rows, frame, previous, watch)
        result = self._kinematics.follow(self._report(frame, self._table.records, watch))
        if settle:
            with watch.stage("memorise"):
                self.settle()
        self.last_result = replace(result, timings_ms=watch.timings_ms())
        return self.last_result

    def settle(self) -> None:
        """Have the engine write what it remembers of a frame that was stepped through without `settle`.

        Raises: what the engine does; the frame then shows nothing, as if `step` had failed.
        """
        with self._forgotten_on_failure():
            self._propagator.settle()

    def encode_ahead(self, frame_rgb: NDArray[np.uint8]) -> None:
        """Encode the frame that `step` is given next, so that it need not.

        One other thread may do so while `step` works on the frame before; with the engine's `threads` given, the
        results are the same. What was encoded ahead and is not the very array that `step` is then given is forgotten.

        Raises:
            FrameError: not an image, see `step`.
        """
        check_frame(frame_rgb)
        self._intake.encode_ahead(frame_rgb)

    def add_object(
        self,
        frame_rgb: NDArray[np.uint8] | None,
        mask: ArrayLike | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        name: str = "",
        stamp_ns: int | None = None,
        catch_up: bool = True,
    ) -> int:
        """Start to track an object prompted by a mask, or by points and/or a box; gives its id.

        Which frame is meant: with `frame_rgb` None the kept frame of `stamp_ns`, or the newest without a
        stamp. A `frame_rgb` equal to the newest image means that one; one whose stamp names an older kept
        frame, that; any other is first stepped through like a frame of the stream. An object added on an
        older frame is brought to now through the kept frames, without the others, which do not notice.
        `last_result` then shows it. With `catch_up` False it stays on its frame, shown by `last_prompted`, and
        `advance` brings it to now, between steps of the stream.

        Args:
            mask: bool or uint8 [H, W]. points: [K, 2] x, y. labels: [K], 1 on the object, 0 off it.
            box: x0, y0, x1, y1.

        Raises:
            PromptError, TooManyObjectsError, UnknownStampError, ImageSizeChangedError, FrameError: refused, and
                nothing was changed.
        """
        self._table.require_room()
        prompt = read_prompt(self._prompted_size(frame_rgb), mask, points, labels, box)
        require_positive(prompt)
        frame = self._meant_frame(frame_rgb, stamp_ns)
        record = self._table.add(name, frame)
        self._forget_row(record.row)
        try:
            self._prompt(record, frame, prompt)
            if catch_up:
                self._bring_to(record, self._frames.newest)
        except BaseException:
            self._table.withdraw(record)
            raise
        return record.id

    def refine_object(
        self,
        object_id: int,
        frame_rgb: NDArray[np.uint8] | None = None,
        mask: ArrayLike | None = None,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        stamp_ns: int | None = None,
        catch_up: bool = True,
    ) -> None:
        """Correct an object on a frame, chosen as in `add_object`, which its memory then keeps as prompted.

        Clicks correct the mask that the frame had, and add to clicks given before on the same frame. What
        followed on kept frames is tracked again, without the others, at once or, with `catch_up` False, by `advance`.
        Until it has come to now again it has no mask there: the old one is what was corrected.

        Raises:
            UnknownObjectError: no such object.
            ObjectBehindError: it has not come to the frame yet; only with `catch_up` False.
            PromptError: also for a frame older than the object; and the other errors of `add_object`.
        """
        record = self._table.get(object_id)
        prompt = read_prompt(self._prompted_size(frame_rgb), mask, points, labels, box)
        frame = self._meant_frame(frame_rgb, stamp_ns, since=record.first.index)
        if catch_up:
            self._bring_to(record, frame)
        elif behind := self._catching_up.behind(record, frame):
            raise ObjectBehindError(
                f"object {object_id} is still {behind} frames behind the one stamped {frame.stamp_ns} ns, on its way "
                "from an earlier prompt; advance() it there first"
            )
        self._prompt(record, frame, prompt)
        if catch_up:
            self._bring_to(record, self._frames.newest)

    def advance(self, frames: int) -> int:
        """Bring objects prompted with `catch_up` False nearer to the newest frame; how far the last is behind.

        The engine tracks through at most `frames` frames, those of the objects furthest behind first, several objects
        on one frame together. With at least 2 after each `step` they gain on the stream. Once an object is there,
        `last_result` shows it and it goes along with the stream. When its turns come does not change its masks (but
        for rounding in batches of another size). No kept frame is lost to it: without these calls, `step` makes them.

        Raises: what the engine does. The objects that were at a frame on which it failed are then behind by this one
            less, which they leave out.
        """
        if not self._size.needs_reset:
            self._catching_up.go_on(frames, self._show_newest)
        return self._catching_up.furthest(self._table.records)

    def frames_behind(self, object_id: int) -> int:
        """How many kept frames an object has yet to come through; UnknownObjectError when there is no such object."""
        return self._catching_up.behind(self._table.get(object_id), self._frames.newest)

    def remove_object(self, object_id: int) -> None:
        """Stop tracking an object; its id is not used again. UnknownObjectError when there is no such
        object."""
        self._forget_row(self._table.remove(object_id).row)
        if self._size.needs_reset and not len(self._table):
            self.reset()
        elif self.last_result is not None:
            self.last_result = self.last_result.without(object_id)

    def rename_object(self, object_id: int, name: str) -> None:
        """Give an object another name. UnknownObjectError when there is no such object."""
        self._table.get(object_id).name = name
        self.last_result = self.last_result and self.last_result.renamed(object_id, name)

    def reset_object(self, object_id: int) -> None:
        """Take an object back to its first prompted frame and look for it on the newest one.

        What its memory, its class and its last sight have taken in since, later prompts included, is forgotten. It is
        UNCERTAIN or worse until `recover_frames` good frames follow.

        Raises:
            UnknownObjectError: no such object.
            PromptError: no frame is kept. ImageSizeChangedError: the stream needs a `reset` first.
        """
        record, newest = self._table.get(object_id), self._frames.newest
        self._prompted_size(None)
        assert newest is not None  # _prompted_size saw to it
        record.lag = None  # what it would have learnt on its way is forgotten with the rest
        self._bank.forget_since_first(record.row)
        self._long_term.conditioned(record.row, record.first, first=False)
        self._classes.clear(record.row)
        self._table.back_to_first(record)
        record.judgement = doubted(None, newest.index, "taken back to its first prompt")
        watch = Stopwatch()
        if newest.index > record.first.index:
            self._propagator.track(np.array([record.row]), newest, None, watch)
            self._propagator.settle()
        self.last_result = self._report(newest, self._table.records, watch)

    def doubt(self, reason: str) -> None:
        """Make every object UNCERTAIN or worse until `recover_frames` good frames follow, as after a pause."""
        if self.last_result is None or self._size.needs_reset:
            return
        for record in self._table.records:
            record.judgement = doubted(record.judgement, self.last_result.frame_index, reason)
        self.last_result = with_doubt(self.last_result, reason)
        self.last_prompted = self.last_prompted and with_doubt(self.last_prompted, reason)

    def reset(self) -> None:
        """Forget all objects and frames; the next frame may have any size. Ids and frame numbers go on."""
        for record in self._table.records:
            self._forget_row(record.row)
        self._table.clear()
        self._forget_frames()
        self._size.needs_reset = ""
        self.last_result = self.last_prompted = None

    def take_snapshot(self) -> Snapshot:
        """A copy of what is remembered of all objects, from which a tracker of the same model can go on.

        SnapshotError without objects, and while a reset is needed.
        """
        if self._size.needs_reset:
            raise SnapshotError(self._size.needs_reset)
        size, tissue = self._size.image_size, self._judge.usual_tissue
        return take_snapshot(self._remembered, StreamFacts(size, self._last_stamp_ns, tissue))

    def check_snapshot(self, snapshot: Snapshot) -> None:
        """SnapshotError when it is from another model, or from a tracker with another or a larger memory."""
        check_snapshot(self._remembered, snapshot)

    def restore_snapshot(self, snapshot: Snapshot, spare_ids: int = 0) -> None:
        """Track a snapshot's objects from the next frame on, instead of those that there are.

        Ids, frame numbers and stamps go on from the snapshot's, after leaving out `spare_ids` ids. Objects are not
        TRACKING until `restore_confirm_frames` frames have shown them well. No prompt may refer to an earlier frame.

        Raises:
            SnapshotError: it does not fit, and nothing was changed.
        """
        with self._intake.alone():
            stream = restore_snapshot(self._remembered, snapshot, spare_ids)
            self._intake.begin_anew()
        self._kinematics.reset()
        self._judge.resume(stream.usual_tissue)
        self._size.set(stream.image_size)
        self._last_stamp_ns = stream.last_stamp_ns
        self.last_result = self.last_prompted = None

    def objects(self) -> list[TrackedObjectInfo]:
        """All objects by ascending id, as of the newest frame."""
        records = self._table.records
        behind = self._catching_up.all_behind(records, self._frames.newest)
        return list_objects(records, behind, self.last_result, self._bank, self._long_term)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class bank [K]; empty where the network, or the tracker, has none."""
        return self._classes.names

    @property
    def next_id(self) -> int:
        """Id that the next object gets."""
        return self._table.next_id

    def kept_stamps_ns(self) -> list[int]:
        """Stamps of the frames that a prompt may refer to, oldest first."""
        return self._frames.stamps_ns()

    def _forget_row(self, row: int) -> None:
        self._bank.clear(row)
        self._long_term.clear(row)
        self._classes.clear(row)

    def _forget_frames(self) -> None:
        with self._intake.alone():
            self._frames.clear()
            self._intake.begin_anew()
        self._kinematics.reset()
        self._judge.reset()

    @contextmanager
    def _forgotten_on_failure(self) -> Iterator[None]:
        """A newest frame on which the engine fails shows nothing: no prompt may refer to it or pass through it."""
        try:
            yield
        except BaseException:
            self._frames.drop_newest()
            self._catching_up.newest_dropped()
            self._intake.forget_newest()
            raise

    def _prompted_size(self, frame_rgb: NDArray[np.uint8] | None) -> tuple[int, int]:
        """The size of the image to be prompted. Refuses what cannot be prompted at all."""
        self._size.require_reset_done()
        if frame_rgb is not None:
            return self._size.require_same(frame_rgb, tracking=len(self._table) > 0)
        if self._frames.newest is None:
            raise PromptError("no frame has been tracked yet; give frame_rgb, or step() a frame first")
        return self._size.image_size

    def _meant_frame(
        self, frame_rgb: NDArray[np.uint8] | None, stamp_ns: int | None, since: int = 0
    ) -> KeptFrame:
        """The kept frame that a prompt is for, none before number `since`; a new image is stepped through
        first."""
        newest = self._frames.newest
        if newest is None or (frame_rgb is not None and self._is_new_image(frame_rgb, stamp_ns, newest)):
            assert frame_rgb is not None  # _prompted_size saw to it
            self.step(frame_rgb, stamp_ns)
            newest, stamp_ns = self._frames.newest, None
        assert newest is not None
        frame = newest if stamp_ns is None else self._frames.find(stamp_ns)
        if frame.index < since:
            raise PromptError(
                f"the object was added on a later frame than the one stamped {frame.stamp_ns} ns; "
                "refine it on the frame on which it was added, or after"
            )
        return frame

    def _is_new_image(self, frame_rgb: NDArray[np.uint8], stamp_ns: int | None, newest: KeptFrame) -> bool:
        if check_frame(frame_rgb) != self._size.image_size:
            return True
        if stamp_ns is not None and stamp_ns != newest.stamp_ns:
            return stamp_ns not in self._frames.stamps_ns()
        return not np.array_equal(frame_rgb, self._intake.newest_image)

    def _prompt(self, record: ObjectRecord, frame: KeptFrame, prompt: Prompt) -> None:
        """Prompt one object on a kept frame, on which it stays unless that is the newest."""
        watch = Stopwatch()
        with watch.stage("prompt"):
            self._propagator.prompt(record, frame, prompt, self._size.image_size)
        record.judgement = None
        self._judge.accept()
        self._catching_up.begin(record, frame)
        newest = self._show_newest(watch)
        shown = newest if record.lag is None else self._report(frame, [record], Stopwatch())
        self.last_prompted = shown.only(record.id)

    def _bring_to(self, record: ObjectRecord, frame: KeptFrame | None) -> None:
        """Track one object, without the others, through all frames up to this one."""
        watch = Stopwatch()
        try:
            self._catching_up.bring(record, frame, watch)
        finally:
            self._show_newest(watch)

    def _show_newest(self, watch: Stopwatch) -> FrameResult:
        """All objects on the newest frame."""
        newest = self._frames.newest
        assert newest is not None
        self.last_result = self._kinematics.follow(self._report(newest, self._table.records, watch))
        return self.last_result

    def _report(self, frame: KeptFrame, records: list[ObjectRecord], watch: Stopwatch) -> FrameResult:
        upsampler, insertions = self._size.upsampler, self._long_term.insertions
        facts = (self._table, upsampler, insertions, self._classes, self.config)
        return report_frame(frame, records, *facts, self._catching_up.all_behind(records, frame), watch)
