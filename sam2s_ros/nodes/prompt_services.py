"""The services of the node: prompts, removal, listing, reset. Each call runs between two frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from sam2s_msgs.msg import ErrorCode, ObjectSummary
from sam2s_msgs.srv import AddObject, ListObjects, RefineObject, RemoveObject
from sam2s_ros.nodes.frame_worker import WorkerStoppedError, WorkerTimeoutError
from sam2s_ros.nodes.messages import mask_summary, ns_to_stamp, stamp_to_ns, unknown_summary
from sam2s_ros.nodes.prompts import PromptArrays, PromptInputError, prompt_from_message
from sam2s_ros.tracking import FrameResult, StreamingTracker
from sam2s_ros.tracking.errors import (
    ImageSizeChangedError,
    PromptError,
    TooManyObjectsError,
    UnknownObjectError,
    UnknownStampError,
)

Answer = TypeVar("Answer")
MAX_NAME_LENGTH = 128
OLD_IMAGE_S = 1.0
OTHER_CLOCK_S = 3600.0
"""An image that seems older than this has its stamp from another clock than the node's."""


class NoImageError(Exception):
    """A prompt before the first image."""


_CODES: tuple[tuple[type[Exception], int], ...] = (
    (PromptInputError, ErrorCode.INVALID_REQUEST),
    (PromptError, ErrorCode.INVALID_REQUEST),
    (UnknownObjectError, ErrorCode.UNKNOWN_OBJECT),
    (TooManyObjectsError, ErrorCode.TOO_MANY_OBJECTS),
    (UnknownStampError, ErrorCode.UNKNOWN_STAMP),
    (NoImageError, ErrorCode.NO_IMAGE),
    (WorkerStoppedError, ErrorCode.NOT_ACTIVE),
    (ImageSizeChangedError, ErrorCode.RESET_NEEDED),
    (WorkerTimeoutError, ErrorCode.TIMED_OUT),
)


class PromptHost(Protocol):
    """What the services need of the node."""

    def run_between_frames(self, job: Callable[[StreamingTracker], Answer]) -> Answer:
        """Run the job on the tracker's thread; WorkerStoppedError, WorkerTimeoutError, or what it raises."""

    def label(self, object_id: int) -> int:
        """The object's value in the label image; 0 if it has none."""

    def set_class_name(self, object_id: int, class_name: str) -> None:
        """Remember the class that a client gave an object."""

    def class_name(self, object_id: int) -> str:
        """The class that a client gave the object; empty if none."""

    def image_topic(self) -> str:
        """Where images are expected, for messages."""

    def forget_snapshots(self) -> str:
        """Remove the snapshots on disk; what to tell the client of it, empty if there were none."""


class PromptServices:
    """Creates the services on the node; `destroy` removes them.

    Calls may wait at the same time, each on a thread of the executor; what they do runs in turn on the worker.
    """

    def __init__(self, node: Node, host: PromptHost, max_objects: int) -> None:
        self._node, self._host, self._max_objects = node, host, max_objects
        group = ReentrantCallbackGroup()
        self._services = [
            node.create_service(AddObject, "~/add_object", self._on_add, callback_group=group),
            node.create_service(RefineObject, "~/refine_object", self._on_refine, callback_group=group),
            node.create_service(RemoveObject, "~/remove_object", self._on_remove, callback_group=group),
            node.create_service(ListObjects, "~/list_objects", self._on_list, callback_group=group),
            node.create_service(Trigger, "~/reset", self._on_reset, callback_group=group),
        ]
        self._prompts_given: dict[int, int] = {}

    def destroy(self) -> None:
        """Remove the services."""
        for service in self._services:
            self._node.destroy_service(service)

    def _on_add(self, request: AddObject.Request, response: AddObject.Response) -> AddObject.Response:
        def add(tracker: StreamingTracker) -> None:
            _set_kept_range(response, tracker)
            stamp_ns, prompt = self._aim(tracker, request.prompt)
            for field in ("name", "class_name"):
                _check_length(field, getattr(request, field))
            name = request.name or f"object {tracker.next_id}"
            response.id = tracker.add_object(None, **prompt.arguments(), name=name, stamp_ns=stamp_ns)
            self._prompts_given[response.id] = 1
            self._host.set_class_name(response.id, request.class_name)
            _describe_prompted(response, tracker)
            response.message = f"object {response.id} is tracked{self._age_of(response.stamp)}"

        return self._answer(add, response, f"add_object by '{request.client}'")

    def _on_refine(
        self, request: RefineObject.Request, response: RefineObject.Response
    ) -> RefineObject.Response:
        def refine(tracker: StreamingTracker) -> None:
            _set_kept_range(response, tracker)
            stamp_ns, prompt = self._aim(tracker, request.prompt)
            tracker.refine_object(request.id, None, **prompt.arguments(), stamp_ns=stamp_ns)
            self._prompts_given[request.id] = self._prompts_given.get(request.id, 0) + 1
            _describe_prompted(response, tracker)
            response.message = f"object {request.id} is refined{self._age_of(response.stamp)}"

        response.id = request.id
        return self._answer(refine, response, f"refine_object by '{request.client}'")

    def _on_remove(
        self, request: RemoveObject.Request, response: RemoveObject.Response
    ) -> RemoveObject.Response:
        def remove(tracker: StreamingTracker) -> None:
            before = tracker.last_result
            tracker.remove_object(request.id)
            self._prompts_given.pop(request.id, None)
            if before is not None:
                response.stamp = ns_to_stamp(before.stamp_ns)
                response.mask = mask_summary(before, request.id)
            response.message = f"object {request.id} is removed"

        response.id = request.id
        return self._answer(remove, response, f"remove_object by '{request.client}'")

    def _on_list(self, request: ListObjects.Request, response: ListObjects.Response) -> ListObjects.Response:
        def list_objects(tracker: StreamingTracker) -> None:
            result = tracker.last_result
            response.stamp = ns_to_stamp(0 if result is None else result.stamp_ns)
            response.objects = self._summaries(tracker, result)
            _set_kept_range(response, tracker)
            response.message = f"{len(response.objects)} objects"

        response.max_objects = self._max_objects
        return self._answer(list_objects, response, f"list_objects by '{request.client}'")

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset(tracker: StreamingTracker) -> None:
            removed = len(tracker.objects())
            tracker.reset()
            self._prompts_given.clear()
            response.message = f"{removed} objects removed; the next image starts afresh"

        response = self._answer(reset, response, "reset")
        if response.success:
            response.message += self._host.forget_snapshots()
        return response

    def _answer(self, job: Callable[[StreamingTracker], None], response: Any, what: str) -> Any:
        """Run the job and mark the response as a success, or as refused with the reason."""
        if hasattr(response, "mask"):
            response.mask = unknown_summary()
        try:
            self._host.run_between_frames(job)
            response.success = True
            if not isinstance(response, ListObjects.Response):  # which changes nothing, and consoles poll it
                self._node.get_logger().info(f"{what}: {response.message}")
        except Exception as error:
            code = next((code for kind, code in _CODES if isinstance(error, kind)), ErrorCode.ENGINE_FAILED)
            _refuse(response, code, str(error) or type(error).__name__)
            report = (
                self._node.get_logger().error
                if code == ErrorCode.ENGINE_FAILED
                else self._node.get_logger().warning
            )
            report(f"{what} refused: {response.message}")
        return response

    def _aim(self, tracker: StreamingTracker, prompt: Any) -> tuple[int, PromptArrays]:
        """The stamp of the kept image that is meant, and the prompt as arrays of that image."""
        result = tracker.last_result
        if result is None or not tracker.kept_stamps_ns():
            raise NoImageError(
                f"no image has arrived yet on {self._host.image_topic()}: start the camera, then prompt"
            )
        if result.needs_reset:
            raise ImageSizeChangedError(f"{result.needs_reset} (~/reset)")
        stamp_ns = stamp_to_ns(prompt.stamp) or result.stamp_ns
        return stamp_ns, prompt_from_message(prompt, result.image_size)

    def _age_of(self, stamp: Any) -> str:
        """A remark on a prompted image that is old, as when images have stopped; empty for a recent one."""
        age_s = (self._node.get_clock().now().nanoseconds - stamp_to_ns(stamp)) * 1e-9
        return f", on an image {age_s:.1f} s old" if OLD_IMAGE_S < age_s < OTHER_CLOCK_S else ""

    def _summaries(self, tracker: StreamingTracker, result: FrameResult | None) -> list[ObjectSummary]:
        return [
            ObjectSummary(
                id=info.id,
                name=info.name,
                class_name=self._host.class_name(info.id) or info.class_name,
                class_score=float("nan") if self._host.class_name(info.id) else info.class_score,
                label=self._host.label(info.id),
                prompts=self._prompts_given.get(info.id, 1),
                added=ns_to_stamp(info.added_stamp_ns),
                last_seen=ns_to_stamp(info.last_seen_ns),
                mask=unknown_summary() if result is None else mask_summary(result, info.id),
            )
            for info in tracker.objects()
        ]


def _check_length(field: str, text: str) -> None:
    if len(text) > MAX_NAME_LENGTH:
        raise PromptInputError(f"{field} has {len(text)} characters: at most {MAX_NAME_LENGTH} are taken")


def _describe_prompted(response: Any, tracker: StreamingTracker) -> None:
    """The object as the prompted image showed it, which may be older than the newest."""
    if (result := tracker.last_prompted) is not None:
        response.stamp = ns_to_stamp(result.stamp_ns)
        response.mask = mask_summary(result, int(result.ids[0]))


def _set_kept_range(response: Any, tracker: StreamingTracker) -> None:
    stamps = tracker.kept_stamps_ns()
    if stamps:
        response.oldest_kept, response.newest_kept = ns_to_stamp(min(stamps)), ns_to_stamp(max(stamps))


def _refuse(response: Any, code: int, reason: str) -> None:
    response.success, response.message = False, reason
    if hasattr(response, "error"):  # std_srvs/Trigger has none
        response.error = ErrorCode(code=code)
