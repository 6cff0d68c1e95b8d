"""Everything that summary.json says, computed from frames.parquet: per object, class, sequence and tracker.

Means are over frames per object, then over objects, whichever sequence they are from. `docs/evaluation.md` defines
every measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from sam2s_ros.evaluation.classes import object_class_accuracy
from sam2s_ros.evaluation.endovis import ClassFrames, endovis_ious
from sam2s_ros.evaluation.failures import WRONG_IOU, find_failures
from sam2s_ros.evaluation.intervals import Bootstrap, Interval
from sam2s_ros.evaluation.records import RecordedObject, RecordReader
from sam2s_ros.evaluation.reidentification import ReturnRule, absence_score
from sam2s_ros.evaluation.scoring import ObjectScore

SUMMARY_FILE = "summary.json"
FORMAT = 1
READINGS = {
    "all": {"present_only": False, "with_ends": False},
    "present": {"present_only": True, "with_ends": False},
    "all_with_ends": {"present_only": False, "with_ends": True},
    "present_with_ends": {"present_only": True, "with_ends": True},
}
PERCENTILES = (50, 95, 99)
LISTED_FAILURES = 200
"""So many, the longest, are listed of each tracker; all are counted."""
COUNTS = ("frames", "present_frames", "absent_frames", "returns", "returns_found", "false_frames", "failures")
"""Whole numbers of an object, added up over objects; all else is averaged."""
OBJECT_COLUMNS = (
    "frame", "j", "f", "present", "predicted_px", "height", "width", "said_class", "dice", "nsd", "hd95_px", "asd_px",
    "centroid_error_px", "tip_error_px", "consistency", "state", "true_class", "stamp_ns",
    "long_term_insertions",
)  # fmt: skip

Numbers = dict[str, Any]


def summarise(
    reader: RecordReader, rule: ReturnRule, bootstrap: Bootstrap, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The document that summary.json holds. `facts` say how it was run, `facts["classes"]` what classes are known.

    The same records give the same document, but for `timings`.
    """
    facts = dict(facts or {})
    known_classes = tuple(facts.get("classes", ()))
    scores = {
        tracker: _tracker_numbers(reader, tracker, rule, bootstrap, known_classes)
        for tracker in reader.trackers
    }
    return {
        "format": FORMAT,
        **facts,
        "return_rule": asdict(rule),
        "bootstrap": asdict(bootstrap),
        "scores": scores,
        "timings": {tracker: latency_numbers(reader, tracker) for tracker in reader.trackers},
    }


def recorded_score(item: RecordedObject, columns: Mapping[str, np.ndarray]) -> ObjectScore:
    """The score of one object, from its columns of frames.parquet."""
    return ObjectScore(
        item.name,
        item.label,
        item.first_frame,
        columns["j"],
        columns["f"],
        np.asarray(columns["present"] == 1),
        columns["predicted_px"] / (columns["height"].astype(np.float64) * columns["width"]),
        tuple(columns["said_class"]),
    )


def object_numbers(
    item: RecordedObject, columns: Mapping[str, np.ndarray], rule: ReturnRule, known_classes: tuple[str, ...]
) -> Numbers:
    """All measures of one object; None where there is nothing to measure."""
    score = recorded_score(item, columns)
    scored, shown = score.scored_frames(present_only=False), score.scored_frames(present_only=True)
    numbers: Numbers = {"frames": int(scored.sum()), "present_frames": int(shown.sum())}
    for reading, options in READINGS.items():
        accuracy = score.accuracy(**options)
        for name in ("jf", "j", "f"):
            numbers[f"{name}_{reading}"] = None if accuracy is None else getattr(accuracy, name)
    for name in ("dice", "nsd"):
        numbers[f"{name}_all"] = _mean(100 * columns[name][scored])
        numbers[f"{name}_present"] = _mean(100 * columns[name][shown])
    diagonal = np.hypot(columns["height"], columns["width"])
    for name in ("hd95_px", "asd_px"):
        numbers[name] = _mean(columns[name][shown])
    numbers["distances_missing"] = _mean(100.0 * ~np.isfinite(columns["hd95_px"][shown]))
    for name in ("centroid_error", "tip_error"):
        error = columns[f"{name}_px"][shown]
        numbers[f"{name}_px"] = _mean(error)
        numbers[f"{name}_percent"] = _mean(100 * error / diagonal[shown])
    numbers["consistency"] = _mean(100 * columns["consistency"][1:])
    away = absence_score(score, rule)
    numbers |= {
        "absent_frames": away.absent_frames,
        "false_frames": away.false_positive_frames,
        "false_share": away.false_positive_share,
        "false_area": away.mean_area,
        "returns": away.reappearances,
        "returns_found": away.reidentified,
        "found_share": away.reidentified_share,
    }
    right = object_class_accuracy(score, known_classes)
    numbers["class_accuracy"] = None if right is None else 100 * right
    numbers["insertions_per_minute"] = _insertions_per_minute(columns)
    return numbers | _trust(columns, scored, score.present)


def _insertions_per_minute(columns: Mapping[str, np.ndarray]) -> float | None:
    """How often a frame entered the object's long-term memory, by image stamps; None where that is not known."""
    known = ~np.isnan(columns["long_term_insertions"].astype(np.float64))
    entered, stamps_ns = columns["long_term_insertions"][known], columns["stamp_ns"][known]
    if len(stamps_ns) < 2 or stamps_ns[-1] <= stamps_ns[0]:
        return None
    return float((entered[-1] - entered[0]) / ((stamps_ns[-1] - stamps_ns[0]) / 60e9))


def _trust(columns: Mapping[str, np.ndarray], scored: np.ndarray, present: np.ndarray) -> Numbers:
    """What TRACKING is worth: how often a mask said to be good was right, and how often a wrong one was said to be."""
    if not (columns["state"][scored] != "").any():
        return {"tracking_right": None, "silent_wrong": None}
    wrong = np.where(present, columns["j"] < WRONG_IOU, columns["predicted_px"] > 0)
    said = scored & (columns["state"] == "TRACKING")
    return {
        "tracking_right": _mean(100.0 * ~wrong[said]),
        "silent_wrong": 100 * float((said & wrong).sum() / scored.sum()),
    }


def _tracker_numbers(
    reader: RecordReader, tracker: str, rule: ReturnRule, bootstrap: Bootstrap, known_classes: tuple[str, ...]
) -> dict[str, Any]:
    objects: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for item in reader.objects_of(tracker):
        columns = reader.columns(item, *OBJECT_COLUMNS)
        place = {"sequence": item.sequence, "name": item.name, "label": item.label}
        found = _object_failures(item, columns)
        numbers = object_numbers(item, columns, rule, known_classes) | {"failures": len(found)}
        objects.append(
            {**place, "first_frame": item.first_frame, "class": str(columns["true_class"][0]), **numbers}
        )
        failures = _longest(failures + [{**place, **asdict(one)} for one in found])
    endovis = endovis_ious([_class_frames(reader, tracker, name) for name in reader.sequences], bootstrap)
    mean, intervals = mean_numbers(objects), mean_intervals(objects, bootstrap)
    names = {"challenge": "challenge_iou", "iou": "isi_iou", "mc": "mc_iou"}
    for name, key in names.items():
        mean[key] = endovis.iou if name == "iou" else getattr(endovis, f"{name}_iou")
        intervals[key] = getattr(endovis, f"{name}_interval")
    if mean["class_accuracy"] is not None:
        mean["class_chance"] = 100 / len(known_classes)
    return _rounded(
        {
            "mean": mean,
            "intervals": intervals,
            "frames": _frame_counts(reader, tracker),
            "by_class": _grouped(objects, lambda one: one["class"], endovis.classes),
            "by_sequence": _grouped(objects, lambda one: one["sequence"]),
            "objects": objects,
            "failures": failures,
        }
    )


def mean_numbers(objects: Iterable[Mapping[str, Any]]) -> Numbers:
    """Counts added up and measures averaged over objects, each over those that have it; None where none has."""
    items = list(objects)
    numbers: Numbers = {"objects": len(items)}
    for key in _measured(items):
        known = [one[key] for one in items if one[key] is not None]
        if key in COUNTS:
            numbers[key] = sum(known)
        else:
            numbers[key] = float(np.mean(known)) if known else None
    return numbers


def mean_intervals(objects: Iterable[Mapping[str, Any]], bootstrap: Bootstrap) -> dict[str, Interval | None]:
    """Interval of each averaged measure, over sequences; None where there are too few."""
    items = list(objects)
    sequences = list(dict.fromkeys(one["sequence"] for one in items))
    rows = np.array([sequences.index(one["sequence"]) for one in items])
    found: dict[str, Interval | None] = {}
    for key in _measured(items):
        if key in COUNTS:
            continue
        values = np.array([np.nan if one[key] is None else one[key] for one in items], np.float64)
        known = np.isfinite(values)
        sums, counts = np.zeros((2, len(sequences)))
        np.add.at(sums, rows[known], values[known])
        np.add.at(counts, rows[known], 1)
        found[key] = bootstrap.interval(sums, counts)
    return found


def latency_numbers(reader: RecordReader, tracker: str) -> dict[str, Any]:
    """Percentiles of the time per frame in ms, over all frames and by the number of objects followed."""
    times, counts = [], []
    for sequence in reader.sequences:
        columns = reader.sequence_columns(tracker, sequence, "frame", "latency_ms")
        _, first, count = np.unique(columns["frame"], return_index=True, return_counts=True)
        times.append(columns["latency_ms"][first])
        counts.append(count)
    latency, followed = np.concatenate(times), np.concatenate(counts)
    known = np.isfinite(latency)
    latency, followed = latency[known], followed[known]
    by_objects = {str(n): _percentiles(latency[followed == n]) for n in np.unique(followed).tolist()}
    return {**_percentiles(latency), "by_objects": by_objects}


def _percentiles(values: np.ndarray) -> Numbers:
    if not len(values):
        return {"frames": 0}
    found = np.percentile(values, PERCENTILES)
    numbers = {f"p{p}_ms": round(float(v), 3) for p, v in zip(PERCENTILES, found, strict=True)}
    return {
        "frames": len(values),
        "mean_ms": round(float(values.mean()), 3),
        **numbers,
        "max_ms": round(float(values.max()), 3),
    }


def _frame_counts(reader: RecordReader, tracker: str) -> Numbers:
    frames = dropped = 0
    for sequence in reader.sequences:
        columns = reader.sequence_columns(tracker, sequence, "frame", "tracked")
        first = np.unique(columns["frame"], return_index=True)[1]
        frames += len(first)
        dropped += int((~columns["tracked"][first]).sum())
    return {"frames": frames, "dropped": dropped, "dropped_share": 100 * dropped / frames if frames else None}


def _class_frames(reader: RecordReader, tracker: str, sequence: str) -> ClassFrames:
    """Each class on each frame, without those on which one of its objects was prompted, and without the last."""
    names = ("frame", "true_class", "class_predicted_px", "class_true_px", "class_intersection_px")
    columns = reader.sequence_columns(tracker, sequence, *names, "prompted")
    codes = np.unique(columns["true_class"], return_inverse=True)[1]
    keys = columns["frame"].astype(np.int64) * (codes.max(initial=0) + 1) + codes
    first = np.unique(keys, return_index=True)[1]
    first = first[np.isfinite(columns["class_true_px"][first].astype(np.float64))]
    given = np.isin(keys[first], keys[np.asarray(columns["prompted"], dtype=bool)])
    first = first[~given & (columns["frame"][first] < columns["frame"].max(initial=0))]
    return ClassFrames(*(columns[name][first] for name in names))


def _object_failures(item: RecordedObject, columns: Mapping[str, np.ndarray]) -> list[Any]:
    scored = recorded_score(item, columns).scored_frames(present_only=False)
    frame, j, present, predicted_px, state = (
        columns[name][scored] for name in ("frame", "j", "present", "predicted_px", "state")
    )
    return list(find_failures(frame, j, np.asarray(present == 1), predicted_px, state))


def _longest(failures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(failures, key=lambda one: -one["frames"])[:LISTED_FAILURES]


def _grouped(
    objects: list[dict[str, Any]],
    key: Callable[[dict[str, Any]], str],
    iou: Mapping[str, float] | None = None,
) -> dict[str, Numbers]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in objects:
        groups.setdefault(key(one), []).append(one)
    found = {name: mean_numbers(items) for name, items in groups.items()}
    for name, value in (iou or {}).items():
        found[name]["class_iou"] = value
    return found


def _measured(items: list[Mapping[str, Any]]) -> list[str]:
    """Names of the measures of objects; the places are no measures."""
    places = {"sequence", "name", "label", "first_frame", "class"}
    return [key for key in (items[0] if items else {}) if key not in places]


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _rounded(value: Any) -> Any:
    """Floats to 4 digits after the point, in a document of lists and mappings."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value
