"""Every frame, real time, rounds of correction, and going on after a stop: the same bag, different questions."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluation_cases import ColourTracker, DrawnSequence, label_image, write_bag, write_records
from rosbags.highlevel import AnyReader
from tracking_cases import small_tracker

from sam2s_ros.evaluation import command, runs
from sam2s_ros.evaluation.bag_writer import BagWriter
from sam2s_ros.evaluation.bags import BagSequence
from sam2s_ros.evaluation.baselines import BASELINES, FirstMaskInPlace
from sam2s_ros.evaluation.evaluate import evaluate_sequence
from sam2s_ros.evaluation.interactive import Corrections
from sam2s_ros.evaluation.outputs import EvaluationOutputs
from sam2s_ros.evaluation.prompts import FirstSight
from sam2s_ros.evaluation.real_time import StreamTimes, evaluate_real_time
from sam2s_ros.evaluation.records import FrameRecord, RecordReader
from sam2s_ros.evaluation.unfinished import UnfinishedRun
from sam2s_ros.tracking import TrackerConfig

BUNDLED_BAG = Path(__file__).parent / "data" / "vocalfolds_seq4.mcap"
RATE_HZ = 25.0


def run(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args([str(one) for one in arguments]))


def summary(folder: Path) -> dict[str, Any]:
    """What summary.json says, without the timings."""
    document = json.loads((folder / "summary.json").read_text())
    del document["timings"]
    return document


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds at 25 Hz: a block that moves by 4 px an image."""
    return write_bag(tmp_path_factory.mktemp("bag") / "block.mcap", 50, RATE_HZ, step=4)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of it."""
    return write_bag(tmp_path_factory.mktemp("bag") / "block.mcap", 8, RATE_HZ, step=4)


def in_real_time(bag: Path, step_s: float, **options: Any) -> list[FrameRecord]:
    make: Callable[[], Any] = options.pop("make", ColourTracker)
    sequence, times = BagSequence(bag), StreamTimes(step_s, 0.0)
    prompter = FirstSight(options.pop("prompt", "mask"))
    return [
        one for records in evaluate_real_time(make, sequence, prompter, times, **options) for one in records
    ]


def every_frame(
    bag: Path, make: Callable[[], Any] = ColourTracker, prompt: str = "mask"
) -> list[FrameRecord]:
    return [one for records in evaluate_sequence(make, BagSequence(bag), prompt) for one in records]


def jf(records: list[FrameRecord]) -> float:
    """In percent, without the first and the last frame."""
    return float(100 * np.mean([(one.j + one.f) / 2 for one in records[1:-1]]))


def test_an_engine_of_5_steps_a_second_drops_frames_and_scores_lower(bag: Path) -> None:
    slow = in_real_time(bag, 0.2)
    assert [one.frame for one in slow] == list(range(50))
    tracked = sum(one.tracked for one in slow)
    assert 8 <= tracked <= 12  # 2 s at 5 a second, less one prompt, and what is still worked on at the end
    assert jf(every_frame(bag)) == 100 and jf(slow) < 60
    latencies = [one.latency_ms for one in slow if one.tracked]
    assert all(math.isnan(one.latency_ms) for one in slow if not one.tracked)
    assert (
        min(latencies) == 200 and np.median(latencies) == 440
    )  # prepared as the step before began, then waited


@pytest.mark.parametrize("make", [ColourTracker, small_tracker])
def test_a_fast_engine_in_real_time_equals_every_frame(
    make: Callable[[], Any], short: Path, one_thread: None
) -> None:
    """But for the frame of the prompt, which is answered after it: and that one does not count."""
    fast, all_frames = in_real_time(short, 0.0, make=make), every_frame(short, make)
    assert all(one.tracked for one in fast)
    assert [(one.frame, one.j, one.f) for one in fast[1:]] == [
        (one.frame, one.j, one.f) for one in all_frames[1:]
    ]
    assert fast[0].prompted and fast[0].predicted_px == 0


def test_real_time_with_given_times_is_the_same_twice(bag: Path) -> None:
    assert repr(in_real_time(bag, 0.07)) == repr(in_real_time(bag, 0.07))


def test_a_mask_that_comes_within_the_allowance_counts(bag: Path) -> None:
    """Each frame is tracked and published 30 ms late: without allowance it is compared with the one before."""
    late, in_time = in_real_time(bag, 0.03), in_real_time(bag, 0.03, allowance_s=0.03)
    assert all(one.tracked for one in late[3:]) and jf(late[3:]) < 90
    assert jf(in_time[3:]) == 100


def test_clicks_in_real_time_correct_what_the_operator_sees(short: Path) -> None:
    records = in_real_time(short, 0.01, make=small_tracker, prompt="3-clicks")
    assert records[0].prompted and any(one.predicted_px for one in records[5:])


def test_stamps_that_go_back_are_refused(bag: Path) -> None:
    frames = list(BagSequence(bag).frames())
    sequence = DrawnSequence([], "backwards")
    object.__setattr__(sequence, "frames", lambda: iter(frames[::-1]))
    with pytest.raises(ValueError, match="backwards: the stamp of frame 2 goes back"):
        list(evaluate_real_time(ColourTracker, sequence, FirstSight("mask")))


def cut_bag(source: Path, out: Path, images: int) -> Path:
    """The first images of a bag with their labels and the names."""
    seen = 0
    with AnyReader([source]) as reader, BagWriter(out) as writer:
        for connection, time_ns, data in reader.messages():
            seen += connection.msgtype.endswith("CompressedImage")
            if seen > images:
                break
            writer.copy(reader, connection, time_ns, data)
    return out


def test_the_bundled_bag_twice_gives_the_same_summary_but_for_timings(
    tmp_path: Path, one_thread: None
) -> None:
    """Its first six images, with the bundled weights."""
    bag = cut_bag(BUNDLED_BAG, tmp_path / "cut.mcap", 6)
    for name in ("one", "two"):
        run(bag, "--engine", "eager", "--no-baselines", "--no-overlay", "--out", tmp_path / name)
    assert summary(tmp_path / "one") == summary(tmp_path / "two")
    rows = [
        pq.read_table(tmp_path / name / "frames.parquet").drop(["latency_ms"]).to_pylist()
        for name in ("one", "two")
    ]
    assert len(rows[0]) == 24 and repr(rows[0]) == repr(rows[1])  # by text, in which NaN equals NaN


class ClickedBlock(FirstMaskInPlace):
    """Keeps its first mask until it is clicked; from then on a block around the click, or nothing."""

    def refine_object(self, object_id: int, frame_rgb: Any = None, **prompt: Any) -> None:
        ((x, y),) = prompt["points"].astype(int)
        self._masks[object_id - 1] = np.zeros_like(self._masks[object_id - 1])
        if prompt["labels"].tolist() == [1]:
            self._masks[object_id - 1][max(0, y - 5) : y + 5, max(0, x - 2) : x + 3] = True


def test_each_round_corrects_the_worst_frame_and_keeps_the_clicks_before(tmp_path: Path) -> None:
    labels = [label_image(1, left) for left in (0, 0, 3, 14, 14)]
    sequence = DrawnSequence(labels)
    corrections, given = Corrections(), []
    evaluate = partial(evaluate_sequence, ClickedBlock, sequence)
    for round_ in range(3):
        write_records(tmp_path / str(round_), evaluate(correct=corrections if round_ else None))
        corrections = Corrections(corrections.document())  # as after a stop
        corrections.plan(tmp_path / str(round_))
        given.append(corrections.document())
    assert given[0] == []
    assert [click[:2] for click in given[1]] == [[3, 1]]  # the first of the frames with no overlap
    assert given[2][0] == given[1][0] and len(given[2]) == 2


def test_rounds_are_trackers_of_their_own(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "model_maker", lambda *_: small_tracker)
    run(short, "--rounds", "2", "--no-baselines", "--no-overlay", "--out", tmp_path)
    assert RecordReader(tmp_path).trackers == ("nano", "nano +1", "nano +2")
    with pytest.raises(ValueError, match="only with --mode every-frame"):
        run(short, "--rounds", "1", "--mode", "real-time")


def test_a_prompts_file_says_what_is_tracked(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "model_maker", lambda *_: small_tracker)
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("prompts:\n  - {name: block, box: [2, 20, 18, 40], stamp: 1.08}\n")
    run(short, "--prompts", prompts, "--out", tmp_path / "out", "--no-overlay")
    scores = summary(tmp_path / "out")["scores"]
    assert [one["first_frame"] for one in scores["nano"]["objects"]] == [2]
    for name, problem in (("[{name: hook, box: [2, 20, 18, 40]}]", "no object is named 'hook'"),
                          ("[{name: block, box: [2, 20, 18, 40], stamp: 99}]", "ended before the stamp of label 1"),
                          ("[]", "has no entry")):  # fmt: skip
        prompts.write_text(f"prompts: {name}\n")
        with pytest.raises(ValueError, match=problem):
            run(short, "--prompts", prompts)


def test_a_run_that_was_killed_goes_on_and_gives_the_same_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL when the first of the baselines is finished, and the second has begun."""
    bag = write_bag(tmp_path / "block.mcap", 60, step=14)
    options = [bag, "--model", "none", "--no-overlay", "--out"]
    run(*options, tmp_path / "whole")
    parts = tmp_path / "killed" / "unfinished"
    program = [sys.executable, "-m", "sam2s_ros.cli", "evaluate", *map(str, options)]
    process = subprocess.Popen([*program, str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    while not (parts / "000000.json").is_file() and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "summary.json").exists()
    monkeypatch.setattr(runs, "BASELINES", {**BASELINES, "flow": None})  # was finished: not to be run again
    run(*options, tmp_path / "killed")
    assert summary(tmp_path / "killed") == summary(tmp_path / "whole") and not parts.exists()
    worst = [(tmp_path / name / "worst_frames.json").read_text() for name in ("killed", "whole")]
    assert worst[0] == worst[1] and len(worst[0]) > 1000


def test_a_part_without_its_records_is_made_again(tmp_path: Path) -> None:
    """As a removal that was cut off may leave it, if the run's key outlived it."""
    bag = write_bag(tmp_path / "block.mcap", 8, step=14)
    run(bag, "--model", "none", "--out", tmp_path / "whole")
    unfinished = UnfinishedRun(tmp_path, {})
    with pytest.raises(RuntimeError, match="cut off"):
        unfinished.take(cut_off, dict)
    path = tmp_path / "unfinished" / "000000.parquet"
    path.with_suffix(".json").write_text("{}")
    assert not UnfinishedRun(tmp_path, {}).has(0)
    path.write_bytes((tmp_path / "whole" / "frames.parquet").read_bytes())
    assert UnfinishedRun(tmp_path, {}).has(0)


def cut_off() -> Any:
    raise RuntimeError("cut off")


def test_of_an_earlier_run_nothing_stays_beside_this_one(tmp_path: Path) -> None:
    """Its video of another recording least of all; what is not ours is left alone."""
    one, other = (write_bag(tmp_path / f"{name}.mcap", 8, step=14) for name in ("one", "other"))
    out = tmp_path / "out"
    run(one, other, "--model", "none", "--out", out)
    assert (out / "overlay_one.mp4").is_file()
    (out / "notes.txt").write_text("mine")
    run(other, "--model", "none", "--out", out)
    names = {path.name for path in out.iterdir()}
    assert "overlay.mp4" in names and not names & {"overlay_one.mp4", "overlay_other.mp4", "unfinished"}
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="hook"):
        run(other, "--model", "none", "--objects", "hook", "--out", out)
    assert not (out / "summary.json").exists() and not (out / "report.html").exists()


def test_a_part_counts_once_its_video_is_whole(tmp_path: Path) -> None:
    outputs = EvaluationOutputs(tmp_path, {})
    sequence = DrawnSequence([label_image(1)] * 4)
    with outputs.observer("overlay", True) as seen:

        def notes() -> int:
            """Called as the last before the part is there."""
            return int(cv2.VideoCapture(str(tmp_path / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT))

        run_ = partial(evaluate_sequence, FirstMaskInPlace, sequence, on_frame=seen, name="in place")
        assert outputs.write(run_, notes)[1] == 4


def test_another_input_or_other_options_begin_afresh(bag: Path, tmp_path: Path) -> None:
    arguments = argparse.Namespace
    parser = argparse.ArgumentParser()
    command.configure(parser)
    copy = tmp_path / "block.mcap"
    shutil.copy(bag, copy)

    def key(*more: str) -> dict[str, Any]:
        parsed: arguments = parser.parse_args([str(copy), "--model", "none", *more])
        return command.run_key(parsed)

    first = key()
    assert key() == first and key("--bootstrap", "7", "--out", "elsewhere") == first
    assert key("--objects", "1") != first
    os.utime(copy, ns=(1, 1))
    assert key() != first


def test_parts_of_a_version_that_recorded_or_tracked_otherwise_are_not_gone_on_with(
    bag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its number is the same: between two releases it is."""
    parser = argparse.ArgumentParser()
    command.configure(parser)
    parsed = parser.parse_args([str(bag), "--model", "nano"])
    now = command.run_key(parsed)
    assert now["defaults"]["drop_twins"] is True and "long_term_insertions" in now["columns"]
    assert json.loads(json.dumps(now)) == now, "it is compared with what was read from a file"
    monkeypatch.setattr("sam2s_ros.tracking.TrackerConfig", partial(TrackerConfig, drop_twins=False))
    assert command.run_key(parsed) != now
