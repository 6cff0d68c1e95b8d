"""Scores as a table to read and as JSON to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sam2s_ros.evaluation.scoring import Accuracy, ObjectScore, SequenceScore, mean_accuracy

Scores = Mapping[str, Sequence[SequenceScore]]  # by tracker, the same sequences and objects in each

READINGS = {
    "all": {"present_only": False, "with_ends": False},
    "present": {"present_only": True, "with_ends": False},
    "all_with_ends": {"present_only": False, "with_ends": True},
    "present_with_ends": {"present_only": True, "with_ends": True},
}


def score_table(scores: Scores) -> str:
    """J&F (%) per object over all frames and over those where it is present, two columns per tracker.

    The prompted and the last frame are not scored but in the last line.
    """
    rows = [_heading(scores)]
    for index, sequence in enumerate(next(iter(scores.values()))):
        for number, item in enumerate(sequence.objects):
            frames = item.scored_frames(present_only=False).sum()
            present = item.scored_frames(present_only=True).sum()
            row = [sequence.sequence, item.name, str(frames), str(present)]
            for tracker in scores.values():
                same_object = tracker[index].objects[number]
                row += [_percent(same_object.accuracy(**READINGS[name])) for name in ("all", "present")]
            rows.append(row)
    rows.append(["mean over objects", "", "", "", *_mean_cells(scores, "all", "present")])
    with_ends = _mean_cells(scores, "all_with_ends", "present_with_ends")
    rows.append(["mean, first and last frame too", "", "", "", *with_ends])
    return _aligned(rows)


def score_document(scores: Scores, **facts: Any) -> dict[str, Any]:
    """Everything measured as JSON values in percent; `facts` say how it was run.

    Each score has j, f and jf, for four readings: all frames or those where the object is present, without or
    with the prompted and the last frame. A reading without frames is null.
    """
    trackers = {}
    for name, sequences in scores.items():
        trackers[name] = {
            "mean": {
                reading: _numbers(mean_accuracy(sequences, **options))
                for reading, options in READINGS.items()
            },
            "objects": [
                {"sequence": sequence.sequence, **_object_numbers(item)}
                for sequence in sequences
                for item in sequence.objects
            ],
        }
    return {**facts, "scores": trackers}


def _object_numbers(score: ObjectScore) -> dict[str, Any]:
    readings = {reading: _numbers(score.accuracy(**options)) for reading, options in READINGS.items()}
    counts = {
        "frames": int(score.scored_frames(present_only=False).sum()),
        "present_frames": int(score.scored_frames(present_only=True).sum()),
    }
    return {"name": score.name, "label": score.label, "first_frame": score.first_frame, **counts, **readings}


def _numbers(accuracy: Accuracy | None) -> dict[str, float] | None:
    if accuracy is None:
        return None
    return {"j": round(accuracy.j, 4), "f": round(accuracy.f, 4), "jf": round(accuracy.jf, 4)}


def _heading(scores: Scores) -> list[str]:
    heading = ["sequence", "object", "frames", "present"]
    for tracker in scores:
        heading += [f"{tracker}: all", "present"]
    return heading


def _mean_cells(scores: Scores, *readings: str) -> list[str]:
    return [
        _percent(mean_accuracy(tracker, **READINGS[name])) for tracker in scores.values() for name in readings
    ]


def _percent(accuracy: Accuracy | None) -> str:
    return "-" if accuracy is None else f"{accuracy.jf:.1f}"


def _aligned(rows: list[list[str]]) -> str:
    """Columns padded to their widest cell, the first two to the left and the numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
