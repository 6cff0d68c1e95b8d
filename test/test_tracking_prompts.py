"""Prompts arrive at the network where they were meant, in its own pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam2s_ros.tracking.config import MAX_PROMPT_POINTS
from sam2s_ros.tracking.prompts import Prompt, read_prompt, scale_points, to_model_mask, to_prompt_batch


def test_pixel_centres_and_corners_keep_their_place_at_another_size() -> None:
    corners = np.array([[-0.5, -0.5], [1279.5, 719.5], [639.5, 359.5]], dtype=np.float32)
    scaled = scale_points(corners, (720, 1280), (256, 256))
    assert scaled.tolist() == [[-0.5, -0.5], [255.5, 255.5], [127.5, 127.5]]


def test_a_box_comes_first_and_only_a_single_click_is_ambiguous() -> None:
    both = read_prompt((50, 50), points=[[7, 8]], labels=[0], box=[1, 2, 30, 40])
    assert both.points.tolist() == [[1, 2], [30, 40], [7, 8]]
    assert both.labels.tolist() == [2, 3, 0]
    click = read_prompt((50, 50), points=[[7, 8]])
    assert click.labels.tolist() == [1], "clicks without labels are on the object"
    assert [to_prompt_batch(p, (50, 50), 50, None).multimask for p in (both, click)] == [False, True]


def test_a_box_that_reaches_out_of_the_image_is_cut_at_its_border() -> None:
    assert read_prompt((50, 60), box=[-10, 5, 30, 99]).points.tolist() == [[-0.5, 5], [30, 49.5]]


def test_clicks_on_one_frame_add_up_and_a_box_starts_afresh() -> None:
    first, second = read_prompt((50, 50), points=[[1, 1]]), read_prompt((50, 50), points=[[2, 2]], labels=[0])
    assert second.following(first).points.tolist() == [[1, 1], [2, 2]]
    assert second.following(first).labels.tolist() == [1, 0]
    box = read_prompt((50, 50), box=[1, 2, 30, 40])
    assert box.following(first) is box
    assert second.following(box).labels.tolist() == [2, 3, 0]
    mask = read_prompt((50, 50), mask=np.ones((50, 50), dtype=bool))
    assert second.following(mask) is second


def test_clicks_without_end_keep_the_box_and_the_latest() -> None:
    prompt: Prompt = read_prompt((50, 50), box=[1, 2, 30, 40])
    for x in range(40):
        prompt = read_prompt((50, 50), points=[[x, 0]]).following(prompt)
    assert len(prompt.labels) == MAX_PROMPT_POINTS
    assert prompt.labels[:2].tolist() == [2, 3]
    assert prompt.points[2:, 0].tolist() == list(range(10, 40))


@pytest.mark.parametrize("size", [(90, 160), (300, 500), (128, 128)])
def test_a_mask_is_resized_as_in_sam2(size: tuple[int, int]) -> None:
    mask = np.zeros(size, dtype=bool)
    mask[size[0] // 4 : size[0] // 2, size[1] // 5 : size[1] // 2] = True
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(mask).float()[None, None],
        (128, 128),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    assert np.array_equal(to_model_mask(mask, 128), (reference[0, 0] >= 0.5).float().numpy())


def test_a_thread_thinner_than_a_model_pixel_does_not_vanish() -> None:
    mask = np.zeros((720, 1280), dtype=bool)
    mask[300, 200:900] = True
    resized = to_model_mask(mask, 128)
    assert 1 <= np.flatnonzero(resized.any(axis=1)).size <= 2
    assert abs(np.flatnonzero(resized.any(axis=1)).mean() - 300.5 * 128 / 720) <= 1
