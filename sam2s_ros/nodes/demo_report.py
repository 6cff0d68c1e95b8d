"""What a recorded run shows: frames in and tracked, latencies, and the accuracy of the masks that were
received.

Everything is computed from the bag, so that a recording can be judged again later. No ROS installation is
needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.highlevel import AnyReader

from sam2s_ros.evaluation.metrics import region_and_boundary
from sam2s_ros.evaluation.scoring import ObjectScore, SequenceScore
from sam2s_ros.nodes.counted import counted
from sam2s_ros.tracking import rle

BoolArray = npt.NDArray[np.bool_]
Truth = Callable[[int, int], "BoolArray | None"]
"""(stamp in ns, object key) -> true mask bool [H, W], None where the image has no ground truth."""

NANOSECONDS = 1_000_000_000
NOT_TRACKED = (1, 3)  # TrackedObjectArray.NO_INPUT, ENGINE_FAILED
PERCENTILES = (50, 99)
NEVER_ADDED = 0  # as an object id, which start at 1: the object appeared, and the node was never given it


@dataclass(frozen=True)
class PromptedTrack:
    """An object that was added in the run: its id in the node, its key in the ground truth, the prompted
    image.
    """

    name: str
    key: int
    object_id: int
    stamp_ns: int


@dataclass(frozen=True)
class ReceivedObjects:
    """The first ~/objects message for one image, and when it was received."""

    receipt_ns: int
    message: Any

    @property
    def stamp_ns(self) -> int:
        """Stamp of the source image."""
        return stamp_ns(self.message.header.stamp)

    def mask(self, object_id: int) -> BoolArray | None:
        """Mask bool [H, W] of one object, None if the message holds no mask for it."""
        for item in self.message.objects:
            if item.id == object_id and item.mask.height:
                return rle.decode(item.mask.counts, (item.mask.height, item.mask.width))
        return None


@dataclass(frozen=True)
class Recording:
    """The images of a run in order of their stamps, and what the node published for them, by stamp."""

    image_stamps_ns: tuple[int, ...]
    received: Mapping[int, ReceivedObjects]
    newest: ReceivedObjects | None

    @property
    def tracked_stamps_ns(self) -> tuple[int, ...]:
        """Stamps of the images for which objects were received."""
        return tuple(stamp for stamp in self.image_stamps_ns if stamp in self.received)


def stamp_ns(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def read_topic(bag_path: Path, topic: str) -> list[tuple[int, Any]]:
    """(time of receipt in ns, message) of one topic of a bag, in recorded order; raises ValueError if it has
    none.
    """
    with AnyReader([bag_path]) as bag:
        connections = [connection for connection in bag.connections if connection.topic == topic]
        if not connections:
            topics = ", ".join(sorted({connection.topic for connection in bag.connections}))
            raise ValueError(f"{bag_path} has no topic {topic}; topics there: {topics or 'none'}")
        return [
            (receipt_ns, bag.deserialize(data, connection.msgtype))
            for connection, receipt_ns, data in bag.messages(connections)
        ]


def read_recording(bag_path: Path, image_topic: str, objects_topic: str) -> Recording:
    """Read a run; `image_topic` may hold any stamped message that was published once for each image, with its
    stamp.
    """
    stamps = sorted({_image_stamp(message) for _, message in read_topic(bag_path, image_topic)})
    received: dict[int, ReceivedObjects] = {}
    newest = None
    for receipt_ns, message in read_topic(bag_path, objects_topic):
        newest = ReceivedObjects(receipt_ns, message)
        if message.status not in NOT_TRACKED:
            received.setdefault(newest.stamp_ns, newest)
    return Recording(tuple(stamps), received, newest)


def _image_stamp(message: Any) -> int:
    return stamp_ns(message.header.stamp if hasattr(message, "header") else message.stamp)


def score_tracks(
    recording: Recording, tracks: Sequence[PromptedTrack], truth: Truth, every: int = 1
) -> list[ObjectScore]:
    """J and F of each object from its prompted image on; an image for which nothing was published has an
    empty mask.

    `every`: only each n-th image after the prompted one is scored, the others are not looked at.
    """
    return [_score_track(recording, track, truth, every) for track in tracks]


def _score_track(recording: Recording, track: PromptedTrack, truth: Truth, every: int) -> ObjectScore:
    stamps = [stamp for stamp in recording.image_stamps_ns if stamp >= track.stamp_ns][::every]
    j, f = np.full(len(stamps), np.nan), np.full(len(stamps), np.nan)
    present, area = np.zeros(len(stamps), bool), np.zeros(len(stamps))
    for frame, stamp in enumerate(stamps):
        wanted = truth(stamp, track.key)
        if wanted is None:
            continue
        found = recording.received[stamp].mask(track.object_id) if stamp in recording.received else None
        found = np.zeros_like(wanted) if found is None else found
        j[frame], f[frame] = region_and_boundary(found, wanted)
        present[frame], area[frame] = wanted.any(), found.mean()
    first_frame = recording.image_stamps_ns.index(track.stamp_ns)
    return ObjectScore(track.name, track.key, first_frame, j, f, present, area)


def build_report(
    recording: Recording, scores: Sequence[ObjectScore], tracks: Sequence[PromptedTrack]
) -> dict[str, Any]:
    """The part of summary.json about one run. J&F in percent over frames that show the object, without the
    prompted and the last one; times in ms; a value without any sample is None.

    Raises:
        ValueError: no image, or no answer of the node, was recorded.
    """
    if not recording.image_stamps_ns:
        raise ValueError("no image was recorded: the publisher's images did not arrive")
    if recording.newest is None or not recording.tracked_stamps_ns:
        raise ValueError("the tracker node published nothing for any of the images")
    frames_in, frames_tracked = len(recording.image_stamps_ns), len(recording.tracked_stamps_ns)
    mean = SequenceScore("", tuple(scores)).accuracy(present_only=True)
    return {
        "jf_mean": None if mean is None else round(mean.jf, 2),
        "objects": [
            {**_object_report(score, track), "frames_before_answer": frames_before_answer(recording, track)}
            for score, track in zip(scores, tracks, strict=True)
        ],
        "frames_in": frames_in,
        "frames_tracked": frames_tracked,
        "frames_skipped": frames_in - frames_tracked,
        "tracked_percent": round(100 * frames_tracked / frames_in, 2),
        "rate_hz": _rate_hz(recording.image_stamps_ns),
        "latency_ms": _percentiles(_receipt_latencies_ms(recording)),
        "publish_latency_ms": _percentiles(_publish_latencies_ms(recording)),
        "stages_ms": _stage_medians_ms(recording),
        **_node_report(recording.newest.message),
    }


def frames_before_answer(recording: Recording, track: PromptedTrack) -> int:
    """Images after the prompted one that were published without the object, since its prompt was still being answered.

    They count as empty masks.
    """
    count = 0
    for stamp in recording.image_stamps_ns:
        if stamp <= track.stamp_ns:
            continue
        found = recording.received.get(stamp)
        if found is not None and any(item.id == track.object_id for item in found.message.objects):
            break
        count += 1
    return count


def _object_report(score: ObjectScore, track: PromptedTrack) -> dict[str, Any]:
    accuracy = score.accuracy(present_only=True)
    return {
        "name": score.name,
        "id": None if track.object_id == NEVER_ADDED else track.object_id,
        "jf": None if accuracy is None else round(accuracy.jf, 2),
        "j": None if accuracy is None else round(accuracy.j, 2),
        "f": None if accuracy is None else round(accuracy.f, 2),
        "prompted_frame": score.first_frame,
        "frames_scored": int(score.scored_frames(present_only=True).sum()),
    }


def _node_report(newest: Any) -> dict[str, Any]:
    return {
        "model": newest.model,
        "model_sha256": newest.model_sha256,
        "engine": newest.engine,
        "node": {
            "frames_received": int(newest.frames_received),
            "frames_tracked": int(newest.frames_tracked),
            "frames_skipped": int(newest.frames_skipped),
            "frames_lost": int(newest.frames_lost),
        },
    }


def _receipt_latencies_ms(recording: Recording) -> list[float]:
    return [(recording.received[stamp].receipt_ns - stamp) * 1e-6 for stamp in recording.tracked_stamps_ns]


def _publish_latencies_ms(recording: Recording) -> list[float]:
    published = [
        stamp_ns(recording.received[stamp].message.published) for stamp in recording.tracked_stamps_ns
    ]
    return [(sent - stamp) * 1e-6 for sent, stamp in zip(published, recording.tracked_stamps_ns, strict=True)]


def _stage_medians_ms(recording: Recording) -> dict[str, float]:
    stages: dict[str, list[float]] = {}
    for stamp in recording.tracked_stamps_ns:
        for entry in recording.received[stamp].message.stage_latencies:
            if math.isfinite(entry.duration):
                stages.setdefault(entry.stage, []).append(1000 * entry.duration)
    return {stage: round(float(np.median(values)), 2) for stage, values in stages.items()}


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{percent}": round(float(np.percentile(values, percent)), 2) for percent in PERCENTILES}


def _rate_hz(stamps_ns: Sequence[int]) -> float | None:
    if len(stamps_ns) < 2:
        return None
    return round((len(stamps_ns) - 1) * NANOSECONDS / (stamps_ns[-1] - stamps_ns[0]), 2)


def format_table(title: str, report: Mapping[str, Any]) -> str:
    """A few lines for people: accuracy by object, frames, latency, model."""
    lines = [title]
    for item in report["objects"]:
        jf = "  n/a" if item["jf"] is None else f"{item['jf']:5.1f}"
        prompted = "never prompted" if item["id"] is None else f"prompted on frame {item['prompted_frame']}"
        waited = item["frames_before_answer"]
        scored = f"{item['frames_scored']} frames scored"
        scored += f"; no mask yet on {counted(waited, 'image')} before the answer" if waited else ""
        lines.append(f"  {item['name']:<20} J&F {jf}   {prompted}, {scored}")
    mean = "  n/a" if report["jf_mean"] is None else f"{report['jf_mean']:5.1f}"
    latency = report["latency_ms"]
    lines += [
        f"  {'mean':<20} J&F {mean}",
        f"  frames in {report['frames_in']}, tracked {report['frames_tracked']} "
        f"({report['tracked_percent']:.1f} %), "
        f"skipped {report['frames_skipped']}",
        f"  latency stamp -> receipt: p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms",
        f"  model {report['model'] or '?'}, engine {report['engine'] or '?'}",
    ]
    return "\n".join(lines)
