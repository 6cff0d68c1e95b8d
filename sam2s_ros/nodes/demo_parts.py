"""The two parts of the demo: what each one starts, records and reports."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from sam2s_ros.evaluation.bags import LABEL_TOPIC, NAMES_TOPIC, BagSequence
from sam2s_ros.evaluation.bags import image_to_rgb as decode_recorded_image
from sam2s_ros.nodes.bag_file import BagFile, read_stamp
from sam2s_ros.nodes.demo_overlay import OverlayPainter, write_pictures, write_video
from sam2s_ros.nodes.demo_processes import ChildProcess
from sam2s_ros.nodes.demo_prompting import FirstAppearance, PromptedObject
from sam2s_ros.nodes.demo_recorder import RecordedTopic
from sam2s_ros.nodes.demo_report import (
    NEVER_ADDED,
    PromptedTrack,
    build_report,
    read_recording,
    read_topic,
    score_tracks,
    stamp_ns,
)
from sam2s_ros.nodes.demo_stage import (
    LABELS_TOPIC,
    OBJECTS_TOPIC,
    RECORDED,
    Stage,
    StageResult,
    run_stage,
    tracker_topics,
)
from sam2s_ros.nodes.replay import LATCHED, message_class
from sam2s_ros.nodes.shares import shipped_file
from sam2s_ros.nodes.synthetic_camera import Scene

Say = Callable[[str], None]
IMAGE_TYPES = {"sensor_msgs/msg/CompressedImage": "compressed", "sensor_msgs/msg/Image": "raw"}
NODE_TOPICS = {"sensor_msgs/msg/CompressedImage": "image/compressed", "sensor_msgs/msg/Image": "image"}
VIDEO_FPS = 10.0
MARKER_TOPIC = "/image/scene_frame"
STREAM_SIZE = (720, 1280)
STREAM_OBJECTS = 3
STREAM_SMALLEST_AREA = 2000  # pixels; a tool that has just reached into the picture is no fair prompt
STREAM_SCORED_EVERY = 5
RENDER_TIMEOUT_S = 300.0
START_TIMEOUT_S = 60.0


def run_bag_part(bag: Path, out: Path, tracker_arguments: Sequence[str], say: Say) -> dict[str, Any]:
    """Replay a bag with ground truth into the node; writes video and pictures, returns its report."""
    image_topic, image_type = _image_topic(BagFile(bag))
    names = BagSequence(bag, image_topic).label_names
    prompter = FirstAppearance()
    result = run_stage(
        Stage(
            name="bag",
            bag_folder=out / "bag",
            log_folder=out / "logs",
            environment={},
            tracker_arguments=[
                "--ros-args",
                *_parameters_file(),
                *tracker_arguments,
                "-p",
                f"image_transport:={IMAGE_TYPES[image_type]}",
                "-r",
                f"{NODE_TOPICS[image_type]}:={image_topic}",
            ],
            publisher_module="sam2s_ros.nodes.replay",
            publisher_arguments=[
                str(bag),
                "--wait-for",
                f"{image_topic}=2",
                "--wait-for",
                f"{LABEL_TOPIC}=1",
            ],
            topics=[
                RecordedTopic(image_topic, message_class(image_type), RECORDED),
                RecordedTopic(LABEL_TOPIC, Image, RECORDED, lambda _, data: _tell_labels(prompter, data)),
                RecordedTopic(NAMES_TOPIC, String, LATCHED),
                *tracker_topics(prompter, RecordedTopic(LABELS_TOPIC, Image, RECORDED)),
            ],
            prompter=prompter,
            object_names=names,
            timeout_s=START_TIMEOUT_S + _duration_s(bag),
        ),
        say,
    )
    return _report_bag(out, image_topic, result, prompter.waiting, say)


def _report_bag(
    out: Path, image_topic: str, result: StageResult, missed: Mapping[int, int], say: Say
) -> dict[str, Any]:
    folder = out / "bag"
    recording = read_recording(folder, image_topic, OBJECTS_TOPIC)
    tracks = _tracks(result.prompted, missed)
    labels = {
        stamp_ns(message.header.stamp): image_to_labels(message)
        for _, message in read_topic(folder, LABEL_TOPIC)
    }
    images = {stamp_ns(message.header.stamp): message for _, message in read_topic(folder, image_topic)}

    def truth(stamp: int, key: int) -> npt.NDArray[np.bool_] | None:
        return labels[stamp] == key if stamp in labels else None

    painter = OverlayPainter(recording, tracks, lambda stamp: decode_recorded_image(images[stamp]), truth)
    report = build_report(recording, score_tracks(recording, tracks, truth), tracks)
    report.update(_run_report(result))
    _write_prompts(out, "bag", result.prompted)
    say("bag: drawing the overlay")
    write_video(out / "overlay.mp4", map(painter.draw, recording.image_stamps_ns), VIDEO_FPS)
    write_pictures(out / "frames", "bag", painter, recording.image_stamps_ns, 6)
    return report


def run_stream_part(args: argparse.Namespace, tracker_arguments: Sequence[str], say: Say) -> dict[str, Any]:
    """Stream a synthetic scene into the node; `args` are those of `sam2s demo`. Returns its report."""
    scene = _render(args, say)
    prompter = FirstAppearance(frozenset(range(STREAM_OBJECTS)), STREAM_SMALLEST_AREA)
    result = run_stage(
        Stage(
            name="stream",
            bag_folder=args.out / "stream_bag",
            log_folder=args.out / "logs",
            environment={},
            tracker_arguments=["--ros-args", *_parameters_file(), *tracker_arguments],
            publisher_module="sam2s_ros.nodes.synthetic_camera",
            publisher_arguments=[
                str(args.out / "scene"),
                "--rate",
                str(args.stream_rate),
                "--frames",
                str(args.stream_frames),
                "--wait-for",
                "image=1",
                "--wait-for",
                "image/scene_frame=1",
            ],
            topics=[
                RecordedTopic(
                    MARKER_TOPIC, Header, RECORDED, lambda _, data: _tell_scene_frame(prompter, scene, data)
                ),
                *tracker_topics(prompter),
            ],
            prompter=prompter,
            object_names={index: f"instrument {index + 1}" for index in range(STREAM_OBJECTS)},
            timeout_s=START_TIMEOUT_S + args.stream_frames / args.stream_rate,
        ),
        say,
    )
    return _report_stream(args.out, scene, result, prompter.waiting, say)


def _report_stream(
    out: Path, scene: Scene, result: StageResult, missed: Mapping[int, int], say: Say
) -> dict[str, Any]:
    folder = out / "stream_bag"
    recording = read_recording(folder, MARKER_TOPIC, OBJECTS_TOPIC)
    tracks = _tracks(result.prompted, missed)
    shown = {stamp_ns(marker.stamp): int(marker.frame_id) for _, marker in read_topic(folder, MARKER_TOPIC)}

    def truth(stamp: int, key: int) -> npt.NDArray[np.bool_]:
        return scene.mask(shown[stamp], key)

    say(f"stream: scoring every {STREAM_SCORED_EVERY}th of {len(shown)} images")
    scores = score_tracks(recording, tracks, truth, STREAM_SCORED_EVERY)
    report = build_report(recording, scores, tracks)
    report["scored_every"] = STREAM_SCORED_EVERY
    report["image_size"] = [scene.size.height, scene.size.width]
    report["seed"] = scene.size.seed
    report["publisher"] = json.loads(result.publisher_line)
    report.update(_run_report(result))
    _write_prompts(out, "stream", result.prompted)
    painter = OverlayPainter(recording, tracks, lambda stamp: scene.frames[shown[stamp]], truth)
    write_pictures(out / "frames", "stream", painter, recording.image_stamps_ns, 5)
    return report


def _render(args: argparse.Namespace, say: Say) -> Scene:
    """Render the scene in a process of its own, so that this one stays small."""
    height, width = STREAM_SIZE
    say(f"stream: rendering {args.scene_frames} images of {width}x{height}")
    arguments = [
        str(args.out / "scene"),
        "--render",
        str(args.scene_frames),
        "--seed",
        str(args.seed),
        "--objects",
        str(STREAM_OBJECTS),
        "--size",
        str(height),
        str(width),
        "--rate",
        str(args.stream_rate),
    ]
    with ChildProcess(
        "render", "sam2s_ros.nodes.synthetic_camera", arguments, {}, args.out / "logs"
    ) as child:
        child.wait(RENDER_TIMEOUT_S)
    return Scene(args.out / "scene")


def image_to_labels(message: Any) -> npt.NDArray[np.uint8]:
    """The label values uint8 [H, W] of a mono8 image message, live or from a bag."""
    return np.ndarray((message.height, message.width), np.uint8, message.data, 0, (message.step, 1))


def _tell_labels(prompter: FirstAppearance, data: bytes) -> None:
    labels = image_to_labels(deserialize_message(data, Image))
    prompter.truth_arrived(
        read_stamp(data), {int(value): labels == value for value in np.unique(labels) if value}
    )


def _tell_scene_frame(prompter: FirstAppearance, scene: Scene, data: bytes) -> None:
    if prompter.finished:
        return
    marker = deserialize_message(data, Header)
    frame = int(marker.frame_id)
    prompter.truth_arrived(
        stamp_ns(marker.stamp), {key: scene.mask(frame, key) for key in range(scene.size.objects)}
    )


def _tracks(prompted: Sequence[PromptedObject], missed: Mapping[int, int]) -> list[PromptedTrack]:
    """What is scored: the prompted objects, and those that appeared (key -> stamp) but that the node never got."""
    tracks = [PromptedTrack(item.name, item.key, item.object_id, item.stamp_ns) for item in prompted]
    return tracks + [PromptedTrack(f"object {key}", key, NEVER_ADDED, stamp) for key, stamp in missed.items()]


def _run_report(result: StageResult) -> dict[str, Any]:
    """What the bag does not hold: late prompts, and how the node ended when it was told to (0 is in order)."""
    late = [item.name for item in result.prompted if item.frames_after_appearance]
    return {"late_prompts": late, "tracker_exit_status": result.tracker_exit_status}


def _write_prompts(out: Path, part: str, prompted: Sequence[PromptedObject]) -> None:
    """Keep which object was which beside the recordings, so that they can be scored again."""
    path = out / "prompts.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    known[part] = [asdict(item) for item in prompted]
    path.write_text(json.dumps(known, indent=2) + "\n")


def _image_topic(bag: BagFile) -> tuple[str, str]:
    """(name, type) of the image topic of a bag with ground truth."""
    types: Mapping[str, str] = bag.types
    if LABEL_TOPIC not in types:
        raise ValueError(
            f"{bag.path} has no ground truth under {LABEL_TOPIC}; topics there: {', '.join(sorted(types))}"
        )
    images = [topic for topic in sorted(types) if types[topic] in IMAGE_TYPES and topic != LABEL_TOPIC]
    if len(images) != 1:
        raise ValueError(
            f"{bag.path} needs exactly one image topic beside {LABEL_TOPIC}, not {images or 'none'}"
        )
    return images[0], types[images[0]]


def _duration_s(bag: Path) -> float:
    stamps = [stamp_ns(message.header.stamp) for _, message in read_topic(bag, LABEL_TOPIC)]
    return (max(stamps) - min(stamps)) * 1e-9 if stamps else 0.0


def _parameters_file() -> list[str]:
    return ["--params-file", str(shipped_file("config/tracker.yaml"))]
