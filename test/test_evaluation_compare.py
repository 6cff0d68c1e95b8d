"""`sam2s compare`: pairs what two runs measured on the same masks, and refuses what cannot be paired."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluation_cases import records, write_records

from sam2s_ros import cli


def run_of(folder: Path, **by_sequence: float) -> Path:
    """A run in which J and F of each sequence are the same on all frames."""
    folder.mkdir()
    frames = [
        [record]
        for sequence, value in by_sequence.items()
        for record in records(6, sequence=sequence, j=value, f=value)
    ]
    write_records(folder, frames)
    return folder


def test_differences_are_paired_and_the_exit_status_says_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = run_of(tmp_path / "good", a=0.9, b=0.5, c=0.7)
    worse = run_of(tmp_path / "worse", a=0.8, b=0.4, c=0.6)
    out = tmp_path / "compared" / "difference.json"
    assert cli.main(["compare", str(good), str(worse), "--out", str(out)]) == 1
    document = json.loads(out.read_text())
    assert document["mean"]["jf_present"] == pytest.approx(-10)
    assert document["intervals"]["jf_present"] == pytest.approx(
        [-10, -10]
    )  # the spread of a, b and c is not in it
    assert [one["jf_present"] for one in document["objects"]] == pytest.approx([-10] * 3)
    assert "J&F present: B less A -10.00 (-10.00 to -10.00): worse" in capsys.readouterr().out
    assert cli.main(["compare", str(worse), str(good)]) == 0
    assert cli.main(["compare", str(good), str(worse), "--tolerance", "12"]) == 0


def test_a_difference_within_its_interval_is_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = run_of(tmp_path / "a", a=0.5, b=0.5, c=0.5), run_of(tmp_path / "b", a=0.2, b=0.9, c=0.3)
    assert cli.main(["compare", str(first), str(second)]) == 0
    assert "no clear difference" in capsys.readouterr().out


def test_a_run_compared_with_itself_differs_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tmp_path / "a", a=0.5)
    assert cli.main(["compare", str(run), str(run)]) == 0
    assert (
        "B less A +0.00 (no interval, fewer than two sequences): no clear difference"
        in capsys.readouterr().out
    )


def test_runs_of_other_videos_or_ground_truth_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = run_of(tmp_path / "first", a=0.5), run_of(tmp_path / "other", b=0.5)
    (tmp_path / "changed").mkdir()
    write_records(tmp_path / "changed", [[record] for record in records(6, {3: {"truth_crc32": 8}})])
    assert cli.main(["compare", str(first), str(other)]) != 0
    assert "a (only in A); b (only in B)" in capsys.readouterr().err
    assert cli.main(["compare", str(first), str(tmp_path / "changed")]) != 0
    assert "a (other frames or ground truth)" in capsys.readouterr().err
    assert cli.main(["compare", str(first), str(tmp_path / "nowhere")]) != 0
    assert "sam2s evaluate --out" in capsys.readouterr().err
