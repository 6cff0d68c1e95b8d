"""The folder that `sam2s evaluate --out` writes: records and pictures as videos run, summary and report at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.overlay import OverlayVideo
from sam2s_ros.evaluation.records import FRAMES_FILE, FrameRecord, RecordReader, RecordWriter
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.report_page import REPORT_FILE, write_report
from sam2s_ros.evaluation.sequences import LabelledFrame
from sam2s_ros.evaluation.summary import SUMMARY_FILE, summarise
from sam2s_ros.evaluation.worst_frames import WorstFrames, load_worst_frames


class EvaluationOutputs:
    """Takes records as they come; `finish` then computes the summary from the file, and writes it with the report.

    Memory holds one row group of records, the worst frames' pictures and, while the summary is made, the columns of one
    object.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir() or folder.suffix == ".json":
            raise ValueError(
                f"--out {folder}: give a folder; summary.json, frames.parquet and report.html go there"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writer = RecordWriter(folder / FRAMES_FILE)
        self._worst = WorstFrames()

    def __enter__(self) -> EvaluationOutputs:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
        if kind is None:
            self._worst.save(self._folder)

    def write(self, frames: Iterable[tuple[FrameRecord, ...]]) -> None:
        """Take the records of a sequence, frame by frame."""
        for records in frames:
            self._writer.write(records)

    def observer(self, name: str, with_video: bool) -> SequenceObserver:
        """What is to see the frames of one sequence of the model that is judged; `name` is the video's."""
        path = self._folder / f"{name}.mp4" if with_video else None
        return SequenceObserver(self._worst, path)

    def finish(self, rule: ReturnRule, bootstrap: Bootstrap, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write summary.json and report.html from frames.parquet; returns the summary."""
        return write_summary(self._folder, rule, bootstrap, facts)


class SequenceObserver:
    """Keeps the worst frames and, where a path is given, draws the overlay video; an `evaluate.FrameObserver`."""

    def __init__(self, worst: WorstFrames, video_path: Path | None) -> None:
        self._worst = worst
        self._video = OverlayVideo(video_path) if video_path else None

    def __enter__(self) -> SequenceObserver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._video is not None:
            self._video.__exit__(kind, error, trace)

    def __call__(
        self,
        frame: LabelledFrame,
        predictions: Mapping[int, NDArray[np.bool_]],
        records: tuple[FrameRecord, ...],
    ) -> None:
        self._worst.observe(frame, predictions, records)
        if self._video is not None:
            self._video.write(frame, predictions, records)


def write_summary(
    folder: Path, rule: ReturnRule, bootstrap: Bootstrap, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute summary.json and report.html of a folder from what it holds; returns the summary."""
    reader = RecordReader(folder)
    document = summarise(reader, rule, bootstrap, facts)
    (folder / SUMMARY_FILE).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    write_report(folder / REPORT_FILE, reader, document, load_worst_frames(folder))
    return document
