"""The tracker's memory on disk: saved while the stream goes on, and taken up again by a node that starts anew.

A snapshot is taken by the worker between two frames, which copies what the next frame would read, and written by a
thread of its own; while that is still writing, the next one waits for a later frame, so a slow disk costs freshness and
no step. What is found on configure waits for the first image, since only that shows whether it is from the same camera.
Nothing here keeps the node from tracking: what cannot be saved or restored is logged, with the reason.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from sam2s_ros.nodes.audit_log import AuditLog
from sam2s_ros.nodes.background import BackgroundThread
from sam2s_ros.nodes.result_publisher import ResultPublisher
from sam2s_ros.nodes.settings import NodeSettings
from sam2s_ros.tracking import Snapshot, SnapshotError, StreamingTracker
from sam2s_ros.tracking.snapshot import snapshot_age_s
from sam2s_ros.tracking.snapshot_files import STARTS, FoundFile, SnapshotFolder

DISK_TIMEOUT_S = 10.0
FAILURE_PERIOD_S = 10.0
SPARE_IDS = 100
"""Ids left out for each start of the node that may have added objects after the snapshot."""
OFF = "snapshots are off: set the parameter snapshot_dir to a folder"


class PromptCounts(Protocol):
    """Who counts the prompts of each object, on the worker's thread."""

    def prompt_counts(self, ids: Sequence[int]) -> dict[int, int]:
        """Of these objects, by id."""

    def restore_counts(self, counts: Mapping[int, int]) -> None:
        """Those of a snapshot's objects, in the place of all others."""


class SnapshotHost(Protocol):
    """What is needed of the node."""

    def run_between_frames(self, job: Callable[[StreamingTracker], Any]) -> Any:
        """Run the job on the tracker's thread; WorkerStoppedError, WorkerTimeoutError, or what it raises."""

    def image_topic(self) -> str:
        """Where images are expected."""


@dataclass(frozen=True)
class Camera:
    """What an image says of where it comes from: its topic and frame_id, and its height and width."""

    topic: str
    frame_id: str
    image_size: tuple[int, int]

    def __str__(self) -> str:
        height, width = self.image_size
        return f"{self.topic}, frame_id '{self.frame_id}', {width} x {height}"


@dataclass(frozen=True)
class _NodeFacts:
    """What the node knows of a snapshot. start: `SnapshotFolder.start` when it was taken; final: nothing was tracked in
    that start after it. labels, given classes and numbers of prompts are by id.
    """

    camera: Camera
    session: str
    start: int
    final: bool
    labels: dict[int, int]
    class_names: dict[int, str]
    prompts: dict[int, int]


@dataclass(frozen=True)
class _Waiting:
    """Snapshots that wait for an image, best first; what came of it; until when, in seconds of the monotonic clock."""

    found: Sequence[FoundFile]
    outcome: Future[str]
    until_s: float


class Snapshots:
    """From configure to cleanup. `restore_if_due` and `save_if_due` are called by the worker alone, around each frame.

    Makes the services ~/save_snapshot and ~/restore_snapshot, whose calls are written to the audit log on their own
    threads.
    """

    def __init__(
        self,
        node: Node,
        host: SnapshotHost,
        settings: NodeSettings,
        results: ResultPublisher,
        prompts: PromptCounts,
        audit: AuditLog,
    ) -> None:
        self._node, self._host, self._settings, self._results = node, host, settings, results
        self._prompts, self._audit = prompts, audit
        self._folder = snapshot_folder(settings.snapshot_dir, node.get_fully_qualified_name())
        self._disk = BackgroundThread("snapshots")
        self._camera: Camera | None = None
        self._lock = threading.Lock()
        self._waiting: _Waiting | None = None
        self._writing: Future[Path] | None = None
        self._saved_s = float("-inf")
        self._saved_objects: tuple[Any, ...] = ()
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(Trigger, "~/save_snapshot", self._on_save, callback_group=group),
            node.create_service(Trigger, "~/restore_snapshot", self._on_restore, callback_group=group),
        ]

    def find(self, loading_s: float) -> None:
        """On configure, which began `loading_s` ago: let what was young then wait for the first image."""
        if self._folder is None:
            return
        try:
            found = self._disk.submit(self._folder.read).result(DISK_TIMEOUT_S)
        except Exception as error:  # whatever it is, the node tracks without
            self._node.get_logger().error(f"snapshots cannot be used: {_text(error)}")
            return
        young = []
        for one in found:
            if reason := self._why_not_young(one, loading_s):
                self._node.get_logger().warning(f"snapshot {one.path} not restored: {reason}")
            else:
                young.append(one)
        if young:
            self._wait_for_image(young, self._settings.snapshot_max_age_s)

    def restore_if_due(self, tracker: StreamingTracker, camera: Camera) -> int | None:
        """Before an image is tracked: restore what waits for one, if it fits.

        Gives the stamp in nanoseconds of the last image that the restored objects have seen; None if there are none.
        """
        self._camera = camera
        waiting = self._take_waiting()
        if waiting is None or not waiting.outcome.set_running_or_notify_cancel():
            return None
        in_time = time.monotonic() <= waiting.until_s
        reasons = [] if in_time else ["no image came in time"]
        for one in waiting.found if in_time else ():
            try:
                message = self._restore(tracker, one, camera)
            except SnapshotError as error:
                reasons.append(f"{one.path.name}: {error}")
                continue
            except BaseException as error:
                waiting.outcome.set_exception(error)
                raise
            message = "; ".join([message, *(f"refused {reason}" for reason in reasons)])
            self._node.get_logger().info(message)
            self._saved_objects = (one.path,)  # so that what becomes of them is saved or removed at once
            waiting.outcome.set_result(message)
            assert one.snapshot is not None
            return int(one.snapshot.facts["stream"]["last_stamp_ns"] or 0)
        message = f"no snapshot restored: {'; '.join(reasons)}"
        self._node.get_logger().warning(message)
        waiting.outcome.set_exception(SnapshotError(message))
        return None

    def save_if_due(self, tracker: StreamingTracker) -> None:
        """Between two frames: save when the period has passed, and at once when other objects are tracked than before.

        A set of objects without any is not saved: its files are removed.
        """
        result = tracker.last_result
        if self._folder is None or self._camera is None or result is None or result.needs_reset:
            return
        objects = (result.ids.tobytes(), result.names)
        now_s = time.monotonic()
        if objects == self._saved_objects and now_s - self._saved_s < self._settings.snapshot_period_s:
            return
        if self._writing is not None and not self._writing.done():
            return
        if not len(result.ids):
            if self._saved_objects and self._saved_objects != objects:
                self._disk.submit(self._folder.delete).add_done_callback(self._log_failure)
            self._saved_objects = objects
            return
        self._saved_s, self._saved_objects = now_s, objects
        self._write(self._take(tracker))

    def finish(self, tracker: StreamingTracker) -> None:
        """The stream ends: save its objects once more, on the worker's thread, and wait until that is written."""
        self._withdraw("the node was deactivated")
        if self._folder is not None and self._camera is not None and tracker.objects():
            try:
                self._write(self._take(tracker, final=True)).result(DISK_TIMEOUT_S)
            except Exception as error:
                self._node.get_logger().error(f"the last snapshot was not written: {_text(error)}")
        self._camera, self._saved_s, self._saved_objects = None, float("-inf"), ()

    def delete(self) -> str:
        """After a reset: forget what waits and remove the files. What to tell the client; empty if there were none."""
        self._withdraw("the tracker was reset")
        if self._folder is None:
            return ""
        try:
            removed = self._disk.submit(self._folder.delete).result(DISK_TIMEOUT_S)
        except (OSError, SnapshotError, FutureTimeoutError) as error:
            self._node.get_logger().error(f"snapshots could not be removed: {_text(error)}")
            return f"; its snapshots could not be removed: {_text(error)}"
        return f"; {removed} snapshots removed" if removed else ""

    def destroy(self) -> None:
        """Remove the services, let go of the folder."""
        for service in self._services:
            self._node.destroy_service(service)
        if self._folder is not None:
            with contextlib.suppress(FutureTimeoutError):
                self._disk.submit(self._folder.close).result(DISK_TIMEOUT_S)
        self._disk.stop()

    def _take(self, tracker: StreamingTracker, final: bool = False) -> Snapshot:
        """What is written: the tracker's memory, and what the node knows of its objects."""
        if self._camera is None:
            raise SnapshotError(
                f"no image has arrived yet on {self._host.image_topic()}: there is nothing to save"
            )
        snapshot = tracker.take_snapshot()
        snapshot.facts["node"] = {
            "topic": self._camera.topic,
            "frame_id": self._camera.frame_id,
            "session": self._results.session,
            "start": self._folder.start if self._folder is not None else 0,
            "final": final,
            "labels": {str(one): self._results.label(one) for one in snapshot.ids},
            "class_names": {str(one): self._results.class_name(one) for one in snapshot.ids},
            "prompts": {str(key): count for key, count in self._prompts.prompt_counts(snapshot.ids).items()},
        }
        return snapshot

    def _write(self, snapshot: Snapshot) -> Future[Path]:
        folder = self._folder
        assert folder is not None
        self._writing = self._disk.submit(lambda: folder.write(snapshot))
        self._writing.add_done_callback(self._log_failure)
        return self._writing

    def _log_failure(self, done: Future[Any]) -> None:
        if (error := done.exception()) is not None:
            self._node.get_logger().error(
                f"snapshots: {_text(error)}; tracking goes on without", throttle_duration_sec=FAILURE_PERIOD_S
            )

    def _restore(self, tracker: StreamingTracker, one: FoundFile, camera: Camera) -> str:
        """Restore one file into the tracker, or raise SnapshotError saying why it does not fit."""
        if one.snapshot is None:
            raise SnapshotError(one.refusal)
        known = _read_facts(one.snapshot)
        if known.camera != camera:
            raise SnapshotError(
                f"it is from another camera or image size ({known.camera}; the images here: {camera})"
            )
        tracker.restore_snapshot(one.snapshot, SPARE_IDS * self._unsaved_starts(one.path, known))
        self._results.go_on_as(known.session, known.labels)
        self._audit.go_on_as(known.session)
        self._prompts.restore_counts(known.prompts)
        for object_id, class_name in known.class_names.items():
            self._results.set_class_name(object_id, class_name)
        names = ", ".join(f"{info.id} '{info.name}'" for info in tracker.objects())
        return (
            f"restored {names} from {one.path.name}, {snapshot_age_s(one.snapshot):.1f} s old; not TRACKING "
            f"before {self._settings.restore_confirm_frames} good images in a row"
        )

    def _unsaved_starts(self, path: Path, known: _NodeFacts) -> int:
        """How many starts before this one may have given ids that the snapshot does not know."""
        assert self._folder is not None
        since = self._folder.start - known.start  # 0: this start took it, and knows its own ids
        if since < 0:
            raise SnapshotError(
                f"it is from start {known.start}, and {path.with_name(STARTS)} counts {self._folder.start}: the file "
                f"was lost or the snapshot copied; write {known.start} into it, so that no id is given twice"
            )
        return max(0, since - known.final)

    def _why_not_young(self, one: FoundFile, loading_s: float) -> str:
        if one.snapshot is None:
            return one.refusal
        age_s, most_s = snapshot_age_s(one.snapshot), self._settings.snapshot_max_age_s
        if age_s < 0:
            return (
                f"it is from {-age_s:.1f} s in the future: a clock was changed (~/restore_snapshot takes it)"
            )
        if age_s - loading_s > most_s:
            return f"it is {age_s:.1f} s old, snapshot_max_age_s is {most_s:g} (~/restore_snapshot takes it)"
        return ""

    def _wait_for_image(self, found: Sequence[FoundFile], timeout_s: float) -> Future[str]:
        waiting = _Waiting(found, Future(), time.monotonic() + timeout_s)
        with self._lock:
            self._waiting = waiting
        return waiting.outcome

    def _take_waiting(self) -> _Waiting | None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
        return waiting

    def _withdraw(self, reason: str) -> None:
        """Nothing waits for an image any more."""
        waiting = self._take_waiting()
        if waiting is not None and waiting.outcome.set_running_or_notify_cancel():
            waiting.outcome.set_exception(SnapshotError(f"no snapshot restored: {reason}"))

    def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def save() -> str:
            written = self._host.run_between_frames(lambda tracker: self._write(self._take(tracker)))
            return f"written to {written.result(DISK_TIMEOUT_S)}"

        return self._answer("save_snapshot", save, response)

    def _on_restore(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def restore() -> str:
            assert self._folder is not None
            self._host.run_between_frames(lambda tracker: None)  # refused by a node that is not active
            found = self._disk.submit(self._folder.read).result(DISK_TIMEOUT_S)
            if not found:
                raise SnapshotError(f"there is no snapshot in {self._folder.path}")
            self._withdraw("another call took its place")
            timeout_s = self._settings.service_timeout_s
            outcome = self._wait_for_image(found, timeout_s)
            try:
                return outcome.result(timeout_s)
            except FutureTimeoutError:
                if not outcome.cancel():
                    return outcome.result(DISK_TIMEOUT_S)
                topic = self._host.image_topic()
                raise SnapshotError(
                    f"no image came on {topic} within {timeout_s:g} s, and only an image shows whether it is of the "
                    "same camera: start the camera"
                ) from None

        return self._answer("restore_snapshot", restore, response)

    def _answer(self, what: str, run: Callable[[], str], response: Trigger.Response) -> Trigger.Response:
        try:
            if self._folder is None:
                raise SnapshotError(OFF)
            response.message, response.success = run(), True
            self._node.get_logger().info(f"{what}: {response.message}")
        except Exception as error:
            response.message, response.success = _text(error), False
            self._node.get_logger().warning(f"{what} refused: {response.message}")
        outcome = "done" if response.success else "REFUSED"
        facts = {"client": "", "request": {}, "outcome": outcome, "message": response.message}
        if trouble := self._audit.write(what, facts):
            response.message += f" ({trouble})"
        return response


def snapshot_folder(base: str, node_name: str) -> SnapshotFolder | None:
    """The folder of one node, named after all of its name, so that /left/tracker has another than /right/tracker."""
    if not base:
        return None
    return SnapshotFolder(Path(base).expanduser().absolute() / node_name.strip("/").replace("/", "."))


def _read_facts(snapshot: Snapshot) -> _NodeFacts:
    """What the node wrote of it; SnapshotError for a snapshot that another program took."""
    try:
        facts = snapshot.facts["node"]
        return _NodeFacts(
            Camera(facts["topic"], facts["frame_id"], snapshot.image_size),
            str(facts["session"]),
            int(facts["start"]),
            bool(facts["final"]),
            {int(key): int(label) for key, label in facts["labels"].items()},
            {int(key): str(name) for key, name in facts["class_names"].items()},
            {
                int(key): int(count) for key, count in facts.get("prompts", {}).items()
            },  # older ones do not say
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"it does not say which camera it is from: {error}") from error


def _text(error: BaseException) -> str:
    if isinstance(error, FutureTimeoutError):
        return f"the disk did not answer within {DISK_TIMEOUT_S:g} s"
    return str(error) or type(error).__name__
