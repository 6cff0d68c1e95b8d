"""The frames on which a tracker was worst, kept as small pictures while a video is evaluated."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.overlay import draw_overlay
from sam2s_ros.evaluation.records import FrameRecord
from sam2s_ros.evaluation.sequences import LabelledFrame

WORST_FILE = "worst_frames.json"
KEPT = 12
APART_FRAMES = 15
"""Two kept frames of one object are at least so many frames apart, so that one failure does not fill the list."""
WIDTH_PX = 480
JPEG_QUALITY = 80


@dataclass(frozen=True)
class WorstFrame:
    """One frame with the object that was wrong on it. `jpeg` is the overlay, as base64 text."""

    sequence: str
    frame: int
    label: int
    name: str
    jf: float
    wrong_share: float
    """Share of the image that is in one mask only, the predicted or the true one."""
    present: bool
    state: str
    jpeg: str

    @property
    def badness(self) -> tuple[float, float]:
        """The larger, the worse: by J&F, then by the wrong area."""
        return (-self.jf, self.wrong_share)


class WorstFrames:
    """Keeps the `KEPT` worst frames of a sequence, but for prompted ones; an `evaluate.FrameObserver`."""

    def __init__(self) -> None:
        self.kept: list[WorstFrame] = []

    def observe(
        self,
        frame: LabelledFrame,
        predictions: Mapping[int, NDArray[np.bool_]],
        records: tuple[FrameRecord, ...],
    ) -> None:
        """Look at one frame; it is drawn only when it is among the worst so far."""
        for record in records:
            found = _judge(record)
            if found is None:
                continue
            near = [one for one in self.kept if _is_near(one, found)]
            beaten = near if near else self.kept if len(self.kept) >= KEPT else []
            if beaten and found.badness <= (max if near else min)(one.badness for one in beaten):
                continue
            picture = _picture(frame, record.label, predictions[record.label])
            dropped = near if near else [min(beaten, key=lambda one: one.badness)] if beaten else []
            self.kept = [one for one in self.kept if one not in dropped]
            self.kept.append(WorstFrame(**{**asdict(found), "jpeg": picture}))
        self.kept.sort(key=lambda one: one.badness, reverse=True)


def worst_of(some: list[WorstFrame], more: list[WorstFrame]) -> list[WorstFrame]:
    """The `KEPT` worst of both, worst first; of equal ones the earlier."""
    return sorted([*some, *more], key=lambda one: one.badness, reverse=True)[:KEPT]


def save_worst_frames(frames: list[WorstFrame], folder: Path) -> None:
    """Write `WORST_FILE` into a folder."""
    (folder / WORST_FILE).write_text(json.dumps([asdict(one) for one in frames], indent=1) + "\n")


def load_worst_frames(folder: Path) -> list[WorstFrame]:
    """What was kept, worst first; empty where nothing was."""
    path = folder / WORST_FILE
    return [WorstFrame(**item) for item in json.loads(path.read_text())] if path.is_file() else []


def _judge(record: FrameRecord) -> WorstFrame | None:
    """The record as a candidate without a picture; None where nothing is wrong, or nothing is known."""
    if record.present is None or record.true_px is None or record.intersection_px is None or record.prompted:
        return None
    wrong = record.predicted_px + record.true_px - 2 * record.intersection_px
    if not wrong:
        return None
    return WorstFrame(
        record.sequence,
        record.frame,
        record.label,
        record.name,
        round((record.j + record.f) / 2, 6),
        round(wrong / (record.height * record.width), 6),
        record.present,
        record.state,
        "",
    )


def _is_near(one: WorstFrame, other: WorstFrame) -> bool:
    return (one.sequence, one.label) == (other.sequence, other.label) and abs(
        one.frame - other.frame
    ) < APART_FRAMES


def _picture(frame: LabelledFrame, label: int, prediction: NDArray[np.bool_]) -> str:
    """JPEG as base64: one object's mask tinted, its true outline white, on a black one to be seen on highlights."""
    image = draw_overlay(LabelledFrame(frame.stamp_ns, frame.image, None), {label: prediction})
    scale = min(1.0, WIDTH_PX / image.shape[1])
    image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    truth = np.asarray(frame.labels == label, np.uint8)
    truth = np.asarray(cv2.resize(truth, image.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
    outlines, _ = cv2.findContours(truth, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.drawContours(image, outlines, -1, colour, width)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return base64.b64encode(encoded.tobytes()).decode()
