"""report.html: a run of `sam2s evaluate` on one page that needs no other file and no network.

Everything on it is computed from frames.parquet and summary.json, beside the pictures of the worst frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from sam2s_ros.evaluation.charts import STATES, ObjectSeries, histogram, timeline
from sam2s_ros.evaluation.failures import KINDS
from sam2s_ros.evaluation.records import RecordedObject, RecordReader
from sam2s_ros.evaluation.tables import shown
from sam2s_ros.evaluation.worst_frames import WorstFrame

REPORT_FILE = "report.html"
MEASURES = {
    "jf_present": "J&F, frames with the object (%)",
    "jf_all": "J&F, all frames (%)",
    "j_present": "J, frames with the object (%)",
    "f_present": "F, frames with the object (%)",
    "jf_present_with_ends": "J&F, frames with the object, first and last too (%)",
    "jf_all_with_ends": "J&F, all frames, first and last too (%)",
    "dice_present": "Dice, frames with the object (%)",
    "nsd_present": "NSD, frames with the object (%)",
    "hd95_px": "HD95 (px)",
    "asd_px": "ASD (px)",
    "distances_missing": "frames without a mask to measure distances of (%)",
    "centroid_error_px": "centroid error (px)",
    "centroid_error_percent": "centroid error (% of the diagonal)",
    "tip_error_px": "tip error (px)",
    "tip_error_percent": "tip error (% of the diagonal)",
    "challenge_iou": "EndoVis challenge IoU (%)",
    "isi_iou": "EndoVis IoU (%)",
    "mc_iou": "EndoVis mcIoU (%)",
    "consistency": "temporal consistency (%)",
    "found_share": "returns found again (%)",
    "false_share": "absent frames with a mask (%)",
    "false_area": "area of those masks (% of the image)",
    "tracking_right": "masks said to be TRACKING that are right (%)",
    "silent_wrong": "frames wrong and said to be TRACKING (%)",
    "class_accuracy": "class right (%)",
}
"""Rows of the summary: measure -> what it is called. Rows that no tracker has are left out."""
LISTED_FAILURES = 40
MAX_CHARTS = 60
STYLE = """
:root{--bg:#fbfbfa;--card:#fff;--ink:#1d2329;--soft:#5e6a75;--rule:#dfe3e6;--grid:#e9ecee;--line:#1f5f9e;
--range:#1f5f9e33;--absent:#8a949d2b;--bar:#6d9cc9;--mark:#b4432f;--prompt:#7b3fa0;--tracking:#3c9a6b;
--uncertain:#e0b93c;--occluded:#8b9bd0;--lost:#cf5546}@media(prefers-color-scheme:dark){:root{--bg:#14171a;
--card:#1c2024;--ink:#e4e8eb;--soft:#9aa6b0;--rule:#33393f;--grid:#292f35;--line:#79b3e8;--range:#79b3e83d;
--absent:#8a949d33;--bar:#4f7fae;--mark:#ef8a74;--prompt:#c99ae6;--tracking:#4fb381;--uncertain:#d9b84a;
--occluded:#8f9fda;--lost:#e06d5f}}*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}main{max-width:1080px;
margin:0 auto;padding:32px 24px 64px}h1{font-size:26px;line-height:1.25;margin:0 0 4px}h2{font-size:19px;
margin:40px 0 10px}h3{font-size:15px;margin:18px 0 4px;font-weight:600}p{margin:6px 0;max-width:76ch}.soft,.note{
color:var(--soft)}.note{font-size:13px}section.card,figure{background:var(--card);border:1px solid var(--rule);
border-radius:8px;padding:14px 18px;margin:12px 0}.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;
font-size:14px;font-variant-numeric:tabular-nums}th{font-weight:600;text-align:right;color:var(--soft);
border-bottom:1px solid var(--rule);padding:5px 10px;vertical-align:bottom}td{text-align:right;padding:4px 10px;
border-bottom:1px solid var(--grid);white-space:nowrap}tr:last-child td{border-bottom:0}th.text,td.text{
text-align:left;white-space:normal}td .interval{color:var(--soft);font-size:12px;display:block;line-height:1.2}
tr.main td{font-weight:600}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;
margin:18px 0}.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 16px}.tile b{
display:block;font-size:24px;line-height:1.3;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);
font-size:13px}.chart{width:100%;height:auto;display:block}.grid{stroke:var(--grid);fill:none}.axis{
stroke:var(--rule);fill:none}.tick,.marked{fill:var(--soft);font-size:11px}.marked{fill:var(--mark);
paint-order:stroke;stroke:var(--card);stroke-width:4px}.line{stroke:var(--line);stroke-width:1.6;fill:none;
stroke-linejoin:round}.range{fill:var(--range)}.absent{fill:var(--absent)}.bar{fill:var(--bar)}.mark{
stroke:var(--mark);stroke-dasharray:4 3;fill:none}.prompt{stroke:var(--prompt);fill:var(--prompt);stroke-width:1.2}
.dropped{fill:var(--ink);background:var(--ink)}
.hover{fill:transparent}.hover:hover{fill:var(--absent)}.tracking{fill:var(--tracking);background:var(--tracking)}
.uncertain{fill:var(--uncertain);background:var(--uncertain)}.occluded{fill:var(--occluded);
background:var(--occluded)}.lost{fill:var(--lost);background:var(--lost)}.legend{display:flex;flex-wrap:wrap;
gap:4px 18px;font-size:13px;color:var(--soft);margin:6px 0}.legend i{display:inline-block;width:14px;height:10px;
border-radius:2px;margin-right:6px}.legend i.l{height:3px;background:var(--line);vertical-align:middle}.legend i.p{
background:var(--prompt);width:3px;height:13px;vertical-align:-2px}.legend i.a{background:var(--absent);
outline:1px solid var(--rule)}.worst{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:14px}
.worst figure{padding:0;margin:0;overflow:hidden}.worst img{width:100%;display:block;background:#000}
.worst figcaption{padding:8px 12px;font-size:13px;line-height:1.4}.worst figcaption b{display:block;font-size:14px}
details summary{cursor:pointer;color:var(--soft)}dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;
font-size:13px;margin:8px 0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}@media print{body{background:#fff}
.card,figure{break-inside:avoid}}
"""


def write_report(
    path: Path, reader: RecordReader, document: Mapping[str, Any], worst: Sequence[WorstFrame]
) -> None:
    """Write the page, a part at a time. The charts, failures and pictures are those of the first tracker."""
    with path.open("w", encoding="utf-8") as page:
        page.writelines(_page(reader, document, worst))


def _page(reader: RecordReader, document: Mapping[str, Any], worst: Sequence[WorstFrame]) -> Iterable[str]:
    tracker = reader.trackers[0]
    first = document["scores"][tracker]
    title = f"{Path(tracker).name}, {_count(len(reader.sequences), 'sequence')}"
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head><body><main>'
    yield f"<h1>{escape(title)}</h1>"
    yield f'<p class="soft">sam2s evaluate; {escape(_run_line(document, first))}</p>'
    yield _tiles(first, document["timings"][tracker])
    yield f"<h2>Summary</h2>{_summary_table(document)}{_interval_note(document, len(reader.sequences))}"
    if len(reader.sequences) > 1:
        yield f"<h2>By sequence</h2>{_group_table('sequence', first['by_sequence'])}"
    yield f"<h2>By class</h2>{_group_table('class', first['by_class'])}"
    yield f"<h2>By object</h2>{_object_table(first['objects'])}"
    yield f"<h2>J&amp;F over time</h2>{_legend()}"
    yield from _timelines(reader, tracker, first)
    yield f"<h2>Latency</h2>{_latency(reader, document, tracker)}"
    yield f"<h2>Worst frames</h2>{_worst(worst)}"
    yield f"<h2>Failures</h2>{_failures(first)}"
    yield f"<h2>How it was run</h2>{_facts(document)}</main></body></html>\n"


def _run_line(document: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    frames, mean = scores["frames"], scores["mean"]
    parts = [f"{_count(mean['objects'], 'object')} on {_count(frames['frames'], 'frame')}"]
    if "prompts" in document:
        parts.append(f"prompts: {document['prompts']}")
    if "mode" in document:
        parts.append(str(document["mode"]))
    engine = document.get("engine")
    if engine:
        parts.append(f"{engine['model']} on {engine['name']}, {engine['precision']}, {engine['device']}")
    return ", ".join(parts)


def _tiles(scores: Mapping[str, Any], timings: Mapping[str, Any]) -> str:
    mean, frames = scores["mean"], scores["frames"]
    tiles = {
        "J&F, frames with the object (%)": shown(mean["jf_present"]),
        "J&F, all frames (%)": shown(mean["jf_all"]),
        "returns found": f"{mean['returns_found']} of {mean['returns']}",
        "absent frames with a mask (%)": shown(mean["false_share"]),
        "wrong and said to be TRACKING (%)": shown(mean["silent_wrong"]),
        "latency p50 / p99 (ms)": f"{shown(timings.get('p50_ms'), 0)} / {shown(timings.get('p99_ms'), 0)}",
        "frames dropped (%)": shown(frames["dropped_share"]),
    }
    cells = "".join(
        f'<div class="tile"><b>{value}</b><span>{escape(name)}</span></div>' for name, value in tiles.items()
    )
    return f'<div class="tiles">{cells}</div>'


def _summary_table(document: Mapping[str, Any]) -> str:
    scores = document["scores"]
    rows = []
    for key, title in MEASURES.items():
        if all(one["mean"].get(key) is None for one in scores.values()):
            continue
        cells = [_with_interval(one["mean"].get(key), one["intervals"].get(key)) for one in scores.values()]
        rows.append(([escape(title), *cells], "main" if key == "jf_present" else ""))
    return _table(["measure", *(Path(name).name for name in scores)], rows, text_columns=1)


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None or interval is None:
        return shown(value)
    return f'{shown(value)}<span class="interval">{interval[0]:.1f} to {interval[1]:.1f}</span>'


def _interval_note(document: Mapping[str, Any], sequences: int) -> str:
    bootstrap = document["bootstrap"]
    if sequences < 2:
        return '<p class="note">One sequence says nothing of the spread between sequences: no intervals.</p>'
    return (
        f'<p class="note">Below a mean: its {100 * bootstrap["level"]:g} % interval over {sequences} sequences, by '
        f"{bootstrap['resamples']} bootstrap draws (seed {bootstrap['seed']}). "
        "With few sequences an interval is rough.</p>"
    )


GROUP_COLUMNS = {
    "objects": "objects", "present_frames": "frames with it", "jf_all": "J&F all", "jf_present": "J&F present",
    "dice_present": "Dice", "nsd_present": "NSD", "hd95_px": "HD95 (px)", "tip_error_px": "tip (px)",
    "found_share": "found (%)", "false_share": "false (%)", "class_iou": "class IoU", "failures": "failures",
}  # fmt: skip


def _group_table(heading: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    keys = [key for key in GROUP_COLUMNS if any(one.get(key) is not None for one in groups.values())]
    rows = [([escape(name), *(_cell(one.get(key)) for key in keys)], "") for name, one in groups.items()]
    return _table([heading, *(GROUP_COLUMNS[key] for key in keys)], rows, text_columns=1)


def _object_table(objects: Sequence[Mapping[str, Any]]) -> str:
    keys = [key for key in GROUP_COLUMNS if any(one.get(key) is not None for one in objects)]
    rows = [
        ([escape(one["sequence"]), escape(one["name"]), *(_cell(one.get(key)) for key in keys)], "")
        for one in objects
    ]
    return _table(["sequence", "object", *(GROUP_COLUMNS[key] for key in keys)], rows, text_columns=2)


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, int) else shown(value)


def _legend() -> str:
    states = "".join(f'<span><i class="{state.lower()}"></i>{state}</span>' for state in STATES)
    return (
        '<div class="legend"><span><i class="l"></i>J&amp;F (%)</span><span><i class="a"></i>out of view</span>'
        f'<span><i class="p"></i>prompt</span>{states}<span><i class="dropped"></i>dropped</span></div>'
    )


def _timelines(reader: RecordReader, tracker: str, scores: Mapping[str, Any]) -> Iterable[str]:
    items = reader.objects_of(tracker)
    if len(items) > MAX_CHARTS:  # the worst, since a page with thousands of drawings opens in no browser
        worth = {(one["sequence"], one["label"]): one["jf_present"] for one in scores["objects"]}

        def badness(item: RecordedObject) -> float:
            value = worth[item.sequence, item.label]
            return np.inf if value is None else float(value)

        kept = set(sorted(items, key=badness)[:MAX_CHARTS])
        yield f'<p class="note">The {MAX_CHARTS} objects of {len(items)} with the lowest J&amp;F.</p>'
        items = tuple(item for item in items if item in kept)
    for item in items:
        name = f"{item.sequence}: {item.name}"
        chart = timeline(_series(reader, item), f"J&F of {name}")
        yield f'<section class="card"><h3>{escape(name)}</h3>{chart}</section>'


def _series(reader: RecordReader, item: RecordedObject) -> ObjectSeries:
    columns = reader.columns(item, "frame", "stamp_ns", "j", "f", "present", "state", "prompted", "tracked")
    seconds = (columns["stamp_ns"] - columns["stamp_ns"][0]) * 1e-9
    return ObjectSeries(
        columns["frame"], seconds, (columns["j"] + columns["f"]) / 2, np.asarray(columns["present"] == 1),
        columns["state"], columns["prompted"], columns["tracked"],
    )  # fmt: skip


def _latency(reader: RecordReader, document: Mapping[str, Any], tracker: str) -> str:
    timings = document["timings"][tracker]
    if not timings["frames"]:
        return '<p class="note">No frame was timed.</p>'
    times = []
    for sequence in reader.sequences:
        columns = reader.sequence_columns(tracker, sequence, "frame", "latency_ms")
        first = np.unique(columns["frame"], return_index=True)[1]
        times.append(columns["latency_ms"][first])
    values = np.concatenate(times)
    marks = {name: timings[f"{name}_ms"] for name in ("p50", "p95", "p99")}
    chart = histogram(values[np.isfinite(values)], "latency per frame", "ms", marks)
    keys = {
        "frames": "frames",
        "p50_ms": "p50 (ms)",
        "p95_ms": "p95 (ms)",
        "p99_ms": "p99 (ms)",
        "max_ms": "longest (ms)",
    }
    rows = [([count, *(_cell(one[key]) for key in keys)], "") for count, one in timings["by_objects"].items()]
    table = _table(["objects followed", *keys.values()], rows, text_columns=1)
    return f'<section class="card">{chart}</section>{table}'


def _worst(worst: Sequence[WorstFrame]) -> str:
    if not worst:
        return '<p class="note">No picture was kept: no scored mask was wrong.</p>'
    figures = []
    for one in worst:
        what = f"J&amp;F {100 * one.jf:.1f}" if one.present else "a mask while out of view"
        state = f", said {escape(one.state)}" if one.state else ""
        place = f"{escape(one.sequence)}, frame {one.frame}"
        figures.append(
            f'<figure><img alt="{place}, {escape(one.name)}" src="data:image/jpeg;base64,{one.jpeg}">'
            f"<figcaption><b>{escape(one.name)}</b>{place}<br>{what}{state}</figcaption></figure>"
        )
    note = "The object's mask is tinted, its true outline white; the other objects are not drawn."
    return f'<p class="note">{note}</p><div class="worst">{"".join(figures)}</div>'


def _failures(scores: Mapping[str, Any]) -> str:
    failures, total = scores["failures"], scores["mean"]["failures"]
    if not failures:
        return '<p class="note">None.</p>'
    meanings = "; ".join(f"<b>{kind}</b>: {escape(meaning)}" for kind, meaning in KINDS.items())
    rows = []
    for one in failures[:LISTED_FAILURES]:
        said = "-" if one["said_tracking"] is None else f"{one['said_tracking']} of {one['frames']}"
        frames = f"{one['first_frame']} to {one['last_frame']}"
        place = [escape(one["sequence"]), escape(one["name"]), one["kind"]]
        rows.append(([*place, frames, str(one["frames"]), shown(100 * one["mean_j"]), said], ""))
    heading = ["sequence", "object", "kind", "frames", "length", "mean J (%)", "said TRACKING"]
    more = f"The longest {len(rows)} of {total}. " if total > len(rows) else f"{_count(total, 'failure')}. "
    return f'<p class="note">{more}{meanings}.</p>{_table(heading, rows, text_columns=3)}'


def _facts(document: Mapping[str, Any]) -> str:
    left_out = ("scores", "timings")
    items = [(key, value) for key, value in _flat(document) if key.split(".")[0] not in left_out]
    rows = "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in items)
    return f'<section class="card"><dl>{rows}</dl></section>'


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _table(heading: Sequence[str], rows: Sequence[tuple[list[str], str]], text_columns: int) -> str:
    """Cells are HTML, headings plain text; the first columns are text."""

    def classed(index: int) -> str:
        return ' class="text"' if index < text_columns else ""

    head = "".join(f"<th{classed(index)}>{escape(text)}</th>" for index, text in enumerate(heading))
    body = []
    for cells, kind in rows:
        inner = "".join(f"<td{classed(index)}>{text}</td>" for index, text in enumerate(cells))
        body.append(f'<tr class="{kind}">{inner}</tr>' if kind else f"<tr>{inner}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<section class="card scroll">{table}</section>'


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
