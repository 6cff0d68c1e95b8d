"""The folder that `sam2s evaluate --out` writes: records and pictures as videos run, summary and report at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.overlay import OverlayVideo
from sam2s_ros.evaluation.records import FRAMES_FILE, FrameRecord, RecordReader
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.report_page import REPORT_FILE, write_report
from sam2s_ros.evaluation.sequences import LabelledFrame
from sam2s_ros.evaluation.summary import SUMMARY_FILE, summarise
from sam2s_ros.evaluation.unfinished import UnfinishedRun
from sam2s_ros.evaluation.worst_frames import (
    WORST_FILE,
    WorstFrame,
    WorstFrames,
    load_worst_frames,
    save_worst_frames,
    worst_of,
)


class EvaluationOutputs:
    """Takes records as they come; `finish` then computes the summary from the file, and writes it with the report.

    Memory holds one row group of records, the worst frames' pictures and, while the summary is made, the columns of one
    object. What was interrupted goes on where the same run (`key`) has left off, video by video (`unfinished`).
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        if folder.exists() and not folder.is_dir() or folder.suffix == ".json":
            raise ValueError(
                f"--out {folder}: give a folder; summary.json, frames.parquet and report.html go there"
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.unfinished = UnfinishedRun(folder, key)
        """The sequences that have been run."""
        if self.unfinished.begins:
            remove_results(folder)
        self._worst: list[WorstFrame] = []
        self._seen = WorstFrames()
        self._observer: SequenceObserver | None = None
        self.facts: dict[str, Any] = {}
        """How it was run, for the summary: of the command, and of what ran (engine, settings)."""

    def write(
        self,
        frames: Callable[[], Iterable[tuple[FrameRecord, ...]]],
        notes: Callable[[], Any] = lambda: None,
    ) -> tuple[Path, Any]:
        """Take the records of a sequence, frame by frame, and give the file that holds them.

        notes: what else is to be known of the sequence, as JSON, called when it has been run; given back, also where
            that was in a run before this one.
        """

        def facts() -> dict[str, Any]:
            """Of a sequence that has been run: whatever was drawn of it is whole before it counts as done."""
            if self._observer is not None:
                self._observer.close()
            worst = [asdict(one) for one in self._seen.kept]
            return {"facts": self.facts, "worst": worst, "notes": notes()}

        path, found = self.unfinished.take(frames, facts)
        self.facts.update(found["facts"])
        self._worst = worst_of(self._worst, [WorstFrame(**one) for one in found["worst"]])
        self._seen, self._observer = WorstFrames(), None
        return path, found["notes"]

    def observer(self, name: str, with_video: bool) -> SequenceObserver:
        """What is to see the frames of the next sequence to be written; `name` is the video's."""
        path = self._folder / f"{name}.mp4" if with_video else None
        self._observer = SequenceObserver(self._seen, path)
        return self._observer

    def finish(self, rule: ReturnRule, bootstrap: Bootstrap) -> dict[str, Any]:
        """Write frames.parquet, and summary.json and report.html from it; returns the summary."""
        self.unfinished.join(self._folder / FRAMES_FILE)
        save_worst_frames(self._worst, self._folder)
        document = write_summary(self._folder, rule, bootstrap, self.facts)
        self.unfinished.remove()
        return document


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
        self.close()

    def close(self) -> None:
        """Finish the video; nothing may follow."""
        if self._video is not None:
            self._video.close()

    def __call__(
        self,
        frame: LabelledFrame,
        predictions: Mapping[int, NDArray[np.bool_]],
        records: tuple[FrameRecord, ...],
    ) -> None:
        self._worst.observe(frame, predictions, records)
        if self._video is not None:
            self._video.write(frame, predictions, records)


def remove_results(folder: Path) -> None:
    """Remove what an earlier run has left: of another run's videos or summary nobody could tell that they are not this
    one's."""
    for name in (SUMMARY_FILE, REPORT_FILE, FRAMES_FILE, WORST_FILE):
        (folder / name).unlink(missing_ok=True)
    for video in (*folder.glob("overlay.mp4"), *folder.glob("overlay_*.mp4")):
        video.unlink()


def write_summary(
    folder: Path, rule: ReturnRule, bootstrap: Bootstrap, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute summary.json and report.html of a folder from what it holds; returns the summary."""
    reader = RecordReader(folder)
    document = summarise(reader, rule, bootstrap, facts)
    (folder / SUMMARY_FILE).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    write_report(folder / REPORT_FILE, reader, document, load_worst_frames(folder))
    return document
