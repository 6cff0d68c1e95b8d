"""`sam2s calibrate`: thresholds on the predicted IoU are judged by the true one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sam2s_ros.cli import main
from sam2s_ros.evaluation.calibration import correlation, judge_threshold
from sam2s_ros.evaluation.metrics import region_accuracy
from sam2s_ros.evaluation.reliability import BAND_CELLS, BoundaryReliability

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
    document = json.loads((tmp_path / "calibration.json").read_text())
    shares = [row["passed"] for row in document["iou"]]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0
    assert (tmp_path / "calibration.png").stat().st_size > 1000
    boundary = document["boundary"]
    assert sum(boundary["cells"]) > 1000 and 0 < boundary["expected_error"] < 1
    printed = capsys.readouterr().out
    assert "correlation of predicted and true IoU" in printed and "cells along boundaries" in printed


def half_plane(image: int) -> np.ndarray:
    truth = np.zeros((image, image), bool)
    truth[:, : image // 2] = True
    return truth


def logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def test_only_cells_along_the_boundary_count() -> None:
    """Far from it everybody is sure, which would hide what happens on it."""
    reliability = BoundaryReliability()
    reliability.add(np.full((16, 16), -5.0, np.float32), half_plane(64))
    assert reliability.count.sum() == 16 * 2 * BAND_CELLS


def test_probabilities_that_tell_the_truth_have_no_error_and_certain_ones_have_one() -> None:
    """In the band of a half plane half of the cells are in it."""
    honest, certain = BoundaryReliability(), BoundaryReliability()
    honest.add(np.full((16, 16), logit(0.5), np.float32), half_plane(64))
    certain.add(np.full((16, 16), logit(0.95), np.float32), half_plane(64))
    assert honest.expected_error == pytest.approx(0.0, abs=1e-6)
    assert certain.expected_error == pytest.approx(0.45, abs=1e-6)
    assert certain.predicted[-1] == pytest.approx(0.95) and certain.true[-1] == pytest.approx(0.5)
    assert np.isnan(certain.true[0])


def test_sums_over_masks_equal_their_mean() -> None:
    both = BoundaryReliability()
    both.add(np.full((16, 16), logit(0.75), np.float32), half_plane(64))
    both.add(np.full((16, 16), logit(0.75), np.float32), half_plane(64)[:, ::-1])
    assert both.expected_error == pytest.approx(0.25, abs=1e-6) and both.count[7] == both.count.sum()
