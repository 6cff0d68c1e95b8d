"""Scores as a table to read and as JSON to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sam2s_ros.evaluation.classes import ClassAccuracy, class_accuracy, object_class_accuracy
from sam2s_ros.evaluation.reidentification import (
    AbsenceScore,
    MeanAbsence,
    ReturnRule,
    absence_score,
    mean_absence,
    total_absence,
)
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


def absence_table(scores: Scores, rule: ReturnRule) -> str:
    """Returns that were found and false masks while away, per object, three columns per tracker.

    Empty where no object was ever absent.
    """
    measured = {
        name: [[absence_score(item, rule) for item in sequence.objects] for sequence in tracker]
        for name, tracker in scores.items()
    }
    flat = [[one for objects in tracker for one in objects] for tracker in measured.values()]
    total = total_absence(flat[0])
    if total.absent_frames == 0:
        return ""
    heading = ["sequence", "object", "returns", "absent"]
    for name in scores:
        heading += [f"{name}: found", "false", "area"]
    rows = [heading]
    for index, sequence in enumerate(next(iter(scores.values()))):
        for number, item in enumerate(sequence.objects):
            cells = [tracker[index][number] for tracker in measured.values()]
            row = [sequence.sequence, item.name, str(cells[0].reappearances), str(cells[0].absent_frames)]
            rows.append(row + [text for cell in cells for text in _absence_cells(cell)])
    last = ["mean over objects", "", str(total.reappearances), str(total.absent_frames)]
    rows.append(last + [text for items in flat for text in _absence_cells(mean_absence(items))])
    title = (
        f"Returns after {rule.absent_frames} frames or more: found (%) at IoU {rule.min_iou} within "
        f"{rule.return_frames} frames. Absent frames: with a mask (%), its area (% of the image)"
    )
    return f"{title}\n{_aligned(rows)}"


def class_line(scores: Scores) -> str:
    """Class accuracy of the trackers that know classes of objects here, beside chance; empty where none does."""
    found = {name: _class_accuracy(sequences) for name, sequences in scores.items()}
    return "\n".join(
        f"{name}: class right on {one.accuracy:.1f} % of the frames that show the object, mean over {one.objects} "
        f"objects (chance {one.chance:.1f} %)"
        for name, one in found.items()
        if one is not None
    )


def score_document(scores: Scores, rule: ReturnRule, **facts: Any) -> dict[str, Any]:
    """Everything measured as JSON values in percent; `facts` say how it was run.

    Each score has j, f and jf, for four readings: all frames or those where the object is present, without or
    with the prompted and the last frame. A reading without frames is null. `absence` says what happened
    while objects were away and when they returned, by `rule`; `classes` how often an object's class was right, null
    where the tracker knows no class of these objects.
    """
    trackers = {}
    for name, sequences in scores.items():
        trackers[name] = {
            "mean": {
                reading: _numbers(mean_accuracy(sequences, **options))
                for reading, options in READINGS.items()
            }
            | {"absence": _mean_absence_numbers(sequences, rule), "classes": _class_numbers(sequences)},
            "objects": [
                {"sequence": sequence.sequence, **_object_numbers(item, rule, sequence.classes)}
                for sequence in sequences
                for item in sequence.objects
            ],
        }
    return {**facts, "scores": trackers}


def _class_accuracy(sequences: Sequence[SequenceScore]) -> ClassAccuracy | None:
    classes = next((sequence.classes for sequence in sequences if sequence.classes), ())
    return class_accuracy((item for sequence in sequences for item in sequence.objects), classes)


def _class_numbers(sequences: Sequence[SequenceScore]) -> dict[str, Any] | None:
    found = _class_accuracy(sequences)
    if found is None:
        return None
    return {
        "accuracy": round(found.accuracy, 4),
        "chance": round(found.chance, 4),
        "objects": found.objects,
    }


def _object_numbers(score: ObjectScore, rule: ReturnRule, classes: Sequence[str]) -> dict[str, Any]:
    readings = {reading: _numbers(score.accuracy(**options)) for reading, options in READINGS.items()}
    counts = {
        "frames": int(score.scored_frames(present_only=False).sum()),
        "present_frames": int(score.scored_frames(present_only=True).sum()),
    }
    place = {"name": score.name, "label": score.label, "first_frame": score.first_frame}
    away = absence_score(score, rule)
    right = object_class_accuracy(score, classes)
    return {
        **place,
        **counts,
        **readings,
        "absence": {**_absence_counts(away), **_absence_shares(away)},
        "class_accuracy": None if right is None else round(100 * right, 4),
    }


def _mean_absence_numbers(sequences: Sequence[SequenceScore], rule: ReturnRule) -> dict[str, Any]:
    """Counts over all objects, and means over objects."""
    items = [absence_score(item, rule) for sequence in sequences for item in sequence.objects]
    return {**_absence_counts(total_absence(items)), **_absence_shares(mean_absence(items))}


def _absence_counts(score: AbsenceScore) -> dict[str, int]:
    return {
        "reappearances": score.reappearances,
        "reidentified": score.reidentified,
        "absent_frames": score.absent_frames,
        "false_positive_frames": score.false_positive_frames,
    }


def _absence_shares(score: AbsenceScore | MeanAbsence) -> dict[str, float | None]:
    shares = {
        "reidentified_share": score.reidentified_share,
        "false_positive_share": score.false_positive_share,
        "mean_area": score.mean_area,
    }
    return {name: None if share is None else round(share, 4) for name, share in shares.items()}


def _absence_cells(score: AbsenceScore | MeanAbsence) -> list[str]:
    return ["-" if share is None else f"{share:.1f}" for share in _absence_shares(score).values()]


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
