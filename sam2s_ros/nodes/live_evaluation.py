"""`sam2s evaluate --mode live`: the real node, in a process of its own, is given the bag over DDS at its pace.

This process is the operator, who prompts each object on the first tracked image that shows it, and records what the
node publishes. What was recorded is then measured as real time is: ground truth of time t is compared with the newest
masks that the node had published at or before t, by the node's own clock; before there are any, with empty ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from sam2s_ros.evaluation.bag_messages import connections_of, messages_of, open_bag
from sam2s_ros.evaluation.bags import COMPRESSED_TYPE, IMAGE_TYPES, BagSequence
from sam2s_ros.evaluation.evaluate import FrameObserver, with_progress
from sam2s_ros.evaluation.frame_scorer import FrameScorer
from sam2s_ros.evaluation.model_arguments import parse_settings
from sam2s_ros.evaluation.prompts import FirstSight, Prompter
from sam2s_ros.evaluation.real_time import Published, StreamScorer
from sam2s_ros.evaluation.records import NAN, FrameRecord
from sam2s_ros.evaluation.sequences import Sequence
from sam2s_ros.nodes.bag_file import read_stamp
from sam2s_ros.nodes.client_results import TrackerError
from sam2s_ros.nodes.demo_processes import ChildFailed
from sam2s_ros.nodes.demo_prompting import FirstAppearance
from sam2s_ros.nodes.demo_recorder import RecordedTopic
from sam2s_ros.nodes.demo_stage import (
    OBJECTS_TOPIC,
    RECORDED,
    Stage,
    isolated_domain,
    run_stage,
    tracker_topics,
)
from sam2s_ros.nodes.image_transport import image_transport_environment
from sam2s_ros.nodes.messages import stamp_to_ns
from sam2s_ros.nodes.settings import NodeSettings
from sam2s_ros.tracking import TrackState, rle

LOG = logging.getLogger(__name__)
START_TIMEOUT_S = 120.0
NOT_TRACKED = (1, 3)  # TrackedObjectArray.NO_INPUT, ENGINE_FAILED
PROTOCOLS = ("mask", "box", "click")


@dataclasses.dataclass(frozen=True)
class LiveRun:
    """What one run has left: the bag of what the node published, which object it gave which id, and how the bag's time
    was laid over the node's clock."""

    objects_bag: Path
    object_ids: dict[int, int]
    """By label value."""
    recorded_ns: int
    published_ns: int
    """The stamp that the recorded one became."""

    def recorded(self, stamp_ns: int) -> int:
        """A time of the node's clock as one of the bag."""
        return stamp_ns - self.published_ns + self.recorded_ns


@dataclasses.dataclass(frozen=True, eq=False)
class ReceivedResult:
    """What a recorded ~/objects message says, as the evaluation asks for it: N objects, masks bool [N, H, W]."""

    ids: NDArray[np.uint32]
    masks: NDArray[np.bool_]
    states: tuple[TrackState, ...]
    presence: NDArray[np.float32]
    iou: NDArray[np.float32]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, message: Any) -> ReceivedResult:
        """From a `TrackedObjectArray`, live or from a bag."""
        size, items = (message.image_height, message.image_width), message.objects
        masks = np.zeros((len(items), *size), bool)
        for row, item in enumerate(items):
            if item.mask.height:
                masks[row] = rle.decode(item.mask.counts, size)
        return cls(
            np.array([item.id for item in items], np.uint32),
            masks,
            tuple(TrackState(item.state) for item in items),
            np.array([item.presence for item in items], np.float32),
            np.array([item.predicted_iou for item in items], np.float32),
            tuple(item.class_name for item in items),
        )


def evaluate_live(
    sequence: Sequence,
    prompter: Prompter,
    arguments: argparse.Namespace,
    on_frame: FrameObserver | None = None,
    name: str = "",
    nsd_tolerance_px: float | None = None,
) -> Iterator[tuple[FrameRecord, ...]]:
    """Run the node over a bag, then measure what it published, frame by frame; `arguments` are those of `evaluate`.

    The latency in the records is from the image's stamp to the publication of its masks; NaN for a frame that was not
    tracked. Memory does not grow with the bag's length but for a few numbers per frame.

    Raises:
        ValueError: the source is no bag with ground truth in a topic, the prompts need to see an answer, or a process
            failed.
    """
    if not isinstance(sequence, BagSequence) or sequence.label_folder is not None:
        raise ValueError(
            f"{sequence.name}: --mode live plays a bag with its ground truth in a topic; sam2s bag makes one"
        )
    if not isinstance(prompter, FirstSight) or prompter.prompt not in PROTOCOLS:
        raise ValueError(f"--mode live prompts by {', '.join(PROTOCOLS)}, not by {arguments.prompts}")
    with tempfile.TemporaryDirectory(prefix="sam2s_live_") as folder:
        try:
            run = run_live(sequence, prompter, arguments, Path(folder))
        except (ChildFailed, TrackerError) as error:
            raise ValueError(f"{sequence.name}: the live run failed: {error}") from error
        scorer = FrameScorer(name, sequence.name, nsd_tolerance_px)
        yield from measure(sequence, prompter, run, scorer, arguments.allowance, on_frame)


def run_live(
    sequence: BagSequence, prompter: FirstSight, arguments: argparse.Namespace, folder: Path
) -> LiveRun:
    """Play the bag into the node and record what it publishes into `folder`."""
    with open_bag(sequence.path) as bag:
        connection = sequence.image_connections(bag)[0]
        duration_s = bag.duration * 1e-9
    compressed = connection.msgtype == COMPRESSED_TYPE
    names = dict(sequence.label_names)
    operator = FirstAppearance(_wanted(prompter, names))
    slowed = arguments.step_time is not None
    with ExitStack() as stack:
        variables = image_transport_environment(folder)
        stack.enter_context(_environment(variables))
        stack.enter_context(isolated_domain(folder / "logs"))
        result = run_stage(
            Stage(
                name="live",
                bag_folder=folder / "objects",
                log_folder=folder / "logs",
                environment={},
                tracker_module=f"sam2s_ros.nodes.{'slowed_tracker' if slowed else 'tracker_node'}",
                tracker_arguments=[
                    *([str(arguments.step_time)] if slowed else []),
                    "--ros-args",
                    *_parameters(arguments, len(names)),
                    *("-p", f"image_transport:={'compressed' if compressed else 'raw'}"),
                    *("-r", f"{'image/compressed' if compressed else 'image'}:={connection.topic}"),
                ],
                publisher_module="sam2s_ros.nodes.replay",
                publisher_arguments=[
                    str(sequence.path),
                    *("--wait-for", f"{connection.topic}=1"),
                    *("--wait-for", f"{sequence.label_topic}=1"),
                ],
                topics=operator_topics(sequence, operator),
                prompter=operator,
                object_names=names,
                timeout_s=START_TIMEOUT_S + duration_s,
                protocol=prompter.prompt,
            ),
            LOG.info,
        )
    stamps = json.loads(result.publisher_line)["first_stamp_ns"]
    ids = {item.key: item.object_id for item in result.prompted}
    return LiveRun(folder / "objects", ids, stamps["recorded"], stamps["published"])


def operator_topics(sequence: BagSequence, operator: FirstAppearance) -> list[RecordedTopic]:
    """What the operator looks at: the ground truth, which is not recorded, and what the node publishes."""
    with open_bag(sequence.path) as bag:
        labels = connections_of(bag, sequence.path, sequence.label_topic, IMAGE_TYPES)[0]
    kind = CompressedImage if labels.msgtype == COMPRESSED_TYPE else Image

    def tell(_: int, data: bytes) -> None:
        truth = _label_values(deserialize_message(data, kind))
        values = np.flatnonzero(np.bincount(truth.reshape(-1), minlength=256)[1:]) + 1
        operator.truth_arrived(read_stamp(data), {int(one): truth == one for one in values})

    return [
        RecordedTopic(sequence.label_topic, kind, RECORDED, tell, kept=False),
        *tracker_topics(operator),
    ]


def measure(
    sequence: BagSequence,
    prompter: Prompter,
    run: LiveRun,
    frame_scorer: FrameScorer,
    allowance_s: float = 0.0,
    on_frame: FrameObserver | None = None,
) -> Iterator[tuple[FrameRecord, ...]]:
    """Compare each frame of the bag with the newest masks published by its time, plus an allowance."""
    latencies_ms = {
        run.recorded(stamp_ns): (published_ns - stamp_ns) * 1e-6
        for stamp_ns, published_ns, _ in _publications(run)
    }
    scorer = StreamScorer(frame_scorer, prompter, sequence.label_names, on_frame)
    publications = _publications(run)
    coming = next(publications, None)
    published = Published(None, run.object_ids)
    for index, frame in enumerate(with_progress(sequence)):
        newest = None
        while coming is not None and run.recorded(coming[1]) <= frame.stamp_ns + round(1e9 * allowance_s):
            newest, coming = coming[2], next(publications, None)
        if newest is not None:
            published = Published(ReceivedResult.of(newest), run.object_ids)
        scorer.measure(index, frame, published)
        yield from scorer.settled({index: latencies_ms.get(frame.stamp_ns, NAN)})
    prompter.require_all_given(sequence.name, scorer.followed)


def _publications(run: LiveRun) -> Iterator[tuple[int, int, Any]]:
    """Stamp, time of publication and message of the first publication for each image, in order."""
    last_ns = 0
    with open_bag(run.objects_bag) as bag:
        connections = connections_of(
            bag, run.objects_bag, OBJECTS_TOPIC, ("sam2s_msgs/msg/TrackedObjectArray",)
        )
        for message in messages_of(bag, run.objects_bag, connections):
            stamp_ns = stamp_to_ns(message.header.stamp)
            if message.status not in NOT_TRACKED and stamp_ns > last_ns:
                last_ns = stamp_ns
                yield stamp_ns, stamp_to_ns(message.published), message


def _label_values(message: Any) -> NDArray[np.uint8]:
    """The label values uint8 [H, W] of an Image (mono8) or a CompressedImage (PNG)."""
    if isinstance(message, CompressedImage):
        return np.asarray(cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)
    return np.ndarray((message.height, message.width), np.uint8, message.data, 0, (message.step, 1))


def _wanted(prompter: FirstSight, names: Mapping[int, str]) -> frozenset[int] | None:
    """Label values of the objects to prompt; None for all."""
    if prompter.objects is None:
        return None
    by_name = {name: value for value, name in names.items()}
    return frozenset(one if isinstance(one, int) else by_name.get(one, -1) for one in prompter.objects)


def _parameters(arguments: argparse.Namespace, objects: int) -> list[str]:
    """ROS arguments for the model, the engine and the settings of `--set`, all of which the node must know."""
    settings = parse_settings(arguments.set)
    known = {item.name for item in dataclasses.fields(NodeSettings)}
    if unknown := sorted(settings.keys() - known):
        raise ValueError(f"--set {unknown[0]}: no parameter of the node; it has {', '.join(sorted(known))}")
    values = {
        "max_objects": max(objects, NodeSettings().max_objects),
        **settings,
        "model": arguments.model,
        "checkpoint": arguments.checkpoint or "",
        "engine": arguments.engine,
        "precision": arguments.precision,
    }
    return [
        part for name, value in values.items() if value != "" for part in ("-p", f"{name}:={_yaml(value)}")
    ]


def _yaml(value: Any) -> str:
    return json.dumps(value if isinstance(value, bool | int | float) else str(value))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for this process and its children, as they were before afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
