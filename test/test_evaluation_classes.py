"""Class accuracy: an object's class is judged on the frames that show it, by its name in the ground truth."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sam2s_ros.evaluation.classes import class_accuracy, class_of, object_class_accuracy, said_class
from sam2s_ros.evaluation.reidentification import ReturnRule
from sam2s_ros.evaluation.report import class_line, score_document
from sam2s_ros.evaluation.scoring import ObjectScore, SequenceScore

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


def test_objects_of_classes_that_nobody_could_know_are_left_out() -> None:
    scores = [score("hook", ["hook"] * 4), score("vocal folds", ["hook"] * 4), score("grasper", ["hook"] * 4)]
    found = class_accuracy(scores, CLASSES)
    assert found is not None
    assert (found.accuracy, found.chance, found.objects) == (50.0, 25.0, 2)
    assert class_accuracy(scores[1:2], CLASSES) is None and class_accuracy(scores, ()) is None


def test_what_a_result_says_of_an_object() -> None:
    result: Any = SimpleNamespace(ids=np.array([3, 5]), masks=None, class_names=("hook", ""))
    assert [said_class(result, number) for number in (3, 5, 9)] == ["hook", "", ""]
    assert said_class(None, 3) == "" and said_class(SimpleNamespace(ids=np.array([3]), masks=None), 3) == ""


def test_the_report_has_class_accuracy_for_trackers_with_classes_only() -> None:
    known = SequenceScore("a", (score("hook", ["hook", "hook", "grasper", "hook"]),), CLASSES)
    unknown = SequenceScore("a", (score("hook", ["", "", "", ""]),))
    scores = {"model": [known], "empty mask": [unknown]}
    assert class_line(scores).startswith("model: class right on 50.0 %") and "empty" not in class_line(scores)
    document = score_document(scores, ReturnRule())["scores"]
    assert document["model"]["mean"]["classes"] == {"accuracy": 50.0, "chance": 25.0, "objects": 1}
    assert document["model"]["objects"][0]["class_accuracy"] == 50.0
    assert document["empty mask"]["mean"]["classes"] is None
