"""frames.parquet: what is written is read again, what is not known stays unknown, and half a file is none."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluation_cases import RECORD, records, write_records

from sam2s_ros.evaluation import records as records_module
from sam2s_ros.evaluation.frame_scorer import FollowedObject, FrameRun, FrameScorer
from sam2s_ros.evaluation.records import FRAMES_FILE, SCHEMA, RecordReader, RecordWriter
from sam2s_ros.evaluation.sequences import LabelledFrame


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    unknown = replace(RECORD, frame=1, present=None, truth_crc32=None, true_px=None, state="", j=float("nan"))
    write_records(tmp_path, [[RECORD], [unknown]])
    rows = pq.read_table(tmp_path / FRAMES_FILE).to_pylist()
    for row, record in zip(rows, (RECORD, unknown), strict=True):
        for name, value in asdict(record).items():
            assert row[name] == value or (np.isnan(row[name]) and np.isnan(value)), name
    assert pq.read_schema(tmp_path / FRAMES_FILE).names == SCHEMA.names


def test_objects_are_read_one_by_one_from_many_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "ROWS_PER_GROUP", 4)
    frames = [
        [*records(1, frame=frame, label=1), *records(1, frame=frame, label=2, name="liver")]
        for frame in range(10)
    ]
    others = [[record] for record in records(3, sequence="b", tracker="flow")]
    write_records(tmp_path, [*frames, *others])
    reader = RecordReader(tmp_path)
    assert pq.ParquetFile(tmp_path / FRAMES_FILE).num_row_groups > 4
    assert reader.trackers == ("model", "flow") and reader.sequences == ("a", "b")
    liver = reader.objects_of("model")[1]
    assert (liver.name, liver.label, liver.first_frame) == ("liver", 2, 0)
    assert reader.columns(liver, "frame")["frame"].tolist() == list(range(10))
    assert reader.sequence_columns("flow", "b", "frame")["frame"].tolist() == [0, 1, 2]


def test_no_file_is_there_when_the_run_was_cut_off(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RecordWriter(tmp_path / FRAMES_FILE) as writer:
        writer.write([RECORD])
        raise KeyboardInterrupt
    assert not (tmp_path / FRAMES_FILE).exists()
    with pytest.raises(FileNotFoundError, match="sam2s evaluate --out"):
        RecordReader(tmp_path)


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / FRAMES_FILE).write_text("frame,j\n")
    with pytest.raises(ValueError, match="is no Parquet file"):
        RecordReader(tmp_path)
    pq.write_table(SCHEMA.empty_table().drop_columns(["dice"]), tmp_path / FRAMES_FILE)
    with pytest.raises(ValueError, match="lacks the columns dice"):
        RecordReader(tmp_path)


def test_two_objects_of_a_class_have_one_union_and_areas_of_their_own() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[0:10, 0:10], labels[20:30, 0:10] = 1, 2
    swapped = {1: labels == 2, 2: labels == 1}
    items = [FollowedObject(1, 1, "hook 1"), FollowedObject(2, 2, "hook 2")]
    frame = LabelledFrame(5, np.zeros((40, 40, 3), np.uint8), labels)
    first, second = FrameScorer("model", "a").score(
        frame, items, swapped, None, FrameRun(3, 1.0, prompted=[2])
    )
    assert first.j == second.j == 0 and first.dice == 0
    assert (first.class_predicted_px, first.class_true_px, first.class_intersection_px) == (200, 200, 200)
    assert (first.prompted, second.prompted, first.frame, first.stamp_ns) == (False, True, 3, 5)
    assert first.centroid_error_px == pytest.approx(20)


def test_without_ground_truth_or_image_only_what_is_known_is_said() -> None:
    frame = LabelledFrame(5, np.zeros((0, 0, 3), np.uint8), None)
    masks = {1: np.ones((20, 30), bool)}
    (record,) = FrameScorer("model", "a").score(
        frame, [FollowedObject(1, 1, "hook")], masks, None, FrameRun(0, float("nan"), tracked=False)
    )
    assert (record.height, record.width, record.predicted_px) == (20, 30, 600)
    assert record.present is record.true_px is record.truth_crc32 is None and not record.tracked
    assert all(np.isnan([record.j, record.f, record.dice, record.nsd, record.hd95_px, record.consistency]))
