"""The summary as tables to read in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]


def score_table(document: Document) -> str:
    """J&F (%) per object over all frames and over those where it is present, two columns per tracker.

    The prompted and the last frame are not scored but in the last line.
    """
    scores = document["scores"]
    heading = ["sequence", "object", "frames", "present"]
    for tracker in scores:
        heading += [f"{tracker}: all", "present"]
    rows = [heading]
    for objects in zip(*(one["objects"] for one in scores.values()), strict=True):
        first = objects[0]
        row = [first["sequence"], first["name"], str(first["frames"]), str(first["present_frames"])]
        rows.append(row + [shown(one[key]) for one in objects for key in ("jf_all", "jf_present")])
    for title, ends in (("mean over objects", ""), ("mean, first and last frame too", "_with_ends")):
        means = [one["mean"][f"jf_{which}{ends}"] for one in scores.values() for which in ("all", "present")]
        rows.append([title, "", "", "", *map(shown, means)])
    return aligned(rows)


def interval_table(document: Document) -> str:
    """J&F over present frames of each tracker with its interval over sequences; empty with one sequence."""
    rows = [["tracker", "J&F present", f"{100 * document['bootstrap']['level']:g} % interval over sequences"]]
    for tracker, one in document["scores"].items():
        interval = one["intervals"]["jf_present"]
        if interval is not None:
            rows.append(
                [tracker, shown(one["mean"]["jf_present"]), f"{interval[0]:.1f} to {interval[1]:.1f}"]
            )
    return aligned(rows) if len(rows) > 1 else ""


def absence_table(document: Document) -> str:
    """Returns that were found and false masks while away, per object, three columns per tracker.

    Empty where no object was ever absent.
    """
    scores, rule = document["scores"], document["return_rule"]
    keys = ("found_share", "false_share", "false_area")
    total = next(iter(scores.values()))["mean"]
    if not total["absent_frames"]:
        return ""
    heading = ["sequence", "object", "returns", "absent"]
    for name in scores:
        heading += [f"{name}: found", "false", "area"]
    rows = [heading]
    for objects in zip(*(one["objects"] for one in scores.values()), strict=True):
        first = objects[0]
        row = [first["sequence"], first["name"], str(first["returns"]), str(first["absent_frames"])]
        rows.append(row + [shown(one[key]) for one in objects for key in keys])
    last = ["mean over objects", "", str(total["returns"]), str(total["absent_frames"])]
    rows.append(last + [shown(one["mean"][key]) for one in scores.values() for key in keys])
    title = (
        f"Returns after {rule['absent_frames']} frames or more: found (%) at IoU {rule['min_iou']} within "
        f"{rule['return_frames']} frames. Absent frames: with a mask (%), its area (% of the image)"
    )
    return f"{title}\n{aligned(rows)}"


def class_line(document: Document) -> str:
    """Class accuracy of the trackers that know classes of objects here, beside chance; empty where none does."""
    lines = []
    for name, one in document["scores"].items():
        if one["mean"]["class_accuracy"] is None:
            continue
        judged = sum(item["class_accuracy"] is not None for item in one["objects"])
        lines.append(
            f"{name}: class right on {one['mean']['class_accuracy']:.1f} % of the frames that show the object, mean "
            f"over {judged} objects (chance {one['mean']['class_chance']:.1f} %)"
        )
    return "\n".join(lines)


def drop_line(document: Document) -> str:
    """Frames that a tracker did not see, and latencies, of each tracker with such frames; empty where none has."""
    lines = []
    for name, one in document["scores"].items():
        frames, timings = one["frames"], document["timings"][name]
        if frames["dropped"]:
            times = ", ".join(f"{key} {shown(timings.get(f'{key}_ms'), 0)}" for key in ("p50", "p95", "p99"))
            lines.append(
                f"{name}: {frames['dropped']} of {frames['frames']} frames dropped; ms from image to masks: {times}"
            )
    return "\n".join(lines)


def shown(value: float | None, digits: int = 1) -> str:
    """A number for people, a dash where it is not known."""
    return "-" if value is None else f"{value:.{digits}f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
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
