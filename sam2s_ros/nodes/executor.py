"""The executor of the node: quick callbacks run where they are noticed, service calls on threads of their own."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

from rclpy.exceptions import InvalidHandle
from rclpy.executors import (
    ConditionReachedException,
    Executor,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from rclpy.service import Service


class TrackerExecutor(Executor):
    """Runs images, timers and events on the spinning thread, and services, which may wait for the tracker, on a pool.

    rclpy's `MultiThreadedExecutor` gives every callback to its pool, and until a thread of it has begun offers the same
    callback again and again without waiting. With two busy cores that took ten turns and more for each image, and held
    the interpreter's lock from the threads that track: likely why stages stood still for 50 to 130 ms now and then.

    Args:
        service_threads: service calls that may wait at a time.
    """

    def __init__(self, service_threads: int) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(service_threads, thread_name_prefix="service")

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
            self._pool.submit(handler)
            return
        handler()
        error = handler.exception()
        if error is not None:
            raise error

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Stop to spin, then let the service calls that have begun come to their end."""
        stopped = bool(super().shutdown(timeout_sec))
        self._pool.shutdown(wait=False, cancel_futures=True)
        return stopped


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
