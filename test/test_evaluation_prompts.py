"""The simulated operator clicks where the papers' protocol says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sam2s_ros.evaluation.baselines import BaselineResult
from sam2s_ros.evaluation.prompts import FirstSight, box_of, correction_click, make_prompter, prompt_object
from sam2s_ros.evaluation.sequences import LabelledFrame


def rectangle(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    mask = np.zeros((40, 60), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


class SquareAroundClicks:
    """A tracker whose mask is a square around each positive click, less a square around each negative one."""

    def __init__(self, radius: int) -> None:
        self.radius = radius
        self.clicks: list[tuple[float, float, int]] = []
        self.prompts: list[str] = []

    @property
    def last_result(self) -> BaselineResult:
        mask = np.zeros((40, 60), bool)
        for x, y, label in self.clicks:
            left, top = max(int(x) - self.radius, 0), max(int(y) - self.radius, 0)
            mask[top : int(y) + self.radius + 1, left : int(x) + self.radius + 1] = label == 1
        return BaselineResult(np.array([1], np.uint32), mask[None])

    def step(self, frame_rgb: NDArray[np.uint8], stamp_ns: int | None = None) -> BaselineResult:
        return self.last_result

    def add_object(self, frame_rgb, mask=None, points=None, labels=None, box=None, name="") -> int:
        self.prompts.append("add")
        self._click(points, labels)
        return 1

    def refine_object(self, object_id, frame_rgb=None, mask=None, points=None, labels=None, box=None) -> None:
        self.prompts.append("refine")
        self._click(points, labels)

    def _click(self, points: NDArray, labels: NDArray) -> None:
        self.clicks += [
            (float(x), float(y), int(label)) for (x, y), label in zip(points, labels, strict=True)
        ]


def prompt_with(tracker: SquareAroundClicks, truth: NDArray[np.bool_], protocol: str) -> None:
    frame = LabelledFrame(0, np.zeros((40, 60, 3), np.uint8), truth.astype(np.uint8))
    (due,) = FirstSight(protocol).due(frame, (), {})
    prompt_object(tracker, frame, due)


def test_first_click_is_the_centre_of_the_mask() -> None:
    points, labels = correction_click(rectangle(10, 8, 20, 18), np.zeros((40, 60), bool))
    assert points.tolist() == [[15, 13]] and labels.tolist() == [1]


def test_the_image_border_counts_as_the_edge_of_a_region() -> None:
    points, _ = correction_click(rectangle(0, 0, 10, 10), np.zeros((40, 60), bool))
    assert points.tolist() == [[5, 5]]


def test_click_is_negative_where_too_much_is_the_larger_error() -> None:
    truth = rectangle(5, 5, 15, 15)
    prediction = rectangle(8, 5, 15, 15) | rectangle(30, 10, 50, 30)
    points, labels = correction_click(truth, prediction)
    assert points.tolist() == [[40, 20]] and labels.tolist() == [0]


def test_three_clicks_go_to_the_largest_error_left_each_time() -> None:
    tracker = SquareAroundClicks(radius=5)
    truth = rectangle(5, 5, 15, 15) | rectangle(30, 5, 38, 13)
    prompt_with(tracker, truth, "3-clicks")
    assert tracker.prompts == ["add", "refine", "refine"]
    assert tracker.clicks[:2] == [(10, 10, 1), (34, 9, 1)]
    assert tracker.clicks[2][2] == 0  # the square around the second click is too large


def test_clicks_stop_once_the_mask_is_right() -> None:
    tracker = SquareAroundClicks(radius=5)
    prompt_with(tracker, rectangle(5, 5, 15, 15), "3-clicks")
    assert tracker.prompts == ["add"]


def test_one_click_is_one_click() -> None:
    tracker = SquareAroundClicks(radius=2)
    prompt_with(tracker, rectangle(5, 5, 25, 15), "click")
    assert tracker.prompts == ["add"]


def test_five_clicks_are_five_while_there_is_an_error() -> None:
    tracker = SquareAroundClicks(radius=1)
    prompt_with(tracker, rectangle(2, 2, 50, 35), "5-clicks")
    assert tracker.prompts == ["add"] + 4 * ["refine"]


def test_box_holds_the_first_and_last_pixel_centres() -> None:
    assert box_of(rectangle(10, 8, 20, 18)).tolist() == [10, 8, 20, 18]


def test_box_of_a_line_has_an_area() -> None:
    assert box_of(rectangle(10, 8, 10, 18)).tolist() == [9.5, 8, 10.5, 18]
    assert box_of(rectangle(10, 8, 20, 8)).tolist() == [10, 7.5, 20, 8.5]


def test_unknown_prompt_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="mask, box, click, 3-clicks, 5-clicks"):
        make_prompter("scribble")
