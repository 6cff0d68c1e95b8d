"""`sam2s calibrate`: thresholds on the predicted IoU are judged by the true one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sam2s_ros.cli import main
from sam2s_ros.evaluation.calibration import correlation, judge_threshold
from sam2s_ros.evaluation.metrics import region_accuracy

PREDICTED = np.array([0.2, 0.6, 0.8, 0.9], np.float32)
TRUE = np.array([0.1, 0.4, 0.75, 0.95], np.float32)


def test_a_threshold_is_judged_by_what_passes_it() -> None:
    row = judge_threshold(PREDICTED, TRUE, 0.5)
    assert (row.passed, row.good) == (0.75, pytest.approx(2 / 3))
    assert row.mean_iou == pytest.approx(0.7)
    none = judge_threshold(PREDICTED, TRUE, 0.9)
    assert none.passed == 0 and np.isnan([none.good, none.mean_iou]).all()


def test_correlation_of_what_does_not_vary_is_not_known() -> None:
    assert correlation(PREDICTED, TRUE) > 0.95
    assert np.isnan(correlation(np.ones(4, np.float32), TRUE))


def test_overlap_is_intersection_over_union() -> None:
    mask, truth = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    mask[:2], truth[1:3] = True, True
    assert region_accuracy(mask, truth) == pytest.approx(1 / 3)


def test_the_command_prints_and_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = Path(__file__).parent / "data" / "vocalfolds_seq4.mcap"
    assert main(["calibrate", str(bag), "--engine", "eager", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "calibration.json").read_text())
    shares = [row["passed"] for row in rows]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0
    assert (tmp_path / "calibration.png").stat().st_size > 1000
    assert "correlation of predicted and true IoU" in capsys.readouterr().out
