"""`sam2s data stats`: the columns of the SAM2S paper's Table 1 for data in the project's layout, beside the paper's."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sam2s_ros.data.given_paths import given_videos
from sam2s_ros.data.source_table import PAPER_TABLE, SOURCES, TableRow
from sam2s_ros.data.video_folder import VideoFolder, read_index, read_video

HELP = "count videos, frames, masks and masklets, in the columns of the SAM2S paper's Table 1"
COLUMNS = ("videos", "frames", "instrument", "tissue", "other", "masklets", "seconds")


@dataclass
class Counts:
    """What the videos of one data set and split hold."""

    videos: int = 0
    frames: int = 0
    labelled: int = 0
    """Frames with a label image."""
    masks: Counter[str] = field(default_factory=Counter)
    """By kind: masklets that a label image shows, summed over label images."""
    masklets: int = 0
    duration_s: float = 0.0
    """Sum over the videos: last frame's number less the first's, plus the mean step, over the frame rate."""
    classes: Counter[str] = field(default_factory=Counter)
    """Masklets by class, or by the data set's own name in brackets."""
    identities: set[str] = field(default_factory=set)

    def add(self, video: VideoFolder) -> None:
        """Count one video. Raises as `video_folder` does where a file is broken; `sam2s data check` says more."""
        facts = video.facts
        numbers, masks = list(video.frames()), video.masks()
        self.frames += len(numbers)
        self.labelled += len(masks)
        kinds = {masklet.id: masklet.kind for masklet in facts.masklets}
        for path in masks.values():
            for value in np.flatnonzero(np.bincount(read_index(path).ravel())).tolist():
                if value:
                    self.masks[kinds.get(value, "other")] += 1
        if facts.stills:
            return
        self.videos += 1
        self.identities.add(facts.identities)
        self.masklets += len(facts.masklets)
        for masklet in facts.masklets:
            self.classes[masklet.class_name or f"({masklet.source_class or 'unnamed'})"] += 1
        if len(numbers) > 1:
            span = numbers[-1] - numbers[0]
            self.duration_s += (span + span / (len(numbers) - 1)) / facts.frame_rate
        elif numbers:
            self.duration_s += 1 / facts.frame_rate

    def row(self) -> dict[str, float | None]:
        """The columns of the table; None stands for a dash."""
        return {
            "videos": self.videos or None,
            "frames": self.frames,
            "instrument": self.masks["instrument"] or None,
            "tissue": self.masks["tissue"] or None,
            "other": self.masks["other"] or None,
            "masklets": self.masklets or None,
            "seconds": round(self.duration_s / self.videos, 1) if self.videos else None,
        }


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s data stats`."""
    parser.add_argument("folder", type=Path, help="a video, or a folder with videos at any depth")
    parser.add_argument("--out", type=Path, help="JSON file for the counts, classes included")


def run(arguments: argparse.Namespace) -> int:
    """Count and print."""
    paths = given_videos(arguments.folder)
    counts = count(tqdm(paths, unit="video", mininterval=1.0, disable=None))
    print(table(counts))
    if arguments.out:
        arguments.out.write_text(json.dumps(document(counts), indent=1) + "\n")
    return 0


def count(paths: Iterable[Path]) -> dict[tuple[str, str], Counts]:
    """(data set, split) -> what its videos hold."""
    counts: dict[tuple[str, str], Counts] = {}
    for path in paths:
        video = read_video(path)
        counts.setdefault((video.facts.dataset, video.facts.split), Counts()).add(video)
    return dict(sorted(counts.items()))


def paper_row(dataset: str, split: str) -> str:
    """Name of the row of Table 1 that a data set and split make; "" for none."""
    return dict(SOURCES[dataset].rows).get(split, "") if dataset in SOURCES else ""


def table(counts: dict[tuple[str, str], Counts]) -> str:
    """The table as text: a line per data set and split, and the paper's below it where it has one."""
    lines = [f"{'':34}" + "".join(f"{name:>12}" for name in COLUMNS)]
    for (dataset, split), found in counts.items():
        row = found.row()
        lines.append(f"{dataset + ' ' + split:34}" + "".join(f"{_cell(row[name]):>12}" for name in COLUMNS))
        name = paper_row(dataset, split)
        if name:
            paper = _paper_columns(PAPER_TABLE[name])
            lines.append(f"{'  paper: ' + name:34}" + "".join(f"{_cell(paper[c]):>12}" for c in COLUMNS))
    return "\n".join(lines)


def document(counts: dict[tuple[str, str], Counts]) -> list[dict[str, Any]]:
    """All that was counted, for a JSON file."""
    return [
        {
            "dataset": dataset,
            "split": split,
            **found.row(),
            "labelled_frames": found.labelled,
            "identities": sorted(found.identities),
            "classes": dict(found.classes.most_common()),
            "paper": asdict(PAPER_TABLE[name]) if (name := paper_row(dataset, split)) else None,
        }
        for (dataset, split), found in counts.items()
    ]


def _paper_columns(row: TableRow) -> dict[str, float | None]:
    return {
        "videos": row.videos,
        "frames": row.frames,
        "instrument": row.instrument_masks,
        "tissue": row.tissue_masks,
        "other": None,
        "masklets": row.masklets,
        "seconds": row.duration_s,
    }


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:g}" if value < 100000 else f"{value:.0f}"
