"""Promises of the long synthetic videos and of the data set readers."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_ros.data.clips import validation_clips
from sam2s_ros.data.readers import (
    VOCALFOLDS_CLASSES,
    davis_names,
    read_davis_sequence,
    read_vocalfolds_sequence,
)
from sam2s_ros.data.real_clips import VOCALFOLDS_TRAINING
from sam2s_ros.data.sequences import render_sequence

SHARED = Path(os.environ.get("SAM2S_SHARED_DATA", Path(__file__).parents[2] / "shared/data"))
needs_data = pytest.mark.skipif(not (SHARED / "train").is_dir(), reason=f"no training data at {SHARED}")


def test_sequence_has_the_size_and_objects_asked_for_without_any_data() -> None:
    frames = list(render_sequence(1, 3, (90, 160), objects=3))
    assert len(frames) == 3
    for frame, masks in frames:
        assert frame.shape == (90, 160, 3) and frame.dtype == np.uint8
        assert masks.shape == (3, 90, 160) and masks.sum(axis=0).max() <= 1
    assert (frames[0][1].mean(axis=(1, 2)) > 0.002).all()


def test_sequence_moves_and_repeats_by_seed() -> None:
    first = list(render_sequence(2, 12, (64, 96), objects=1))
    again = list(render_sequence(2, 12, (64, 96), objects=1))
    assert all(
        np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True)
    )
    assert not np.array_equal(first[0][1], first[-1][1])


def test_neighbouring_frames_of_a_sequence_show_continuous_motion() -> None:
    masks = [m[0] for _, m in render_sequence(3, 10, (96, 96), fps=25.0, objects=1)]
    overlaps = [(a & b).sum() / (a | b).sum() for a, b in zip(masks, masks[1:], strict=False)]
    assert min(overlaps) > 0.4


def test_validation_clips_list_all_their_objects() -> None:
    clips = list(validation_clips(numbers=range(2), length=2, size=64))
    assert [clip.masks.shape for clip in clips] == [(2, 1, 64, 64), (2, 2, 64, 64)]


def test_impossible_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="objects"):
        next(render_sequence(0, 5, objects=0))


def write_vocalfolds(root: Path, numbers: list[int]) -> None:
    for folder in ("img", "annot"):
        (root / folder / "patient9/seq1").mkdir(parents=True)
    for number in numbers:
        picture = np.full((8, 8, 3), number, np.uint8)
        cv2.imwrite(str(root / f"img/patient9/seq1/{number:04d}_l.jpg"), picture)
        cv2.imwrite(str(root / f"annot/patient9/seq1/{number:04d}.png"), np.full((8, 8), 5, np.uint8))


def test_reader_orders_frames_by_number_and_pairs_labels(tmp_path: Path) -> None:
    write_vocalfolds(tmp_path, [30, 4, 120])
    sequence = read_vocalfolds_sequence(tmp_path, 9, 1)
    assert [sequence.frame_number(i) for i in range(len(sequence))] == [4, 30, 120]
    assert abs(int(sequence.frame(2).mean()) - 120) <= 2
    assert sequence.labels(0).max() == 5 and sequence.classes == VOCALFOLDS_CLASSES


def test_reader_leaves_out_frames_without_labels(tmp_path: Path) -> None:
    write_vocalfolds(tmp_path, [1, 2])
    (tmp_path / "annot/patient9/seq1/0002.png").unlink()
    assert len(read_vocalfolds_sequence(tmp_path, 9, 1)) == 1


def test_missing_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="patient1/seq2"):
        read_vocalfolds_sequence(tmp_path, 1, 2)


def test_validation_sequence_is_not_trained_on() -> None:
    assert 5 not in VOCALFOLDS_TRAINING


@needs_data
def test_davis_labels_are_binary() -> None:
    root = SHARED / "train/davis2016_val"
    sequence = read_davis_sequence(root, davis_names(root)[0])
    assert sequence.frame(0).shape[:2] == sequence.labels(0).shape
    assert set(np.unique(sequence.labels(0))) == {0, 1}
