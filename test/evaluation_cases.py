"""What tests of the evaluation share: drawn sequences, and what was measured on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.bag_writer import BagWriter, write_frames
from sam2s_ros.evaluation.baselines import BaselineResult
from sam2s_ros.evaluation.evaluate import evaluate_sequence
from sam2s_ros.evaluation.records import FRAMES_FILE, NAN, FrameRecord, RecordReader, RecordWriter
from sam2s_ros.evaluation.scoring import ObjectScore
from sam2s_ros.evaluation.sequences import LabelledFrame
from sam2s_ros.evaluation.summary import OBJECT_COLUMNS, recorded_score


@dataclass(frozen=True)
class DrawnSequence:
    """Frames made from label images [H, W] given as a list; None for a frame without ground truth."""

    labels: list[NDArray[np.uint8] | None]
    name: str = "drawn"
    label_names: Mapping[int, str] = field(default_factory=lambda: {1: "tool"})

    def frames(self) -> Iterator[Any]:
        for index, labels in enumerate(self.labels):
            yield LabelledFrame(index, np.full((20, 20, 3), index, np.uint8), labels)


def label_image(value: int, left: int = 5) -> NDArray[np.uint8]:
    """20 x 20 pixels with a block of 10 x 5 of this value."""
    image = np.zeros((20, 20), np.uint8)
    image[5:15, left : left + 5] = value
    return image


def evaluated(*arguments: Any, **options: Any) -> tuple[ObjectScore, ...]:
    """What `evaluate_sequence` measured, per object, through the file that it is written to."""
    with TemporaryDirectory() as folder:
        write_records(Path(folder), evaluate_sequence(*arguments, **options))
        reader = RecordReader(Path(folder))
        items = reader.objects_of(reader.trackers[0])
        return tuple(recorded_score(item, reader.columns(item, *OBJECT_COLUMNS)) for item in items)


def write_records(folder: Path, frames: Iterable[Iterable[FrameRecord]]) -> None:
    """frames.parquet of these records."""
    with RecordWriter(folder / FRAMES_FILE) as writer:
        for records in frames:
            writer.write(records)


RECORD = FrameRecord(
    tracker="model", sequence="a", frame=0, stamp_ns=0, label=1, object_id=1, name="hook", true_class="hook",
    height=100, width=100, prompted=False, tracked=True, state="TRACKING", presence=0.9, predicted_iou=0.8,
    said_class="", long_term_insertions=None, present=True, truth_crc32=7,
    predicted_px=100, true_px=100, intersection_px=80,
    class_predicted_px=100, class_true_px=100, class_intersection_px=80, j=2 / 3, f=0.5, dice=0.8, nsd=0.7,
    hd95_px=4.0, asd_px=1.0, centroid_error_px=3.0, tip_error_px=NAN, consistency=0.9, latency_ms=20.0,
)  # fmt: skip
"""An object that is tracked well."""


def records(
    count: int, changes: Mapping[int, Mapping[str, Any]] | None = None, **same: Any
) -> list[FrameRecord]:
    """Records of one object on frames 0 .. count - 1; `changes` by frame."""
    return [
        replace(
            RECORD,
            **{"frame": frame, "stamp_ns": frame * 40_000_000, **same, **(changes or {}).get(frame, {})},
        )
        for frame in range(count)
    ]


def write_bag(path: Path, count: int = 6, rate_hz: float = 25.0, step: int = 2, width: int = 96) -> Path:
    """A bag of a red block, label value 1, that moves by `step` px an image over grey of 64 px height."""
    sequence = DrawnSequence([block_labels(number, step, width) for number in range(count)])
    with BagWriter(path) as writer:
        write_frames(writer, block_frames(sequence.labels, rate_hz), {1: "block"}, quality=100)
    return path


def block_labels(number: int, step: int, width: int) -> NDArray[np.uint8]:
    """Labels [64, width] with a block of 20 x 16 px that goes to and fro."""
    room = width - 24
    left = 2 + abs((number * step + room) % (2 * room) - room)
    labels = np.zeros((64, width), np.uint8)
    labels[20:40, left : left + 16] = 1
    return labels


def block_frames(images: Iterable[NDArray[np.uint8] | None], rate_hz: float) -> Iterator[LabelledFrame]:
    """The frames that these labels belong to, from stamp 1 s on."""
    for number, labels in enumerate(images):
        assert labels is not None
        image = np.full((*labels.shape, 3), 70, np.uint8)
        image[labels == 1] = (220, 40, 40)
        yield LabelledFrame(10**9 + round(number * 1e9 / rate_hz), image, labels)


class ColourTracker:
    """Tells the block by its colour: a `StreamTracker` that is always right, to show what the mode costs."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self.last_result: BaselineResult | None = None
        self.stepped: list[int] = []

    @property
    def last_prompted(self) -> BaselineResult | None:
        return self.last_result

    def encode_ahead(self, frame_rgb: NDArray[np.uint8]) -> None:
        assert frame_rgb.ndim == 3

    def advance(self, frames: int) -> int:
        return 0

    def step(self, frame_rgb: NDArray[np.uint8], stamp_ns: int | None = None) -> BaselineResult:
        self.stepped.append(stamp_ns or 0)
        self._newest = frame_rgb
        return self._look()

    def add_object(self, frame_rgb: NDArray[np.uint8] | None, **_: Any) -> int:
        self._ids.append(len(self._ids) + 1)
        self._look()
        return self._ids[-1]

    def refine_object(self, object_id: int, frame_rgb: NDArray[np.uint8] | None = None, **_: Any) -> None:
        self._look()

    def _look(self) -> BaselineResult:
        mask = self._newest[..., 0].astype(int) > self._newest[..., 1] + 60
        ids = np.array(self._ids, np.uint32)
        self.last_result = BaselineResult(ids, np.repeat(mask[None], len(ids), axis=0))
        return self.last_result
