"""`sam2s compare A B`: what changed from one evaluation to another of the same videos, object by object.

Both runs must have the same sequences, objects and ground truth, frame by frame. A difference is B less A of one
object; the mean is over objects, and its interval over sequences, drawn in pairs, so that what is hard in a video is
hard for both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.records import RecordedObject, RecordReader
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.summary import OBJECT_COLUMNS, mean_intervals, mean_numbers, object_numbers
from sam2s_ros.evaluation.tables import aligned, shown

HELP = "paired differences between two evaluations of the same videos; the exit status is 1 when B is worse"
MEASURES: dict[str, tuple[str, int]] = {
    "jf_present": ("J&F present", 1),
    "jf_all": ("J&F all", 1),
    "dice_present": ("Dice", 1),
    "nsd_present": ("NSD", 1),
    "hd95_px": ("HD95 (px)", -1),
    "centroid_error_px": ("centroid (px)", -1),
    "tip_error_px": ("tip (px)", -1),
    "consistency": ("consistency", 1),
    "found_share": ("returns found", 1),
    "false_share": ("absent with a mask", -1),
    "silent_wrong": ("silently wrong", -1),
}
"""Measure -> its heading, and 1 where more is better, -1 where less is."""
TRUTH_COLUMNS = ("frame", "truth_crc32")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `sam2s compare`."""
    parser.add_argument(
        "a", type=Path, help="folder that `sam2s evaluate --out` wrote, or its frames.parquet"
    )
    parser.add_argument("b", type=Path, help="the other; differences are B less A")
    parser.add_argument("--tracker-a", metavar="NAME", help="tracker of A (default: its first, the model)")
    parser.add_argument("--tracker-b", metavar="NAME", help="tracker of B (default: its first, the model)")
    parser.add_argument(
        "--measure",
        choices=MEASURES,
        default="jf_present",
        help="decides the exit status (default: %(default)s)",
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.0, help="B may be worse by so much (default: %(default)s)"
    )
    bootstrap = Bootstrap()
    parser.add_argument(
        "--bootstrap", type=int, default=bootstrap.resamples, metavar="N", help="draws (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the differences")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, write the JSON asked for; 1 when B is worse by the measure, else 0."""
    first, second = RecordReader(arguments.a), RecordReader(arguments.b)
    trackers = _tracker(first, arguments.tracker_a), _tracker(second, arguments.tracker_b)
    rules = _rule(arguments.a), _rule(arguments.b)
    if rules[0] != rules[1]:
        raise ValueError(f"the runs count returns by other rules: {rules[0]} and {rules[1]}")
    bootstrap = Bootstrap(arguments.bootstrap)
    document = compare((first, second), trackers, rules[0], bootstrap)
    verdict = judge(document, arguments.measure, arguments.tolerance)
    document["verdict"] = verdict
    print(difference_table(document))
    print(f"{MEASURES[arguments.measure][0]}: {verdict['text']}")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
    return int(verdict["worse"])


def compare(
    readers: tuple[RecordReader, RecordReader],
    trackers: tuple[str, str],
    rule: ReturnRule,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Both runs' means, and the paired differences per object, sequence and in all.

    Raises:
        ValueError: the runs are not of the same sequences, objects and ground truth; it names what differs.
    """
    pairs = matched_objects(readers, trackers)
    objects: list[dict[str, Any]] = []
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for one, other in pairs:
        place = {"sequence": one.sequence, "name": one.name, "label": one.label}
        numbers = [
            object_numbers(item, reader.columns(item, *OBJECT_COLUMNS), rule, ())
            for reader, item in zip(readers, (one, other), strict=True)
        ]
        for side, values in zip(sides, numbers, strict=True):
            side.append({key: values[key] for key in MEASURES})
        objects.append({**place, **{key: _less(numbers[1][key], numbers[0][key]) for key in MEASURES}})
    sequences = list(dict.fromkeys(one["sequence"] for one in objects))
    return {
        "a": {"tracker": trackers[0], "mean": _rounded(mean_numbers(sides[0]))},
        "b": {"tracker": trackers[1], "mean": _rounded(mean_numbers(sides[1]))},
        "bootstrap": asdict(bootstrap),
        "mean": _rounded(mean_numbers(objects)),
        "intervals": {
            key: None if interval is None else [round(end, 4) for end in interval]
            for key, interval in mean_intervals(objects, bootstrap).items()
        },
        "sequences": {
            name: _rounded(mean_numbers([one for one in objects if one["sequence"] == name]))
            for name in sequences
        },
        "objects": [_rounded(one) for one in objects],
    }


def matched_objects(
    readers: tuple[RecordReader, RecordReader], trackers: tuple[str, str]
) -> list[tuple[RecordedObject, RecordedObject]]:
    """The same object of both runs, in the order of the first. ValueError names every sequence that does not match."""
    sides = [
        {(item.sequence, item.label): item for item in reader.objects_of(tracker)}
        for reader, tracker in zip(readers, trackers, strict=True)
    ]
    wrong: dict[str, str] = {}
    for name in dict.fromkeys(sequence for side in sides for sequence, _ in side):
        here = [
            {label: item for (sequence, label), item in side.items() if sequence == name} for side in sides
        ]
        if not here[0] or not here[1]:
            wrong[name] = f"only in {'B' if here[1] else 'A'}"
        elif {label: item.name for label, item in here[0].items()} != {
            label: item.name for label, item in here[1].items()
        }:
            wrong[name] = "other objects"
        elif any(not _same_truth(readers, (here[0][label], here[1][label])) for label in here[0]):
            wrong[name] = "other frames or ground truth"
    if wrong:
        listed = "; ".join(f"{name} ({reason})" for name, reason in wrong.items())
        raise ValueError(f"these runs cannot be compared, evaluate the same videos in both: {listed}")
    return [(item, sides[1][key]) for key, item in sides[0].items()]


def judge(document: Mapping[str, Any], measure: str, tolerance: float) -> dict[str, Any]:
    """Whether B is worse: the mean difference is beyond the tolerance, and so is the whole interval, if any."""
    _, sign = MEASURES[measure]
    difference, interval = document["mean"][measure], document["intervals"][measure]
    if difference is None:
        return {"measure": measure, "worse": False, "text": "nothing to compare"}
    ends = [difference] if interval is None else list(interval)
    worse = sign * difference < -tolerance and all(sign * end < -tolerance for end in ends)
    better = sign * difference > tolerance and all(sign * end > tolerance for end in ends)
    found = "worse" if worse else "better" if better else "no clear difference"
    spread = (
        "no interval, fewer than two sequences"
        if interval is None
        else f"{interval[0]:+.2f} to {interval[1]:+.2f}"
    )
    return {
        "measure": measure,
        "worse": bool(worse),
        "text": f"B less A {difference:+.2f} ({spread}): {found}",
    }


def difference_table(document: Mapping[str, Any]) -> str:
    """Per object the differences, below them the means of A and B, the mean difference and its interval."""
    keys = [key for key in MEASURES if document["mean"][key] is not None]
    rows = [["sequence", "object", *(MEASURES[key][0] for key in keys)]]
    for one in document["objects"]:
        rows.append([one["sequence"], one["name"], *(_signed(one[key]) for key in keys)])
    rows.append(["mean of A", "", *(shown(document["a"]["mean"][key]) for key in keys)])
    rows.append(["mean of B", "", *(shown(document["b"]["mean"][key]) for key in keys)])
    rows.append(["mean of B less A", "", *(_signed(document["mean"][key]) for key in keys)])
    level = f"{100 * document['bootstrap']['level']:g} % interval"
    for place, title in enumerate((f"{level}, from", f"{level}, to")):
        ends = [document["intervals"][key] for key in keys]
        rows.append([title, "", *(_signed(None if end is None else end[place]) for end in ends)])
    return aligned(rows)


def _same_truth(
    readers: tuple[RecordReader, RecordReader], items: tuple[RecordedObject, RecordedObject]
) -> bool:
    """Whether both saw the same frames of the object with the same true masks."""
    first, second = (
        reader.columns(item, *TRUTH_COLUMNS) for reader, item in zip(readers, items, strict=True)
    )
    return all(
        np.array_equal(first[name].astype(np.float64), second[name].astype(np.float64), equal_nan=True)
        for name in TRUTH_COLUMNS
    )


def _tracker(reader: RecordReader, name: str | None) -> str:
    if name is None:
        return reader.trackers[0]
    if name not in reader.trackers:
        raise ValueError(f"{reader.path} has no tracker {name!r}; there are {', '.join(reader.trackers)}")
    return name


def _rule(path: Path) -> ReturnRule:
    """The rule by which a run counted returns; the usual one for a file without its summary."""
    summary = (path if path.is_dir() else path.parent) / "summary.json"
    return ReturnRule(**json.loads(summary.read_text())["return_rule"]) if summary.is_file() else ReturnRule()


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _rounded(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in numbers.items()}
