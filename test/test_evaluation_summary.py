"""What summary.json says of known records: means, EndoVis IoUs, intervals, failures, dropped frames, latency."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_cases import records, write_records

from sam2s_ros.evaluation.endovis import ClassFrames, endovis_ious
from sam2s_ros.evaluation.failures import find_failures
from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.records import FrameRecord, RecordReader
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.summary import summarise

RULE = ReturnRule(absent_frames=2, return_frames=2)
AWAY: dict[str, Any] = {
    "present": False,
    "true_px": 0,
    "intersection_px": 0,
    "predicted_px": 0,
    "j": 1.0,
    "f": 1.0,
}


def summary(folder: Path, *runs: list[FrameRecord], **facts: Any) -> dict[str, Any]:
    write_records(folder, ([record] for run in runs for record in run))
    return summarise(RecordReader(folder), RULE, Bootstrap(resamples=500), facts)


def test_means_are_over_frames_then_objects_with_and_without_first_and_last(tmp_path: Path) -> None:
    first = records(
        4,
        {0: {"j": 1.0, "f": 1.0}, 1: {"j": 0.2, "f": 0.4}, 2: {"j": 0.4, "f": 0.6}, 3: {"j": 0.0, "f": 0.0}},
    )
    second = records(12, sequence="b", j=1.0, f=1.0)
    scores = summary(tmp_path, first, second)["scores"]["model"]
    one = scores["objects"][0]
    assert (one["j_present"], one["f_present"], one["jf_present"]) == pytest.approx((30, 50, 40))
    assert one["jf_present_with_ends"] == pytest.approx(100 * (1 + 0.3 + 0.5 + 0) / 4)
    assert scores["mean"]["jf_present"] == pytest.approx(70)
    assert scores["by_sequence"]["a"]["jf_present"] == pytest.approx(40)


def test_distances_are_over_frames_with_both_masks_and_the_others_are_counted(tmp_path: Path) -> None:
    lost = {"predicted_px": 0, "hd95_px": float("nan"), "centroid_error_px": float("nan")}
    one = summary(tmp_path, records(6, {2: lost}))["scores"]["model"]["objects"][0]
    assert one["hd95_px"] == 4 and one["distances_missing"] == 25
    assert one["centroid_error_px"] == 3
    assert one["centroid_error_percent"] == pytest.approx(300 / np.hypot(100, 100), abs=1e-4)
    assert one["tip_error_px"] is None


def test_insertions_are_counted_by_image_stamps(tmp_path: Path) -> None:
    """From the first frame on which they are known; not known for a tracker that says nothing of them."""
    second = 1_000_000_000
    entered = {
        frame: {"stamp_ns": frame * second, "long_term_insertions": 2 + frame // 4} for frame in range(2, 13)
    }
    one = summary(tmp_path, records(13, entered))["scores"]["model"]["objects"][0]
    assert one["insertions_per_minute"] == pytest.approx((5 - 2) / (10 / 60))
    assert summary(tmp_path, records(6))["scores"]["model"]["objects"][0]["insertions_per_minute"] is None


def test_returns_false_masks_and_silent_failures_are_counted(tmp_path: Path) -> None:
    wrong = {**AWAY, "predicted_px": 500, "j": 0.0, "f": 0.0}
    run = records(12, {3: AWAY, 4: AWAY, 5: wrong, 6: wrong, 7: wrong, 8: {"j": 0.3}, 9: {"j": 0.6}})
    scores = summary(tmp_path, run)["scores"]["model"]
    one = scores["objects"][0]
    assert (one["absent_frames"], one["false_frames"], one["returns"], one["returns_found"]) == (5, 3, 1, 1)
    assert one["false_area"] == pytest.approx(100 * 3 * 0.05 / 5)
    assert one["silent_wrong"] == pytest.approx(100 * 4 / 10)
    assert one["tracking_right"] == pytest.approx(100 * 6 / 10)
    (failure,) = scores["failures"]
    assert (failure["kind"], failure["first_frame"], failure["last_frame"]) == ("false mask", 5, 7)
    assert failure["said_tracking"] == 3 and scores["mean"]["failures"] == 1


def test_what_is_silent_and_wrong_is_a_share_of_all_scored_frames(tmp_path: Path) -> None:
    """Not of those said to be TRACKING, of which it is the complement."""
    doubted = {"state": "UNCERTAIN", "j": 0.1}
    run = records(12, {2: doubted, 3: doubted, 4: doubted, 5: {"j": 0.1}, 6: {"j": 0.2}})
    (one,) = summary(tmp_path, run)["scores"]["model"]["objects"]
    assert one["silent_wrong"] == pytest.approx(100 * 2 / 10)
    assert one["tracking_right"] == pytest.approx(100 * 5 / 7, abs=1e-3)


def test_consistency_is_over_all_frames_but_the_first(tmp_path: Path) -> None:
    run = records(5, {0: {"consistency": float("nan")}, 1: {"consistency": 0.1}})
    (one,) = summary(tmp_path, run)["scores"]["model"]["objects"]
    assert one["consistency"] == pytest.approx(100 * (0.1 + 3 * 0.9) / 4, abs=1e-3)


def test_class_ious_leave_out_the_prompted_and_the_last_frame(tmp_path: Path) -> None:
    """A tracker without a mask gains nothing by the one that it was given, whichever object of the class that was."""
    empty = {"class_predicted_px": 0, "class_intersection_px": 0, "predicted_px": 0, "intersection_px": 0}
    run = records(6, dict.fromkeys(range(1, 5), empty))
    run[0] = replace(run[0], prompted=True)
    scores = summary(tmp_path, run)["scores"]["model"]
    assert scores["by_class"]["hook"]["class_iou"] == 0 and scores["mean"]["challenge_iou"] == 0
    assert summary(tmp_path, run[1:])["scores"]["model"]["mean"]["challenge_iou"] == 0


def test_dropped_frames_are_counted_once_and_have_no_latency(tmp_path: Path) -> None:
    dropped = {2: {"tracked": False, "latency_ms": float("nan")}}
    both = [
        record
        for pair in zip(records(4, dropped), records(4, dropped, label=2, name="liver"), strict=True)
        for record in pair
    ]
    document = summary(tmp_path, both)
    assert document["scores"]["model"]["frames"] == {"frames": 4, "dropped": 1, "dropped_share": 25}
    timings = document["timings"]["model"]
    assert (timings["frames"], timings["p99_ms"]) == (3, 20) and list(timings["by_objects"]) == ["2"]


def test_without_ground_truth_there_is_a_summary_without_accuracy(tmp_path: Path) -> None:
    nan = float("nan")
    run = records(
        5, present=None, true_px=None, intersection_px=None, class_true_px=None, j=nan, f=nan, dice=nan
    )
    scores = summary(tmp_path, run)["scores"]["model"]
    assert scores["mean"]["jf_all"] is None and scores["mean"]["challenge_iou"] is None
    assert scores["mean"]["consistency"] == pytest.approx(90)


def test_the_three_ious_differ_as_their_definitions_do() -> None:
    """Two classes; the second is predicted on a frame that does not show it, and missed on one that does."""
    frames = ClassFrames(
        frame=np.array([0, 0, 1, 1]),
        name=np.array(["hook", "liver", "hook", "liver"], object),
        predicted_px=np.array([100.0, 50, 100, 0]),
        true_px=np.array([100.0, 0, 50, 80]),
        intersection_px=np.array([100.0, 0, 50, 0]),
    )
    found = endovis_ious([frames], Bootstrap())
    assert found.challenge_iou == pytest.approx(100 * (1 + (0.5 + 0) / 2) / 2)
    assert found.iou == pytest.approx(100 * ((1 + 0) / 2 + (0.5 + 0) / 2) / 2)
    assert found.mc_iou == pytest.approx(100 * (0.75 + 0) / 2)
    assert found.classes == {"hook": 75, "liver": 0} and found.iou_interval is None


def test_an_interval_is_over_sequences_and_needs_two() -> None:
    bootstrap = Bootstrap(resamples=4000)
    assert bootstrap.interval(np.array([3.0]), np.array([4.0])) is None
    assert bootstrap.interval(np.array([2.0, 4.0, 0.0]), np.array([4.0, 8.0, 0.0])) == (0.5, 0.5)
    values = np.random.default_rng(1).normal(50, 10, 40)
    low, high = bootstrap.interval(values, np.ones(40)) or (0, 0)
    spread = 1.96 * values.std() / np.sqrt(40)
    assert (low, high) == pytest.approx((values.mean() - spread, values.mean() + spread), abs=0.6)
    assert bootstrap.interval(values, np.ones(40)) == (low, high)


def test_a_sequence_with_many_objects_is_drawn_as_a_whole() -> None:
    """Ten objects of one video are not ten samples: with two videos the interval spans both."""
    assert Bootstrap(500).interval(np.array([10.0, 0.0]), np.array([10.0, 10.0])) == (0, 1)


def test_failures_are_runs_of_one_kind_of_three_frames_or_more() -> None:
    j = np.array([0.9, 0.2, 0.2, 0.9, 0.3, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0])
    present = np.array([True] * 7 + [True, True, True, False])
    masked = np.array([5] * 7 + [0, 0, 0, 0])
    states = np.array(["TRACKING"] * 6 + ["LOST"] * 5, object)
    wrong, missing = find_failures(np.arange(20, 31), j, present, masked, states)
    assert (wrong.kind, wrong.first_frame, wrong.last_frame, wrong.said_tracking) == ("wrong", 24, 26, 2)
    assert (missing.kind, missing.frames, missing.states) == ("missing", 3, {"LOST": 3})
