"""Class accuracy: an object's class is judged on the frames that show it, by its name in the ground truth."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evaluation_cases import records, write_records

from sam2s_ros.evaluation.classes import class_of, object_class_accuracy
from sam2s_ros.evaluation.frame_scorer import said_of
from sam2s_ros.evaluation.intervals import Bootstrap
from sam2s_ros.evaluation.records import RecordReader
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.scoring import ObjectScore
from sam2s_ros.evaluation.summary import summarise
from sam2s_ros.evaluation.tables import class_line

CLASSES = ("grasper", "hook", "scissors", "liver")


def score(name: str, said: list[str], present: list[bool] | None = None) -> ObjectScore:
    count = len(said)
    seen = np.ones(count, bool) if present is None else np.array(present)
    return ObjectScore(name, 1, 0, np.ones(count), np.ones(count), seen, np.zeros(count), tuple(said))


def test_a_number_after_a_class_tells_two_of_it_apart() -> None:
    assert [class_of(name) for name in ("grasper 2", "grasper", "needle driver 1", "7")] == [
        "grasper",
        "grasper",
        "needle driver",
        "7",
    ]


def test_the_prompted_and_the_last_frame_and_frames_without_the_object_do_not_count() -> None:
    said = ["hook", "grasper", "hook", "grasper", "hook", "hook"]
    present = [True, True, True, True, False, True]
    assert object_class_accuracy(score("grasper 1", said, present), CLASSES) == pytest.approx(2 / 3)


def test_saying_nothing_is_wrong() -> None:
    assert object_class_accuracy(score("hook", ["", "", "hook", ""]), CLASSES) == pytest.approx(0.5)


def test_an_object_of_a_class_that_nobody_could_know_is_not_judged() -> None:
    assert object_class_accuracy(score("vocal folds", ["hook"] * 4), CLASSES) is None
    assert object_class_accuracy(score("hook", ["hook"] * 4), ()) is None


def test_what_a_result_says_of_an_object() -> None:
    result: Any = SimpleNamespace(ids=np.array([3, 5]), masks=None, class_names=("hook", ""))
    assert [said_of(result, number).said_class for number in (3, 5, 9)] == ["hook", "", ""]
    silent: Any = SimpleNamespace(ids=np.array([3]), masks=None)
    counted: Any = SimpleNamespace(ids=np.array([3, 5]), masks=None, long_term_insertions=np.array([4, 0]))
    assert [said_of(counted, number).long_term_insertions for number in (3, 5, 9)] == [4, 0, None]
    assert said_of(None, 3).said_class == "" and said_of(silent, 3).said_class == ""


def test_the_summary_has_class_accuracy_for_trackers_with_classes_only(tmp_path: Path) -> None:
    said = {1: {"said_class": "hook"}, 2: {"said_class": "grasper"}, 3: {"said_class": "grasper"}}
    frames = [*records(5, said), *records(5, tracker="empty mask", name="liver 2 of 3")]
    write_records(tmp_path, [[record] for record in frames])
    document = summarise(RecordReader(tmp_path), ReturnRule(), Bootstrap(), {"classes": CLASSES})
    assert class_line(document) == (
        "model: class right on 33.3 % of the frames that show the object, mean over 1 objects (chance 25.0 %)"
    )
    assert document["scores"]["model"]["objects"][0]["class_accuracy"] == pytest.approx(100 / 3, abs=1e-3)
    assert document["scores"]["empty mask"]["mean"]["class_accuracy"] is None
