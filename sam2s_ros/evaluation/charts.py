"""The report's charts as SVG text: J&F over time with states and prompts, and a histogram.

Colours are CSS classes of `report_page`, so that one drawing serves light and dark. A long video is drawn in bins, and
a chart never has more than `MAX_POINTS` of them, however many frames there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

MAX_POINTS = 480
WIDTH, HEIGHT = 960, 170
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 40
BAND_HEIGHT = 9
STATES = ("TRACKING", "UNCERTAIN", "OCCLUDED", "LOST")
"""From best to worst; of a bin, the worst is shown."""


@dataclass(frozen=True)
class ObjectSeries:
    """One object over the frames [T] of its sequence, from its first frame on."""

    frame: NDArray[np.int64]
    seconds: NDArray[np.float64]
    jf: NDArray[np.float64]
    """0 .. 1; NaN without ground truth."""
    present: NDArray[np.bool_]
    state: NDArray[np.object_]
    prompted: NDArray[np.bool_]
    tracked: NDArray[np.bool_]


@dataclass(frozen=True)
class _Bin:
    first: int
    last: int
    mean: float
    low: float
    high: float
    state: str
    absent: bool
    dropped: int


def timeline(series: ObjectSeries, title: str) -> str:
    """J&F over time: the mean of each bin as a line, its range as a band, the frames out of view shaded, states as a
    coloured strip, dropped frames as a thin one below it and prompts as ticks. Hovering a bin shows its numbers.
    """
    bins = list(_bins(series))
    first, count = int(series.frame[0]), int(series.frame[-1] - series.frame[0]) + 1
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(frame: float) -> float:
        return LEFT + plot_width * (frame - first) / count

    def y(value: float) -> float:
        return TOP + plot_height * (1 - value)

    parts = [_frame(title), _grid(plot_height)]
    parts += [
        f'<rect class="absent" x="{x(begin):.1f}" y="{TOP}" width="{x(end + 1) - x(begin):.1f}" '
        f'height="{plot_height}"/>'
        for begin, end in _runs([one.absent for one in bins], bins)
    ]
    for run in _known_runs(bins):
        middles = [x((one.first + one.last + 1) / 2) for one in run]
        upper = [f"{at:.1f},{y(one.high):.1f}" for at, one in zip(middles, run, strict=True)]
        lower = [f"{at:.1f},{y(one.low):.1f}" for at, one in zip(middles, run, strict=True)]
        if any(one.high > one.low for one in run):
            parts.append(f'<polygon class="range" points="{" ".join(upper + lower[::-1])}"/>')
        points = [f"{at:.1f},{y(one.mean):.1f}" for at, one in zip(middles, run, strict=True)]
        if len(points) == 1:
            points.append(f"{middles[0] + 1.5:.1f},{y(run[0].mean):.1f}")
        parts.append(f'<polyline class="line" points="{" ".join(points)}"/>')
    band_y = TOP + plot_height + 4
    for state in STATES:
        for begin, end in _runs([one.state == state for one in bins], bins):
            width = x(end + 1) - x(begin)
            parts.append(
                f'<rect class="state {state.lower()}" x="{x(begin):.1f}" y="{band_y}" width="{width:.1f}" '
                f'height="{BAND_HEIGHT}"><title>{state}: frames {begin} to {end}</title></rect>'
            )
    for begin, end in _runs([one.dropped > 0 for one in bins], bins):
        parts.append(
            f'<rect class="dropped" x="{x(begin):.1f}" y="{band_y + BAND_HEIGHT + 1}" '
            f'width="{x(end + 1) - x(begin):.1f}" height="3"/>'
        )
    for frame in series.frame[series.prompted][:MAX_POINTS].tolist():
        at = x(frame + 0.5)
        parts.append(
            f'<path class="prompt" d="M{at:.1f} {TOP}V{band_y + BAND_HEIGHT}M{at - 4:.1f} {TOP - 8}h8l-4 7z">'
            f"<title>prompted on frame {frame}</title></path>"
        )
    parts += [_hover(one, x(one.first), x(one.last + 1), plot_height) for one in bins]
    parts.append(_time_axis(series, x, band_y + BAND_HEIGHT))
    return "".join([*parts, "</svg>"])


def histogram(values: NDArray[np.float64], title: str, unit: str, marks: dict[str, float]) -> str:
    """Counts of values in equal bins up to their 99.5th percentile, the rest in the last.

    `marks` are lines with names.
    """
    top = float(np.percentile(values, 99.5)) * 1.02 or 1.0
    counts, edges = np.histogram(np.minimum(values, top), bins=40, range=(0, top))
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    highest = max(int(counts.max()), 1)
    parts = [_frame(title)]
    step = plot_width / len(counts)
    for index, number in enumerate(counts.tolist()):
        height = plot_height * number / highest
        label = f"{edges[index]:.1f} to {edges[index + 1]:.1f} {unit}: {number} frames"
        parts.append(
            f'<rect class="bar" x="{LEFT + index * step + 0.5:.1f}" y="{TOP + plot_height - height:.1f}" '
            f'width="{step - 1:.1f}" height="{height:.1f}"><title>{label}</title></rect>'
        )
    base = TOP + plot_height
    parts.append(f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text class="tick" x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{highest}</text>')
    parts.append(f'<text class="tick" x="{LEFT - 6}" y="{base}" text-anchor="end">0</text>')
    for value in np.linspace(0, top, 7):
        at = LEFT + plot_width * value / top
        anchor = "end" if value == top else "middle"
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{base + 15}" text-anchor="{anchor}">{value:.0f}</text>'
        )
    parts.append(
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{base + 31}" text-anchor="end">{escape(unit)}</text>'
    )
    for level, (name, value) in enumerate(marks.items()):
        at = LEFT + plot_width * min(value, top) / top
        side = "end" if at > WIDTH / 2 else "start"
        shift = -5 if side == "end" else 5
        parts.append(
            f'<path class="mark" d="M{at:.1f} {TOP}V{base}"/><text class="marked" x="{at + shift:.1f}" '
            f'y="{TOP + 12 + 14 * level}" text-anchor="{side}">{escape(name)} {value:.1f} {escape(unit)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _frame(title: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">'


def _grid(plot_height: int) -> str:
    lines = []
    for percent in (0, 25, 50, 75, 100):
        at = TOP + plot_height * (1 - percent / 100)
        lines.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        if percent % 50 == 0:
            lines.append(
                f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{percent}</text>'
            )
    return "".join(lines)


def _bins(series: ObjectSeries) -> Iterator[_Bin]:
    size = -(-len(series.frame) // MAX_POINTS)
    rank = {state: place for place, state in enumerate(STATES)}
    for begin in range(0, len(series.frame), size):
        part = slice(begin, begin + size)
        jf = series.jf[part]
        known = jf[np.isfinite(jf)]
        mean, low, high = (known.mean(), known.min(), known.max()) if known.size else (np.nan,) * 3
        states = [str(state) for state in series.state[part] if state in rank]
        yield _Bin(
            first=int(series.frame[part][0]),
            last=int(series.frame[part][-1]),
            mean=float(mean),
            low=float(low),
            high=float(high),
            state=max(states, key=rank.__getitem__) if states else "",
            absent=bool(known.size) and not series.present[part].any(),
            dropped=int((~series.tracked[part]).sum()),
        )


def _runs(holds: list[bool], bins: list[_Bin]) -> list[tuple[int, int]]:
    """First and last frame of each run of bins for which `holds` is true."""
    runs: list[tuple[int, int]] = []
    open_run = False
    for inside, one in zip(holds, bins, strict=True):
        if inside and open_run:
            runs[-1] = (runs[-1][0], one.last)
        elif inside:
            runs.append((one.first, one.last))
        open_run = inside
    return runs


def _known_runs(bins: list[_Bin]) -> list[list[_Bin]]:
    """Runs of bins that have ground truth."""
    runs: list[list[_Bin]] = [[]]
    for one in bins:
        if np.isfinite(one.mean):
            runs[-1].append(one)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _hover(one: _Bin, begin: float, end: float, plot_height: int) -> str:
    frames = f"frame {one.first}" if one.first == one.last else f"frames {one.first} to {one.last}"
    said = [frames]
    if np.isfinite(one.mean):
        said.append(f"J&F {100 * one.mean:.1f}")
        if one.high > one.low:
            said.append(f"{100 * one.low:.1f} to {100 * one.high:.1f}")
    else:
        said.append("no ground truth")
    said += [text for text in (one.state, "out of view" if one.absent else "") if text]
    if one.dropped:
        said.append(f"{one.dropped} dropped")
    return (
        f'<rect class="hover" x="{begin:.1f}" y="{TOP}" width="{end - begin:.1f}" height="{plot_height}">'
        f"<title>{escape(', '.join(said))}</title></rect>"
    )


def _time_axis(series: ObjectSeries, x: Callable[[float], float], y: float) -> str:
    """Seconds since the sequence's first frame at up to seven places."""
    places = np.unique(np.linspace(0, len(series.frame) - 1, 7).astype(int))
    parts = []
    for place in places.tolist():
        at = x(float(series.frame[place]) + 0.5)
        anchor = "start" if place == places[0] else "end" if place == places[-1] else "middle"
        text = f"{series.seconds[place]:.1f} s"
        parts.append(f'<text class="tick" x="{at:.1f}" y="{y + 15}" text-anchor="{anchor}">{text}</text>')
    return "".join(parts)
