"""The client of the tracker node for consoles: every service as a method, with typed results and clear exceptions."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.callback_groups import CallbackGroup, ReentrantCallbackGroup
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from sam2s_msgs.msg import Prompt, SuggestionArray
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
from sam2s_ros.nodes.client_requests import (
    checked_flag,
    checked_id,
    checked_prompt,
    checked_texts,
    prompt_message,
)
from sam2s_ros.nodes.client_results import (
    CallRefused,
    ObjectList,
    ObjectResult,
    PauseResult,
    PromptResult,
    RenameResult,
    ResetResult,
    ResumeResult,
    SuggestionList,
    TrackerTimeout,
    TrackerUnavailable,
    message_of,
    object_list,
    object_result,
    pause_result,
    prompt_result,
    rename_result,
    reset_result,
    resume_result,
    suggestion_list,
)
from sam2s_ros.nodes.ros_domain import how_to_be_found
from sam2s_ros.nodes.service_limits import SERVICE_QOS

Result = TypeVar("Result")
SERVICES: dict[str, Any] = {
    "add_object": AddObject,
    "refine_object": RefineObject,
    "remove_object": RemoveObject,
    "rename_object": RenameObject,
    "reset_object": ResetObject,
    "list_objects": ListObjects,
    "pause": PauseTracking,
    "resume": ResumeTracking,
    "reset": Trigger,
    "save_snapshot": Trigger,
    "restore_snapshot": Trigger,
    "get_state": GetState,
}
"""Service of the node -> its type. get_state is the last: a node that answers it has discovered the other clients."""
ASK_AGAIN_S = 2.0
UP_CHECK_S = 0.2


class Sam2sClient:
    """Calls the services of one tracker node. Any number of threads may call at the same time.

    With `node`, the caller's: its executor must run on another thread than the one that calls, or be one of several
    threads if a callback calls. Without, the client has a context, a node and a thread of its own until `close`.

    A call waits at most `timeout_s` for the node to be there and for the answer. Every method raises
    `TrackerUnavailable`, `TrackerTimeout` or `CallRefused`, all of them `TrackerError`; and `ValueError`, before
    anything is sent, for an argument that no request holds (`client_requests`).
    """

    def __init__(
        self,
        node: Node | None = None,
        tracker: str = "/tracker",
        client: str = "",
        timeout_s: float = 10.0,
    ) -> None:
        """`tracker`: name of the tracker node. `client`: who asks, for status, log and audit log."""
        checked_texts(client=client)
        self.tracker, self.client, self.timeout_s = tracker, client, timeout_s
        self._own = None
        if node is None:
            self._own = _OwnNode()
            node = self._own.node
        self._node, self._group = node, ReentrantCallbackGroup()
        self._clients: dict[str, Client] = {
            name: node.create_client(
                kind, f"{tracker}/{name}", qos_profile=SERVICE_QOS, callback_group=self._group
            )
            for name, kind in SERVICES.items()
        }
        self._met = False
        self._suggested: _NewestSuggestions | None = None
        self._suggested_lock = threading.Lock()

    def __enter__(self) -> Sam2sClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Destroy the clients, and the node if it is the client's own."""
        if self._own is not None:
            self._own.close()
            return
        for client in self._clients.values():
            self._node.destroy_client(client)
        if self._suggested is not None:
            self._node.destroy_subscription(self._suggested.subscription)

    def add_object(
        self,
        name: str = "",
        class_name: str = "",
        *,
        points: Sequence[tuple[float, float]] = (),
        labels: Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        mask: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]] | None = None,
        stamp_ns: int = 0,
    ) -> PromptResult:
        """Start to track an object.

        Args:
            name: shown to people; empty: the node makes one.
            class_name: if the operator knows it.
            points: clicks x, y. labels: 1 on the object, 0 not, one for each; None: all 1.
            box: x_min, y_min, x_max, y_max.
            mask: bool or integers (not 0: the object) [H, W] of the image's size, instead of clicks and box.
            stamp_ns: of the image that the operator saw; 0: the newest.
        """
        prompt = prompt_message(points, labels, box, mask, stamp_ns)
        return self._result(self.add_object_async(name, class_name, prompt), "add_object")

    def add_object_async(self, name: str, class_name: str, prompt: Prompt) -> Future[PromptResult]:
        """`add_object` without waiting, for callers that ask for several at once (`prompt_message`)."""
        texts = checked_texts(name=name, class_name=class_name)
        request = AddObject.Request(client=self.client, **texts, prompt=checked_prompt(prompt))
        return self._ask("add_object", request, prompt_result)

    def refine_object(
        self,
        object_id: int,
        *,
        points: Sequence[tuple[float, float]] = (),
        labels: Sequence[int] | None = None,
        box: Sequence[float] | None = None,
        mask: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]] | None = None,
        stamp_ns: int = 0,
    ) -> PromptResult:
        """Correct an object's mask; arguments as of `add_object`."""
        prompt = prompt_message(points, labels, box, mask, stamp_ns)
        request = RefineObject.Request(client=self.client, id=checked_id(object_id), prompt=prompt)
        return self._call("refine_object", request, prompt_result)

    def remove_object(self, object_id: int) -> ObjectResult:
        """Stop tracking an object."""
        request = RemoveObject.Request(client=self.client, id=checked_id(object_id))
        return self._call("remove_object", request, object_result)

    def rename_object(
        self, object_id: int, name: str = "", class_name: str = "", clear_class: bool = False
    ) -> RenameResult:
        """Give an object another name or class; empty: it keeps it. `clear_class`: the tracker says the class again."""
        texts = checked_texts(name=name, class_name=class_name)
        clear = checked_flag("clear_class", clear_class)
        request = RenameObject.Request(
            client=self.client, id=checked_id(object_id), **texts, clear_class=clear
        )
        return self._call("rename_object", request, rename_result)

    def reset_object(self, object_id: int) -> ResetResult:
        """Take an object back to its first prompted image; 0: all objects."""
        request = ResetObject.Request(client=self.client, id=checked_id(object_id, "all objects"))
        return self._call("reset_object", request, reset_result)

    def list_objects(self) -> ObjectList:
        """The objects, and the images that a prompt may name."""

        def read(response: ListObjects.Response) -> ObjectList:
            return object_list(response, self._node.get_clock().now().nanoseconds)

        return self._call("list_objects", ListObjects.Request(client=self.client), read)

    def pause(self, reason: str = "") -> PauseResult:
        """Stop the tracking of images until `resume`."""
        request = PauseTracking.Request(client=self.client, **checked_texts(reason=reason))
        return self._call("pause", request, pause_result)

    def resume(self) -> ResumeResult:
        """Track images again."""
        return self._call("resume", ResumeTracking.Request(client=self.client), resume_result)

    def reset(self) -> str:
        """Forget all objects and images; what the node said. Its request has no place for the client's name."""
        return self._call("reset", Trigger.Request(), message_of)

    def save_snapshot(self) -> str:
        """Write the tracker's memory to disk now (parameter snapshot_dir); what the node said, with the file."""
        return self._call("save_snapshot", Trigger.Request(), message_of)

    def restore_snapshot(self) -> str:
        """Take the newest snapshot, of any age, in the place of all objects; what the node said. Images must arrive."""
        return self._call("restore_snapshot", Trigger.Request(), message_of)

    def suggestions(self) -> SuggestionList:
        """What the tracker last asked the operator to look at; the first call subscribes and waits for it.

        Raises:
            TrackerUnavailable: nothing arrives in time: the node is not there, or has never been active.
        """
        with self._suggested_lock:
            if self._suggested is None:
                self._suggested = _NewestSuggestions(self._node, f"{self.tracker}/suggestions", self._group)
        if not self._suggested.arrived.wait(self.timeout_s):
            raise TrackerUnavailable(
                f"nothing on {self.tracker}/suggestions within {self.timeout_s:g} s: is the node active?"
            )
        return suggestion_list(self._suggested.newest)

    def state(self) -> str:
        """The node's lifecycle state, for example "active"."""
        return str(self.request("get_state").current_state.label)

    def wait_until_up(self, timeout_s: float, check: Callable[[], object] = lambda: None) -> None:
        """Block until the node answers; `check()` is called all the time and may raise.

        A service is seen before the node has seen its client: on a busy machine the answer to a first call is then
        dropped. So the node is asked for its state, which changes nothing, until an answer comes.

        Raises:
            TrackerUnavailable: none comes within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        client = self._clients["get_state"]
        while not self._met:
            check()
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TrackerUnavailable(
                    f"the node {self.tracker} did not come up within {timeout_s:g} s: {how_to_be_found()}"
                )
            if client.wait_for_service(timeout_sec=min(UP_CHECK_S, left_s)):
                asked = self._send(client, GetState.Request())
                with contextlib.suppress(FutureTimeoutError):
                    asked.result(min(ASK_AGAIN_S, left_s))
                    self._met = True

    def request(self, service: str, timeout_s: float | None = None, **fields: Any) -> Any:
        """Call a service by its name (`SERVICES`) and return its response as it is, a refusal too. Only type and range
        of the fields are checked before that, and not what is inside a prompt."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        kind = SERVICES[service].Request
        checks = {"check_fields": True} if "_check_fields" in kind.__slots__ else {}  # Humble's always check
        try:
            request = kind(**checks, **fields)
        except AssertionError as error:
            raise ValueError(f"{service}: {error}") from error
        return self._wait(self._begin(service, request, timeout_s), service, timeout_s)

    def _call(self, service: str, request: Any, read: Callable[[Any], Result]) -> Result:
        return self._result(self._ask(service, request, read), service)

    def _result(self, answer: Future[Result], service: str) -> Result:
        return self._wait(answer, service, self.timeout_s)

    def _ask(self, service: str, request: Any, read: Callable[[Any], Result]) -> Future[Result]:
        """Send a request; the future holds what `read` makes of the response, or CallRefused."""
        result: Future[Result] = Future()

        def take(answer: Future[Any]) -> None:
            try:
                response = answer.result()
                if not response.success:
                    raise CallRefused(service, response)
                result.set_result(read(response))
            except Exception as error:
                result.set_exception(error)

        self._begin(service, request, self.timeout_s).add_done_callback(take)
        return result

    def _begin(self, service: str, request: Any, timeout_s: float) -> Future[Any]:
        """Send a request as soon as the service is there."""
        self.wait_until_up(timeout_s)
        client = self._clients[service]
        if not client.service_is_ready() and not client.wait_for_service(timeout_sec=timeout_s):
            self._met = False
            raise TrackerUnavailable(
                f"no service {client.srv_name} within {timeout_s:g} s: is the node {self.tracker} configured?"
            )
        return self._send(client, request)

    def _send(self, client: Client, request: Any) -> Future[Any]:
        """A request on its way; rclpy forgets it when the future is done, or cancelled by who waited in vain."""
        arrived: Future[Any] = Future()
        sent = client.call_async(request)
        arrived.add_done_callback(
            lambda done: client.remove_pending_request(sent) if done.cancelled() else None
        )

        def take(answer: Any) -> None:
            if not arrived.set_running_or_notify_cancel():
                return
            try:
                arrived.set_result(answer.result())
            except Exception as error:
                arrived.set_exception(error)

        sent.add_done_callback(take)
        return arrived

    def _wait(self, answer: Future[Result], service: str, timeout_s: float) -> Result:
        try:
            return answer.result(timeout_s)
        except FutureTimeoutError:
            answer.cancel()
            self._met = False  # a node that has begun anew has to discover us first
            raise TrackerTimeout(
                f"{service} of {self.tracker}: no answer within {timeout_s:g} s; it may have been done all the same"
            ) from None


class _NewestSuggestions:
    """A subscription of ~/suggestions, which is latched."""

    def __init__(self, node: Node, topic: str, group: CallbackGroup) -> None:
        self.arrived = threading.Event()
        self.newest = SuggestionArray()
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.subscription = node.create_subscription(
            SuggestionArray, topic, self._take, latched, callback_group=group
        )

    def _take(self, message: SuggestionArray) -> None:
        self.newest = message
        self.arrived.set()


class _OwnNode:
    """A context, a node in it and a thread that spins it."""

    def __init__(self) -> None:
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(
            "sam2s_client", context=self._context, start_parameter_services=False, enable_rosout=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="sam2s_client", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(5.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
