"""The executor of the node: quick callbacks run where they are noticed, service calls on threads of their own.

Services in a `QuickGroup` have threads of their own: however many prompts wait for the tracker, quick calls go on.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    ConditionReachedException,
    Executor,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from rclpy.logging import get_logger
from rclpy.service import Service

QUICK_THREADS = 16
"""Of the process, for all services in a `QuickGroup`: so many of their calls may wait for the end of a tracker step."""


class QuickGroup(ReentrantCallbackGroup):
    """Of services that compute nothing."""


class TrackerExecutor(Executor):
    """Runs images, timers and events on the spinning thread, and services, which may wait for the tracker, on a pool.

    rclpy's `MultiThreadedExecutor` gives every callback to its pool, and until a thread of it has begun offers the same
    callback again and again without waiting. With two busy cores that took ten turns and more for each image, and held
    the interpreter's lock from the threads that track: likely why stages stood still for 50 to 130 ms now and then.
    Of a service it takes one request in each turn. Here a thread that has come for one of a quick service takes those
    that wait behind it, too.

    Args:
        service_threads: calls of other services that may wait at a time.
    """

    def __init__(self, service_threads: int) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(service_threads, thread_name_prefix="service")
        self._quick_pool = ThreadPoolExecutor(QUICK_THREADS, thread_name_prefix="quick service")

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for one callback and run it, or have it run."""
        try:
            handler, entity, _ = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (
            ConditionReachedException,
            ExternalShutdownException,
            ShutdownException,
            TimeoutException,
        ):
            return
        if isinstance(entity, Service):
            quick = isinstance(entity.callback_group, QuickGroup)
            (self._quick_pool if quick else self._pool).submit(_serve, handler, entity)
            return
        handler()
        error = handler.exception()
        if error is not None:
            raise error

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop to spin, then let the service calls that have begun come to their end."""
        stopped = bool(super().shutdown(timeout_sec))
        for pool in (self._pool, self._quick_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        return stopped


def _serve(handler: Any, service: Any) -> None:
    """Answer the request that rclpy's handler takes, then, for a quick service, those behind it."""
    try:
        handler()
        if error := handler.exception():
            raise error
        if isinstance(service.callback_group, QuickGroup):
            while _serve_next(service):
                pass
    except InvalidHandle:
        pass  # the service has been destroyed
    except Exception:
        get_logger("tracker").error(f"{service.srv_name} gave no answer: {traceback.format_exc()}")


def _serve_next(service: Any) -> bool:
    """As rclpy's executor answers one request; False if none waits."""
    with service.handle:
        request, header = service.handle.service_take_request(service.srv_type.Request)
    if header is None:
        return False
    service.send_response(service.callback(request, service.srv_type.Response()), header)
    return True


def spin_until(executor: TrackerExecutor, stop: threading.Event) -> None:
    """Spin until `stop` is set or the context ends, and set it then."""
    try:
        while not stop.is_set():
            # rclpy may meet an event handler of the subscription that on_deactivate is destroying, in an unguarded
            # place of its wait: nothing is lost by waiting again.
            with contextlib.suppress(InvalidHandle):
                executor.spin()
                break
    except ExternalShutdownException:  # somebody else shut the context down
        pass
    finally:
        stop.set()
