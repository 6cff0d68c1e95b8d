"""report.html: one file with everything in it, drawn from the records; opened in Chromium where there is one."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_cases import RECORD, DrawnSequence, label_image, records, write_records

from sam2s_ros.evaluation.baselines import EmptyMask, FirstMaskInPlace
from sam2s_ros.evaluation.charts import MAX_POINTS, ObjectSeries, histogram, timeline
from sam2s_ros.evaluation.evaluate import evaluate_sequence
from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.outputs import EvaluationOutputs, write_summary
from sam2s_ros.evaluation.overlay import OverlayVideo
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.sequences import LabelledFrame
from sam2s_ros.evaluation.worst_frames import APART_FRAMES, KEPT, WorstFrames

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Links(HTMLParser):
    """Every address that a page names, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two drawn videos in which a mask is left behind, one object with a name that is no HTML."""
    tool = {1: "<b>tool</b> & co"}
    videos = [
        DrawnSequence([label_image(1, left=min(5 + step, 15)) for step in range(20)], "one", tool),
        DrawnSequence([label_image(1)] * 4 + [np.zeros((20, 20), np.uint8)] * 6 + [None] * 2, "two", tool),
    ]
    outputs = EvaluationOutputs(tmp_path, {})
    outputs.facts["prompts"] = "mask"
    for video in videos:
        with outputs.observer(f"overlay_{video.name}", True) as seen:
            run = partial(evaluate_sequence, FirstMaskInPlace, video, on_frame=seen, name="in place")
            outputs.write(run)
    for video in videos:
        outputs.write(partial(evaluate_sequence, EmptyMask, video, name="empty"))
    outputs.finish(ReturnRule(), Bootstrap(200))
    return tmp_path


def test_the_page_needs_no_other_file_and_no_network(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert links.addresses and all(address.startswith("data:") for address in links.addresses)
    assert "script" not in links.tags and "b" in links.tags
    assert "@import" not in page and "url(" not in page and "<b>tool" not in page
    assert "&lt;b&gt;tool&lt;/b&gt; &amp; co" in page


def test_the_page_has_every_part(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    for heading in ("Summary", "J&amp;F over time", "Latency", "Worst frames", "Failures"):
        assert f"<h2>{heading}</h2>" in page
    charts = [ElementTree.fromstring(text + "</svg>") for text in charts_of(page)]
    assert len(charts) == 3  # an object of each of two sequences, and the latency
    assert [len(chart.findall("path[@class='prompt']")) for chart in charts] == [1, 1, 0]
    assert len(charts[1].findall("rect[@class='absent']")) == 1
    assert len(charts[2].findall("rect[@class='bar']")) == 40
    assert "false mask" in page and "bootstrap draws" in page
    assert (folder / "overlay_one.mp4").is_file() and (folder / "overlay_two.mp4").is_file()


def test_the_same_folder_gives_the_same_page(folder: Path) -> None:
    before = (folder / "report.html").read_bytes()
    write_summary(folder, ReturnRule(), Bootstrap(200), {"prompts": "mask"})
    assert (folder / "report.html").read_bytes() == before


def test_states_are_a_strip_under_the_line_and_a_long_video_is_binned() -> None:
    frames = 10 * MAX_POINTS
    state = np.array(["TRACKING"] * frames, object)
    state[2000] = "LOST"
    jf = np.full(frames, 0.8)
    jf[2000] = 0.0
    series = ObjectSeries(
        np.arange(frames),
        np.arange(frames) / 25,
        jf,
        np.ones(frames, bool),
        state,
        np.zeros(frames, bool),
        np.arange(frames) != 3005,
    )
    chart = ElementTree.fromstring(timeline(series, "a & b"))
    assert len(chart.findall("rect[@class='hover']")) == MAX_POINTS
    (line,) = chart.findall("polyline")
    assert len(line.attrib["points"].split()) == MAX_POINTS
    assert len(chart.findall("rect[@class='dropped']")) == 1
    (lost,) = chart.findall("rect[@class='state lost']")
    assert lost.findtext("title") == "LOST: frames 2000 to 2009"
    assert chart.findall("polygon")  # the range of each bin: the one bad frame is seen


def test_a_histogram_counts_every_value() -> None:
    chart = ElementTree.fromstring(histogram(np.array([1.0, 1, 2, 900]), "latency", "ms", {"p50": 1.5}))
    bars = [
        int(bar.findtext("title", "").split(": ")[1].split()[0])
        for bar in chart.findall("rect[@class='bar']")
    ]
    assert sum(bars) == 4


def test_the_worst_frames_are_kept_once_per_failure_and_without_prompted_ones() -> None:
    image = np.full((40, 60, 3), 120, np.uint8)
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 10:20] = 1
    mask = np.zeros((40, 60), bool)
    mask[20:30, 30:50] = True
    kept = WorstFrames()
    sizes = {"height": 40, "width": 60, "predicted_px": 200, "true_px": 100, "intersection_px": 0, "f": 0.0}
    count = (KEPT + 4) * APART_FRAMES
    values = np.random.default_rng(0).random(count)
    for record in records(count, {0: {"prompted": True}}, **sizes):
        one = records(1, frame=record.frame, prompted=record.prompted, j=float(values[record.frame]), **sizes)
        kept.observe(LabelledFrame(0, image, labels), {1: mask}, tuple(one))
    frames = [one.frame for one in kept.kept]
    assert KEPT - 3 <= len(frames) <= KEPT and 0 not in frames  # a worse one takes the place of those near it
    assert min(np.diff(sorted(frames))) >= APART_FRAMES
    assert int(values[1:].argmin()) + 1 == frames[0]
    assert [one.jf for one in kept.kept] == sorted(one.jf for one in kept.kept)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(kept.kept[0].jpeg), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (40, 60, 3)
    assert np.abs(picture[25, 40].astype(int) - 120).max() > 20  # tinted
    assert picture[10, 15].min() > 180 and picture[35, 5] == pytest.approx(120, abs=12)  # outlined; untouched


def test_the_video_has_every_frame_at_the_recorded_pace(tmp_path: Path) -> None:
    with OverlayVideo(tmp_path / "overlay.mp4") as video:
        for number, size in enumerate([(48, 64), (48, 64), (96, 128)]):
            video.write(LabelledFrame(number * 40_000_000, np.zeros((*size, 3), np.uint8), None), {}, ())
    with OverlayVideo(tmp_path / "one.mp4") as video:
        video.write(LabelledFrame(0, np.zeros((48, 64, 3), np.uint8), None), {}, ())
    for name, frames, rate_hz in (("overlay", 3, 25), ("one", 1, 10)):
        read = cv2.VideoCapture(str(tmp_path / f"{name}.mp4"))
        assert (read.get(cv2.CAP_PROP_FRAME_COUNT), read.get(cv2.CAP_PROP_FPS)) == (frames, rate_hz)


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give a folder"):
        EvaluationOutputs(tmp_path / "scores.json", {})


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("broken", [False, True])
def test_chromium_draws_it_without_a_complaint(folder: Path, broken: bool) -> None:
    """`broken` shows that a complaint would be seen."""
    page = folder / "report.html"
    if broken:
        page.write_text(page.read_text().replace("</main>", '<script>throw Error("broken")</script></main>'))
    picture = folder / "page.png"
    command = [
        *(
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--hide-scrollbars",
        ),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=1200,3400", f"--screenshot={picture}"),
        page.as_uri(),
    ]
    environment = {**os.environ, "HOME": str(folder)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=True)
    assert ("CONSOLE" in ran.stderr) is broken, ran.stderr
    image = cv2.imread(str(picture))
    line, bar = np.array([0x9E, 0x5F, 0x1F]), np.array([0xC9, 0x9C, 0x6D])  # BGR of the charts' colours
    for colour in (line, bar):
        assert (np.abs(image.astype(int) - colour).max(axis=2) < 8).sum() > 300


def charts_of(page: str) -> list[str]:
    """The page's drawings, without their ends."""
    return ["<svg" + part.split("</svg>")[0] for part in page.split("<svg")[1:]]


def test_records_of_one_tracker_without_states_make_a_page(tmp_path: Path) -> None:
    plain = {"state": "", "latency_ms": float("nan")}
    write_records(tmp_path, [[record] for record in records(8, **plain)])
    write_summary(tmp_path, ReturnRule(), Bootstrap(10), {})
    page = (tmp_path / "report.html").read_text()
    assert "No frame was timed" in page and RECORD.name in page and "no intervals" in page
