"""The tracker node: images in, objects out. `ros2 run sam2s_ros tracker`.

The walk of a frame: `image_source` receives the message and offers it to the worker's mailbox of one. The worker
takes the newest; on its first thread `TrackerNode._prepare` turns it into an array (`image_messages`) and encodes it,
on its second `_track` steps the tracker (`sam2s_ros.tracking`) and publishes what it found (`result_publisher`,
`messages`), while the next image is prepared. Service calls (`prompt_services`) run on the second thread too, between
two frames.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from sam2s_msgs.msg import TrackedObjectArray
from sam2s_ros.engines.cuda_device import DeviceError
from sam2s_ros.nodes.audit_log import AuditLog
from sam2s_ros.nodes.diagnostics import Diagnostics, NodeHealth
from sam2s_ros.nodes.frame_worker import FrameWorker, WorkerStoppedError, WorkerTimeoutError
from sam2s_ros.nodes.heartbeat import Heartbeat
from sam2s_ros.nodes.image_messages import ImageMessageError, compressed_to_rgb, image_to_rgb
from sam2s_ros.nodes.image_source import WARNING_PERIOD_S, ImageSource, ReceivedImage
from sam2s_ros.nodes.late_objects import LateObjects
from sam2s_ros.nodes.messages import latency_s, stamp_to_ns
from sam2s_ros.nodes.node_parts import Active, Configured, PreparedImage
from sam2s_ros.nodes.prompt_services import PromptServices
from sam2s_ros.nodes.range_input import RangeInput
from sam2s_ros.nodes.result_publisher import ResultPublisher, TrackedFrame
from sam2s_ros.nodes.settings import (
    LIVE_PARAMETERS,
    NodeSettings,
    SettingsError,
    changed_settings,
    check_choice,
    declare_parameters,
    read_settings,
)
from sam2s_ros.nodes.snapshots import Camera, Snapshots
from sam2s_ros.nodes.start_prompts import StartPrompts
from sam2s_ros.nodes.stream_counter import StreamCounter
from sam2s_ros.nodes.stream_watch import PAUSED, StreamWatch
from sam2s_ros.nodes.tracker_process import run_process
from sam2s_ros.nodes.warning_periods import WarningPeriods
from sam2s_ros.tracking import FrameResult, StreamingTracker, load_tracker
from sam2s_ros.tracking.prompts_file import load_prompts_file

Answer = TypeVar("Answer")
STOP_TIMEOUT_S = 30.0
WORKER_THREADS = 2  # one encodes, one tracks


class TrackerNode(LifecycleNode):
    """Lifecycle node `tracker`. Model and publishers live from configure to cleanup, stream and objects from
    activate to deactivate.
    """

    def __init__(self, namespace: str = "", nodes_in_process: int = 1, **node_options: Any) -> None:
        super().__init__("tracker", namespace=namespace, **node_options)
        self._nodes_in_process = nodes_in_process
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.counter = StreamCounter()
        self._configured: Configured | None = None
        self._active: Active | None = None
        self._unreadable = WarningPeriods(WARNING_PERIOD_S)
        self._first_id = 1  # of the next tracker: ids are not used twice while the node lives
        self._resting_labels: Mapping[int, float] = {}  # for the next publisher
        self._diagnostics = Diagnostics(
            self, self._health, self.get_parameter("diagnostics_period_s").value or 0.0
        )

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, load the model, warm it up, create publishers and services."""
        try:
            self._configured = self._configure()
        except Exception as error:
            self._log_failure("cannot configure", error)
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undo on_configure: destroy publishers and services, free the model."""
        self._clean_up()
        return super().on_cleanup(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the stream: counters at 0, no objects, then those of the prompts file."""
        outcome = super().on_activate(state)  # enables the publishers
        try:
            self._active = self._start_stream()
        except Exception as error:
            self._log_failure("cannot activate", error)
            return TransitionCallbackReturn.ERROR
        self.get_logger().info(f"active: waiting for images on {self.image_topic()}")
        return outcome

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undo on_activate: end the stream, forget its objects, latch an empty label table."""
        stopped = self._stop_stream()
        outcome = super().on_deactivate(state)  # disables the publishers
        return outcome if stopped else TransitionCallbackReturn.ERROR

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undo everything, from any state."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undo everything, so that the node can be configured anew."""
        self.close()
        super().on_error(state)
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Undo on_activate and on_configure as far as they were done."""
        self._stop_stream()
        self._clean_up()

    def start(self) -> None:
        """Go to active without a lifecycle manager."""
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        else:
            self.get_logger().error(
                "still unconfigured: set the parameter right and configure, or start again"
            )

    def run_between_frames(self, job: Callable[[StreamingTracker], Answer], quick: bool = False) -> Answer:
        """Run the job on the worker's thread; WorkerStoppedError, WorkerTimeoutError, or what it raises."""
        configured, active = self._configured, self._active
        if configured is None or active is None:
            raise WorkerStoppedError(
                f"the node {self.get_fully_qualified_name()} is not active: activate it first"
            )

        def run() -> Answer:
            before, pause = configured.tracker.last_result, active.watch.pause
            answer = job(configured.tracker)
            after = configured.tracker.last_result
            if after is None:
                configured.results.forget()
                active.watch.forget()
            elif after is not before:
                configured.results.refresh(after)
                configured.snapshots.save_if_due(configured.tracker)
            if active.watch.pause is not pause and (status := active.watch.status(time.monotonic())):
                configured.results.repeat(*status)
            return answer

        return configured.worker.call(run, configured.settings.service_timeout_s, quick)

    def _late_object_joined(self, result: FrameResult) -> None:
        """Publish the newest image's objects again; in a pause nobody is TRACKING."""
        configured, active = self._configured, self._active
        if configured is None or active is None:
            return
        if active.watch.pause is not None:
            configured.tracker.doubt(PAUSED)
            result = configured.tracker.last_result or result
        configured.results.refresh(result)

    def watch(self) -> StreamWatch:
        """The status of the active stream; WorkerStoppedError without one."""
        if self._active is None:
            raise WorkerStoppedError("the node was deactivated")
        return self._active.watch

    def forget_snapshots(self) -> str:
        """Remove the snapshots on disk; what to tell the client of it, empty if there were none."""
        return self._configured.snapshots.delete() if self._configured else ""

    def image_topic(self) -> str:
        """Where images are expected."""
        return self._active.source.topic if self._active else "image"

    def _on_image(self, image: ReceivedImage) -> None:
        configured, active = self._configured, self._active
        if active is not None:
            active.watch.received_from(image.publisher, image.received_s)
            if active.range_input is not None:
                active.range_input.image_received(image.message.header)
        if configured is None or active is None or active.watch.pause or configured.worker.offer(image):
            self.counter.add("skipped")

    def _prepare(self, received: ReceivedImage) -> PreparedImage | None:
        """From message to encoded image, while the image before it is tracked; None if nobody can read it."""
        configured, active = self._configured, self._active
        if configured is None or active is None:
            return None
        begun = time.monotonic()
        image = self._read(received, active)
        if image is None:
            return None
        converted = time.monotonic()
        configured.tracker.encode_ahead(image)
        stages_s = {
            "transport": latency_s(received.message.header.stamp, received.received),
            "queue": begun - received.received_s,
            "convert": converted - begun,
        }
        return PreparedImage(received, image, stages_s, time.monotonic())

    def _track(self, prepared: PreparedImage) -> None:
        """Take one encoded image to published objects, between service calls."""
        configured, active = self._configured, self._active
        if configured is None or active is None:
            return
        if active.watch.pause is not None:
            self.counter.add("skipped")
            return
        waited_s = time.monotonic() - prepared.ready_s
        image, header = prepared.image, prepared.received.message.header
        camera, tracker = Camera(active.source.topic, header.frame_id, image.shape[:2]), configured.tracker
        restored_ns = configured.snapshots.restore_if_due(tracker, camera)
        if restored_ns is not None:  # prompts of before were added then, and may have been removed since
            active.start_prompts.leave_out_until(restored_ns)
        result = tracker.step(image, stamp_to_ns(header.stamp), copy=False, settle=False)
        if self._active is not active:  # deactivated meanwhile, and said so: nothing old may follow
            return
        trouble = active.watch.tracked(result, time.monotonic())
        result = active.start_prompts.add_due(tracker, result)
        stages_s = prepared.stages(waited_s, result.timings_ms, active.settled_s)
        self.counter.add("failed" if result.needs_reset else "tracked")
        positions = None
        if active.range_input is not None:
            begun = time.monotonic()
            positions = active.range_input.locate(image, header, result)
            stages_s["range"] = time.monotonic() - begun
        configured.results.publish(TrackedFrame(header, image, result, stages_s, trouble, positions))
        self._settle(tracker, active)
        configured.snapshots.save_if_due(tracker)
        configured.late_objects.after_image()
        if trouble:
            self.get_logger().warning(trouble, throttle_duration_sec=WARNING_PERIOD_S)

    def _settle(self, tracker: StreamingTracker, active: Active) -> None:
        """Let the engine remember an image whose objects are out: nobody waits for that."""
        begun = time.monotonic()
        try:
            tracker.settle()
        except Exception as error:
            self._on_frame_failed(error, published=True)
        active.settled_s = time.monotonic() - begun

    def _read(self, received: ReceivedImage, active: Active) -> npt.NDArray[np.uint8] | None:
        """The image as an array; None, counted and warned about, if nobody can read it."""
        message = received.message
        try:
            return image_to_rgb(message) if isinstance(message, Image) else compressed_to_rgb(message)
        except ImageMessageError as error:
            self.counter.add("unreadable")
            active.watch.unreadable(str(error))
            if self._unreadable.due(str(error), time.monotonic()):
                self.get_logger().warning(f"image left out: {active.source.topic}: {error}")
            return None

    def _on_frame_failed(self, error: Exception, published: bool = False) -> None:
        """The engine raised, perhaps after the objects were `published`: say so, stay alive, go on with the next."""
        configured, active = self._configured, self._active
        if configured is None or active is None or not self.context.ok():
            return
        if not published:
            self.counter.add("failed")
        failure = f"the engine failed on the newest image: {type(error).__name__}: {error}"
        active.watch.failed(failure)
        details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.get_logger().error(f"{failure}\n{details}", throttle_duration_sec=WARNING_PERIOD_S)
        configured.results.repeat(TrackedObjectArray.ENGINE_FAILED, failure)

    def _configure(self) -> Configured:
        settings, begun_s = read_settings(self), time.monotonic()
        start_prompts = load_prompts_file(settings.prompts_file) if settings.prompts_file else []
        session = uuid.uuid4().hex
        audit = AuditLog(settings.audit_log, session, self)
        worker = FrameWorker(self._prepare, self._track, self._on_frame_failed, "tracker")
        worker.start()
        try:
            tracker = worker.call(lambda: self._load_tracker(settings), timeout_s=None)
        except BaseException:
            worker.stop(STOP_TIMEOUT_S)
            audit.close()
            raise
        engine = tracker.engine.describe()
        results = ResultPublisher(self, settings, engine, session, self._resting_labels)
        late_objects = LateObjects(tracker, self._late_object_joined, self.get_logger())
        worker.spare = late_objects.in_spare_time
        services = PromptServices(self, self, results, settings.max_objects, audit)
        snapshots = Snapshots(self, self, settings, results, services, audit)
        snapshots.find(time.monotonic() - begun_s)
        self.get_logger().info(
            f"configured: model {engine.model}, engine {engine.name} {engine.precision} ({engine.reason})"
        )
        gc.collect()
        gc.freeze()  # or a collection walks through all of torch and the stream pauses for 0.1 s
        parts = (settings, worker, tracker, engine, results, late_objects, services, audit, snapshots)
        return Configured(*parts, start_prompts)

    def _load_tracker(self, settings: NodeSettings) -> StreamingTracker:
        config = replace(settings.tracker_config(), first_id=self._first_id)
        threads = settings.threads or self._share_of_cpus()
        model = (settings.model, settings.engine, config, settings.checkpoint or None)
        tracker = load_tracker(
            *model, threads, settings.precision, settings.image_size, settings.class_bank or None
        )
        tracker.engine.reads_classes = settings.reads_classes
        return tracker

    def _share_of_cpus(self) -> int:
        """CPUs for each thread that computes, of those that this process may use."""
        return max(1, len(os.sched_getaffinity(0)) // (WORKER_THREADS * self._nodes_in_process))

    def _start_stream(self) -> Active:
        configured = self._configured
        assert configured is not None  # the state machine sees to it
        self.counter = StreamCounter()
        configured.results.start(self.counter)
        source = ImageSource(self, configured.settings.image_transport, self.counter, self._on_image)
        stale_after_s = configured.settings.stale_after_s
        watch = StreamWatch(source.topic, stale_after_s, time.monotonic())
        results = configured.results
        heartbeat = Heartbeat(configured.worker, watch, results.repeat, results.assert_alive, stale_after_s)

        def tick() -> None:
            source.warn_if_silent()
            heartbeat.tick()

        def check() -> None:
            deadline.timer_period_ns = round(1e9 * heartbeat.check())
            deadline.reset()

        group, clock = MutuallyExclusiveCallbackGroup(), Clock(clock_type=ClockType.STEADY_TIME)
        period_s = configured.settings.heartbeat_period_s
        timer = self.create_timer(period_s, tick, callback_group=group, clock=clock)
        deadline = self.create_timer(stale_after_s, check, callback_group=group, clock=clock)
        ranged = configured.settings.range_input != "off"
        range_input = RangeInput(self, configured.settings) if ranged else None
        start_prompts = StartPrompts(configured.start_prompts, self.get_logger(), configured.audit)
        return Active(source, watch, (timer, deadline), start_prompts, range_input)

    def _stop_stream(self) -> bool:
        configured, active, self._active = self._configured, self._active, None
        if configured is None or active is None:
            return True
        active.source.destroy()
        if active.range_input is not None:
            active.range_input.destroy()
        for timer in active.timers:
            self.destroy_timer(timer)
        configured.worker.flush()
        try:
            configured.worker.call(lambda: configured.snapshots.finish(configured.tracker), STOP_TIMEOUT_S)
            configured.worker.call(configured.tracker.reset, STOP_TIMEOUT_S)
        except WorkerTimeoutError:
            self.get_logger().error(f"the engine did not finish its frame within {STOP_TIMEOUT_S:g} s")
            return False
        except Exception as error:
            self._log_failure("the stream did not end as it should", error)
            return False
        finally:
            if self.context.ok():
                configured.results.forget()
                configured.results.repeat(TrackedObjectArray.STALE, "the tracker was deactivated")
        return True

    def _clean_up(self) -> None:
        configured, self._configured = self._configured, None
        if configured is not None:
            configured.services.destroy()
            configured.snapshots.destroy()
            configured.worker.stop(STOP_TIMEOUT_S)
            self._resting_labels = configured.results.resting_labels()
            configured.results.destroy()
            configured.audit.close()
            self._first_id = configured.tracker.next_id
            configured.tracker.engine.free()
            gc.unfreeze()

    def _health(self) -> NodeHealth:
        configured, active = self._configured, self._active
        if configured is None:
            return NodeHealth()
        settings = configured.settings
        return NodeHealth(
            topic=active.source.topic if active else "",
            counts=self.counter.counts(),
            newest=configured.results.newest,
            engine=configured.engine,
            stale_after_s=settings.stale_after_s,
            max_objects=settings.max_objects,
            capacity=settings.memory_of_an_object(),
            positions=active.range_input.counts if active and active.range_input else None,
            stages=configured.results.stages,
        )

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        configured = self._configured
        try:
            if configured is not None:
                self._reconfigure(configured, changed_settings(configured.settings, parameters))
            else:
                for parameter in parameters:
                    check_choice(parameter.name, parameter.value)
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _reconfigure(self, configured: Configured, settings: NodeSettings) -> None:
        """Take settings that differ in what is live; the tracker gets its part between two frames."""
        if settings == configured.settings:
            return
        before, configured.settings = configured.settings, settings
        configured.results.reconfigure(settings)
        tracker = configured.tracker
        config = replace(settings.tracker_config(), first_id=tracker.config.first_id)

        def apply() -> None:
            tracker.reconfigure(config)
            tracker.engine.reads_classes = settings.reads_classes

        configured.worker.post(apply)
        for name in sorted(LIVE_PARAMETERS):
            old, new = getattr(before, name), getattr(settings, name)
            if old != new:
                self.get_logger().info(f"parameter {name} changed from {old} to {new}")

    def _log_failure(self, what: str, error: Exception) -> None:
        """One line for a mistake of the user and an engine that is not to be had; ours with its traceback."""
        if isinstance(error, (ValueError, OSError, ImportError, DeviceError)):
            self.get_logger().error(f"{what}: {error}")
        else:
            self.get_logger().error(f"{what}: {traceback.format_exc()}")


def main(args: Sequence[str] | None = None) -> int:
    """Run the process `tracker` with one node, or with several (`tracker_process`)."""
    return run_process(TrackerNode, args)


if __name__ == "__main__":
    sys.exit(main())
