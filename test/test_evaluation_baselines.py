"""What the baselines do with a mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sam2s_ros.evaluation.baselines import BASELINES, EmptyMask, FirstMaskInPlace, FlowCarriedMask
from sam2s_ros.evaluation.metrics import region_accuracy

SHIFT_PX = 3


@pytest.fixture(scope="module")
def moving_texture() -> list[NDArray[np.uint8]]:
    """Eight frames [96, 128, 3] of a smooth texture that moves right by SHIFT_PX a frame."""
    noise = np.random.default_rng(3).integers(0, 255, (96, 128 + 8 * SHIFT_PX, 3), np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(texture[:, (8 - t) * SHIFT_PX :][:, :128]) for t in range(8)]


def square(left: int) -> NDArray[np.bool_]:
    mask = np.zeros((96, 128), bool)
    mask[30:60, left : left + 30] = True
    return mask


def last_mask(tracker: FirstMaskInPlace, frames: list[NDArray[np.uint8]]) -> NDArray[np.bool_]:
    tracker.step(frames[0])
    tracker.add_object(frames[0], mask=square(40))
    for frame in frames[1:]:
        result = tracker.step(frame)
    return result.masks[0]


def test_flow_carries_the_mask_with_the_motion(moving_texture: list[NDArray[np.uint8]]) -> None:
    moved = square(40 + SHIFT_PX * 7)
    assert region_accuracy(last_mask(FlowCarriedMask(), moving_texture), moved) > 0.9
    assert region_accuracy(square(40), moved) < 0.3


def test_mask_left_in_place_stays(moving_texture: list[NDArray[np.uint8]]) -> None:
    assert (last_mask(FirstMaskInPlace(), moving_texture) == square(40)).all()


def test_empty_mask_is_empty(moving_texture: list[NDArray[np.uint8]]) -> None:
    assert not last_mask(EmptyMask(), moving_texture).any()


@pytest.mark.parametrize("name", BASELINES)
def test_prompt_on_a_frame_is_that_frame_s_result(name: str, moving_texture: list[NDArray[np.uint8]]) -> None:
    tracker = BASELINES[name]()
    tracker.step(moving_texture[0])
    tracker.add_object(moving_texture[0], mask=square(40))
    assert (tracker.last_result.masks[0] == square(40)).all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_second_object_may_start_later(name: str, moving_texture: list[NDArray[np.uint8]]) -> None:
    tracker = BASELINES[name]()
    assert tracker.step(moving_texture[0]).masks.shape == (0, 96, 128)
    first = tracker.add_object(moving_texture[0], mask=square(40))
    tracker.step(moving_texture[1])
    second = tracker.add_object(moving_texture[1], mask=square(10))
    assert tracker.step(moving_texture[2]).ids.tolist() == [first, second]


def test_a_click_is_refused() -> None:
    with pytest.raises(ValueError, match="starts from a mask"):
        FlowCarriedMask().add_object(None, points=np.array([[3, 4]]), labels=np.array([1]))
