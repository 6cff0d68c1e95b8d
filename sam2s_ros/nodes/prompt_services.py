"""The services of the node: prompts, names, removal, listing, pause, reset. Each call runs between two frames."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from sam2s_msgs.msg import ErrorCode, ObjectSummary
from sam2s_msgs.srv import (
    AddObject,
    ListObjects,
    PauseTracking,
    RefineObject,
    RemoveObject,
    RenameObject,
    ResetObject,
    ResumeTracking,
)
from sam2s_ros.nodes.audit_log import AuditLog, audit_facts
from sam2s_ros.nodes.call_log import CallLog
from sam2s_ros.nodes.counted import counted
from sam2s_ros.nodes.executor import QuickGroup
from sam2s_ros.nodes.frame_worker import WorkerStoppedError, WorkerTimeoutError
from sam2s_ros.nodes.messages import mask_summary, ns_to_stamp, stamp_to_ns, unknown_summary
from sam2s_ros.nodes.prompts import prompt_from_message
from sam2s_ros.nodes.result_publisher import ResultPublisher
from sam2s_ros.nodes.service_limits import SERVICE_QOS, RequestError, check_request, shown
from sam2s_ros.nodes.stream_watch import PAUSED, Pause, StreamWatch
from sam2s_ros.tracking import FrameResult, StreamingTracker
from sam2s_ros.tracking.errors import (
    ImageSizeChangedError,
    ObjectBehindError,
    PromptError,
    TooManyObjectsError,
    UnknownObjectError,
    UnknownStampError,
)
from sam2s_ros.tracking.prompts_file import PromptArrays, PromptInputError

Answer = TypeVar("Answer")
QUICK = ("list_objects", "rename_object", "remove_object", "pause", "resume")
"""Services that compute nothing."""
OLD_IMAGE_S = 1.0
OTHER_CLOCK_S = 3600.0
"""An image that seems older than this has its stamp from another clock than the node's."""
JOIN_S = 1.0
"""How long a refinement waits for an object that is on its way to the image that it refers to."""
TRY_AGAIN_S = 0.02


class NoImageError(Exception):
    """A prompt before the first image."""


_CODES: tuple[tuple[type[Exception], int], ...] = (
    (RequestError, ErrorCode.INVALID_REQUEST),
    (PromptInputError, ErrorCode.INVALID_REQUEST),
    (PromptError, ErrorCode.INVALID_REQUEST),
    (UnknownObjectError, ErrorCode.UNKNOWN_OBJECT),
    (TooManyObjectsError, ErrorCode.TOO_MANY_OBJECTS),
    (UnknownStampError, ErrorCode.UNKNOWN_STAMP),
    (NoImageError, ErrorCode.NO_IMAGE),
    (WorkerStoppedError, ErrorCode.NOT_ACTIVE),
    (ImageSizeChangedError, ErrorCode.RESET_NEEDED),
    (WorkerTimeoutError, ErrorCode.TIMED_OUT),
    (ObjectBehindError, ErrorCode.TIMED_OUT),
)


class PromptHost(Protocol):
    """What the services need of the node."""

    def run_between_frames(self, job: Callable[[StreamingTracker], Answer], quick: bool = False) -> Answer:
        """Run the job on the tracker's thread; WorkerStoppedError, WorkerTimeoutError, or what it raises."""

    def watch(self) -> StreamWatch:
        """The status of the active stream; WorkerStoppedError without one."""

    def image_topic(self) -> str:
        """Where images are expected, for messages."""

    def forget_snapshots(self) -> str:
        """Remove the snapshots on disk; what to tell the client of it, empty if there were none."""


class PromptServices:
    """Creates the services on the node; `destroy` removes them.

    Calls may wait at the same time, each on a thread of the executor; what they do runs in turn on the worker. A call
    that changes something, or was refused, is written to the audit log, on the call's own thread.
    """

    def __init__(
        self, node: Node, host: PromptHost, results: ResultPublisher, max_objects: int, audit: AuditLog
    ) -> None:
        self._node, self._host, self._results = node, host, results
        self._max_objects, self._audit = max_objects, audit
        quick, waiting = QuickGroup(), ReentrantCallbackGroup()
        callbacks: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
            "add_object": (AddObject, self._on_add),
            "refine_object": (RefineObject, self._on_refine),
            "remove_object": (RemoveObject, self._on_remove),
            "rename_object": (RenameObject, self._on_rename),
            "reset_object": (ResetObject, self._on_reset_object),
            "list_objects": (ListObjects, self._on_list),
            "pause": (PauseTracking, self._on_pause),
            "resume": (ResumeTracking, self._on_resume),
            "reset": (Trigger, self._on_reset),
        }
        self._services = [
            node.create_service(
                kind,
                f"~/{name}",
                callback,
                qos_profile=SERVICE_QOS,
                callback_group=quick if name in QUICK else waiting,
            )
            for name, (kind, callback) in callbacks.items()
        ]
        self._prompts_given: dict[int, int] = {}
        self._log = CallLog(node.get_logger())

    def destroy(self) -> None:
        """Remove the services."""
        for service in self._services:
            self._node.destroy_service(service)

    def prompt_counts(self, ids: Sequence[int]) -> dict[int, int]:
        """How many prompts each of the objects was given, by id. On the worker's thread."""
        return {one: self._prompts_given.get(one, 1) for one in ids}

    def restore_counts(self, counts: Mapping[int, int]) -> None:
        """Take a snapshot's objects, as `prompt_counts` gave them, in the place of all. On the worker's thread."""
        self._prompts_given = dict(counts)

    def _on_add(self, request: AddObject.Request, response: AddObject.Response) -> AddObject.Response:
        def add(tracker: StreamingTracker) -> None:
            _set_kept_range(response, tracker)
            stamp_ns, prompt = self._aim(tracker, request.prompt)
            name = request.name or f"object {tracker.next_id}"
            fields = {**prompt.arguments(), "name": name, "stamp_ns": stamp_ns}
            response.id = tracker.add_object(None, **fields, catch_up=False)
            self._prompts_given[response.id] = 1
            self._results.set_class_name(response.id, request.class_name)
            self._doubt_in_a_pause(tracker)
            _describe_prompted(response, tracker)
            response.message = f"object {response.id} is tracked{self._distance_of(response)}"

        return self._answer(add, request, response, "add_object")

    def _on_refine(
        self, request: RefineObject.Request, response: RefineObject.Response
    ) -> RefineObject.Response:
        meant_ns = 0

        def refine(tracker: StreamingTracker) -> None:
            nonlocal meant_ns  # of the first try: the newest image may be another one by the next
            _set_kept_range(response, tracker)
            meant_ns, prompt = self._aim(tracker, request.prompt, meant_ns)
            tracker.refine_object(request.id, None, **prompt.arguments(), stamp_ns=meant_ns, catch_up=False)
            self._prompts_given[request.id] = self._prompts_given.get(request.id, 0) + 1
            self._doubt_in_a_pause(tracker)
            _describe_prompted(response, tracker)
            response.message = f"object {request.id} is refined{self._distance_of(response)}"

        response.id = request.id
        return self._answer(refine, request, response, "refine_object")

    def _on_remove(
        self, request: RemoveObject.Request, response: RemoveObject.Response
    ) -> RemoveObject.Response:
        def remove(tracker: StreamingTracker) -> None:
            before = tracker.last_result
            tracker.remove_object(request.id)
            self._prompts_given.pop(request.id, None)
            _describe_newest(response, before)
            response.message = f"object {request.id} is removed"

        response.id = request.id
        return self._answer(remove, request, response, "remove_object")

    def _on_rename(
        self, request: RenameObject.Request, response: RenameObject.Response
    ) -> RenameObject.Response:
        def rename(tracker: StreamingTracker) -> None:
            names = {info.id: info.name for info in tracker.objects()}
            tracker.rename_object(request.id, request.name or names.get(request.id, ""))
            if request.class_name or request.clear_class:
                self._results.set_class_name(request.id, request.class_name)
            response.name = request.name or names[request.id]
            response.class_name = self._results.class_name(request.id)
            _describe_newest(response, tracker.last_result)
            response.message = f"object {request.id} is '{response.name}'"
            if response.class_name:
                response.message += f" of class '{response.class_name}'"

        response.id = request.id
        return self._answer(rename, request, response, "rename_object")

    def _on_reset_object(
        self, request: ResetObject.Request, response: ResetObject.Response
    ) -> ResetObject.Response:
        def reset_object(tracker: StreamingTracker) -> None:
            ids = [request.id] if request.id else [info.id for info in tracker.objects()]
            for object_id in ids:
                tracker.reset_object(object_id)
                self._prompts_given[object_id] = 1
            _describe_newest(response, tracker.last_result)
            response.objects = len(ids)
            several = f"{len(ids)} object is" if len(ids) == 1 else f"{len(ids)} objects are"
            which = f"object {request.id} is" if request.id else several
            response.message = f"{which} back at the first prompt, to be confirmed by the next images"

        response.id = request.id
        return self._answer(reset_object, request, response, "reset_object")

    def _on_list(self, request: ListObjects.Request, response: ListObjects.Response) -> ListObjects.Response:
        def list_objects(tracker: StreamingTracker) -> None:
            result = tracker.last_result
            response.stamp = ns_to_stamp(0 if result is None else result.stamp_ns)
            response.objects = self._summaries(tracker, result)
            _set_kept_range(response, tracker)
            count = counted(len(response.objects), "object")
            response.message = f"{count}{_those_in_doubt(tracker, result)}{_those_behind(tracker)}"
            if (pause := self._host.watch().pause) is not None:
                response.message += f"; {pause.describe(time.monotonic())}"

        response.max_objects = self._max_objects
        return self._answer(list_objects, request, response, "list_objects")

    def _on_pause(
        self, request: PauseTracking.Request, response: PauseTracking.Response
    ) -> PauseTracking.Response:
        def pause(tracker: StreamingTracker) -> None:
            wanted = Pause(request.client, request.reason, self._now_ns(), time.monotonic())
            lasting = self._host.watch().begin_pause(wanted)
            tracker.doubt(PAUSED)
            _describe_tracker(response, tracker)
            response.paused_by, response.since = lasting.client, ns_to_stamp(lasting.since_ns)
            response.message = lasting.describe(time.monotonic())

        return self._answer(pause, request, response, "pause")

    def _on_resume(
        self, request: ResumeTracking.Request, response: ResumeTracking.Response
    ) -> ResumeTracking.Response:
        def resume(tracker: StreamingTracker) -> None:
            ended = self._host.watch().end_pause()
            _describe_tracker(response, tracker)
            response.message = "tracking was not paused"
            if ended is not None:
                tracker.doubt(PAUSED)
                response.paused_by, response.paused = ended.client, time.monotonic() - ended.since_s
                response.message = f"tracking goes on with the next image, after {response.paused:.1f} s"

        response.paused = math.nan
        return self._answer(resume, request, response, "resume")

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset(tracker: StreamingTracker) -> None:
            removed = len(tracker.objects())
            tracker.reset()
            self._prompts_given.clear()
            response.message = f"{counted(removed, 'object')} removed; the next image starts afresh"

        response = self._answer(reset, request, response, "reset")
        if response.success:
            response.message += self._host.forget_snapshots()
        return response

    def _answer(
        self, job: Callable[[StreamingTracker], None], request: Any, response: Any, service: str
    ) -> Any:
        """Run the job and mark the response as a success, or as refused with the reason."""
        if hasattr(response, "mask"):
            response.mask = unknown_summary()
        client = shown(getattr(request, "client", ""))
        code = ErrorCode.NONE
        try:
            check_request(request)
            self._run(job, service in QUICK)
            response.success = True
        except Exception as error:
            code = next((code for kind, code in _CODES if isinstance(error, kind)), ErrorCode.ENGINE_FAILED)
            _refuse(response, code, str(error) or type(error).__name__)
            line = f"{service} by {client} refused: {response.message}"
            if code == ErrorCode.ENGINE_FAILED:
                self._log.failed(line)
            else:
                self._log.refused(line)
        if service == "list_objects":  # which changes nothing, and consoles poll it
            return response
        if code == ErrorCode.NONE:
            self._log.answered(f"{service} by {client}: {response.message}")
        if trouble := self._audit.write(service, audit_facts(request, response, code)):
            response.message += f" ({trouble})"
        return response

    def _run(self, job: Callable[[StreamingTracker], None], quick: bool) -> None:
        """Run the job between two frames; again while its object is on its way to the image that is meant."""
        deadline_s = time.monotonic() + JOIN_S
        while True:
            try:
                return self._host.run_between_frames(job, quick)
            except ObjectBehindError:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(TRY_AGAIN_S)

    def _doubt_in_a_pause(self, tracker: StreamingTracker) -> None:
        """Nothing is TRACKING while no image is tracked, nor what is prompted meanwhile."""
        if self._host.watch().pause is not None:
            tracker.doubt(PAUSED)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _aim(self, tracker: StreamingTracker, prompt: Any, meant_ns: int = 0) -> tuple[int, PromptArrays]:
        """The stamp of the kept image that is meant, `meant_ns` where that is known, and the prompt as arrays of it."""
        result = tracker.last_result
        if result is None or not tracker.kept_stamps_ns():
            if (pause := self._host.watch().pause) is not None:
                raise NoImageError(f"there is no image to prompt on: {pause.describe(time.monotonic())}")
            raise NoImageError(
                f"no image has arrived yet on {self._host.image_topic()}: start the camera, then prompt"
            )
        if result.needs_reset:
            raise ImageSizeChangedError(f"{result.needs_reset} (~/reset)")
        stamp_ns = meant_ns or stamp_to_ns(prompt.stamp) or result.stamp_ns
        return stamp_ns, prompt_from_message(prompt, result.image_size)

    def _distance_of(self, response: Any) -> str:
        """A remark on a prompted image that is old, as when images have stopped, or not the newest; else empty."""
        age_s = (self._now_ns() - stamp_to_ns(response.stamp)) * 1e-9
        age = f", on an image {age_s:.1f} s old" if OLD_IMAGE_S < age_s < OTHER_CLOCK_S else ""
        behind = response.frames_behind
        return (
            f"{age}, {counted(behind, 'image')} behind: it joins once it has come through them"
            if behind
            else age
        )

    def _summaries(self, tracker: StreamingTracker, result: FrameResult | None) -> list[ObjectSummary]:
        summaries = []
        for info in tracker.objects():
            class_name, score = self._results.told_class(info.id, info.class_name, info.class_score)
            summaries.append(
                ObjectSummary(
                    id=info.id,
                    name=info.name,
                    class_name=class_name,
                    class_score=score,
                    label=self._results.label(info.id),
                    prompts=self._prompts_given.get(info.id, 1),
                    added=ns_to_stamp(info.added_stamp_ns),
                    last_seen=ns_to_stamp(info.last_seen_ns),
                    mask=unknown_summary() if result is None else mask_summary(result, info.id),
                )
            )
        return summaries


def _describe_prompted(response: Any, tracker: StreamingTracker) -> None:
    """The object as the prompted image showed it, and how far that is behind the newest."""
    if (result := tracker.last_prompted) is not None:
        response.stamp = ns_to_stamp(result.stamp_ns)
        response.mask = mask_summary(result, response.id)
        response.frames_behind = tracker.frames_behind(response.id)


def _describe_newest(response: Any, result: FrameResult | None) -> None:
    """The object as the newest tracked image shows it."""
    if result is not None:
        response.stamp = ns_to_stamp(result.stamp_ns)
        response.mask = mask_summary(result, response.id)


def _describe_tracker(response: Any, tracker: StreamingTracker) -> None:
    """The newest tracked image, and how many objects there are."""
    if tracker.last_result is not None:
        response.stamp = ns_to_stamp(tracker.last_result.stamp_ns)
    response.objects = len(tracker.objects())


def _those_behind(tracker: StreamingTracker) -> str:
    """A remark on objects that are on their way to the newest image; empty where there are none."""
    behind = [
        f"{info.id} is {counted(info.frames_behind, 'image')} behind"
        for info in tracker.objects()
        if info.frames_behind
    ]
    return f"; on their way from a prompted image: {', '.join(behind)}" if behind else ""


def _those_in_doubt(tracker: StreamingTracker, result: FrameResult | None) -> str:
    """Why objects that have come to the newest image are not TRACKING, as ~/objects says it; empty where all are."""
    if result is None:
        return ""
    behind = {info.id for info in tracker.objects() if info.frames_behind}
    told = zip(result.ids.tolist(), result.states, result.state_reasons, strict=True)
    return "".join(f"; {one} is {state.name}: {why}" for one, state, why in told if why and one not in behind)


def _set_kept_range(response: Any, tracker: StreamingTracker) -> None:
    stamps = tracker.kept_stamps_ns()
    if stamps:
        response.oldest_kept, response.newest_kept = ns_to_stamp(min(stamps)), ns_to_stamp(max(stamps))


def _refuse(response: Any, code: int, reason: str) -> None:
    response.success, response.message = False, reason
    if hasattr(response, "error"):  # std_srvs/Trigger has none
        response.error = ErrorCode(code=code)
