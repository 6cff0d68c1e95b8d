"""Stray components are dropped, the object's own parts are not, and the memory never sees the strays."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tracking_cases import disc, moving_images, small_tracker

from sam2s_ros.network import Decoded
from sam2s_ros.tracking import StreamingTracker
from sam2s_ros.tracking.components import keep_own_components, keep_own_components_batch
from sam2s_ros.tracking.masks import MaskUpsampler
from sam2s_ros.tracking.propagation import without_overlaps

SIDE = (32, 32)


def mask_of(*discs: tuple[float, float, float]) -> NDArray[np.bool_]:
    return np.logical_or.reduce([disc(*one, SIDE) for one in discs])


def test_a_component_away_from_the_previous_mask_is_a_stray() -> None:
    own, stray = (10, 10, 4), (26, 26, 5)
    keep = keep_own_components(mask_of(own, stray), mask_of((9, 9, 4)), distance=2)
    assert np.array_equal(~keep, mask_of(stray))


def test_an_object_split_by_an_occlusion_keeps_all_its_parts() -> None:
    assert keep_own_components(mask_of((8, 16, 3), (24, 16, 3)), mask_of((16, 16, 14)), distance=0) is None


def test_a_part_within_the_distance_belongs() -> None:
    mask, before = mask_of((10, 10, 3), (20, 10, 3)), mask_of((10, 10, 3))
    assert keep_own_components(mask, before, distance=6) is None
    assert keep_own_components(mask, before, distance=5) is not None


@pytest.mark.parametrize("before", [np.zeros(SIDE, dtype=bool), mask_of((16, 2, 2))])
def test_where_none_belongs_the_largest_does(before: NDArray[np.bool_]) -> None:
    keep = keep_own_components(mask_of((8, 20, 3), (24, 20, 5)), before, distance=2)
    assert np.array_equal(~keep, mask_of((8, 20, 3)))


def test_masks_of_one_piece_or_none_are_left_alone() -> None:
    masks = np.stack([mask_of((8, 8, 3)), np.zeros(SIDE, dtype=bool)])
    assert keep_own_components_batch(masks, masks, distance=2) is None


def test_the_setting_decides_what_is_shown_and_what_is_memorised(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting, result and memory are without the stray; without it, both have it."""
    frames = moving_images(2)
    memories = []
    for drop in (True, False):
        tracker = small_tracker(drop_stray_components=drop)
        tracker.add_object(frames[0], mask=disc(40, 40, 15))
        show_two_discs(monkeypatch, tracker)
        result = tracker.step(frames[1])
        assert result.masks[0, 40, 40]
        assert result.masks[0, 70, 130] == (not drop)
        memories.append(tracker.engine.export_state(np.array([0]))["memory"])
    assert not np.array_equal(*memories)


def show_two_discs(monkeypatch: pytest.MonkeyPatch, tracker: StreamingTracker) -> None:
    """Let the network's decoder answer with the object and a stray."""
    network = tracker.engine._network
    shown = disc(8, 14, 4, SIDE) | disc(26, 25, 3, SIDE)
    logits = torch.from_numpy(np.where(shown, 8.0, -8.0).astype(np.float32))[None, None]
    decode = network.decode

    def decode_discs(*args: Any, **kwargs: Any) -> Decoded:
        return dataclasses.replace(decode(*args, **kwargs), logits=logits, high_res=network.upsample(logits))

    monkeypatch.setattr(network, "decode", decode_discs)


def test_a_pixel_claimed_twice_goes_to_the_higher_logit() -> None:
    logits = np.full((3, 2, 3), -5, np.float32)
    logits[0, 0], logits[1, 0] = [1, 4, -1], [2, 3, 6]
    alone = without_overlaps(logits)
    assert alone[:, 0].tolist() == [[-2, 4, -6], [2, -4, 6], [-5, -5, -6]]
    assert np.array_equal(alone[:, 1], logits[:, 1]), "where nothing is positive, nothing changes"


def test_masks_that_do_not_overlap_do_not_after_upsampling_either_and_leave_no_gap() -> None:
    logits = np.full((2, 8, 8), -1, np.float32)
    logits[0, :, :4], logits[1, :, 3:] = 5, 2
    upsampler = MaskUpsampler(8, (80, 80))
    assert upsampler(logits).masks().all(axis=0).any(), "the case shows something"
    masks = upsampler(without_overlaps(logits)).masks()
    assert not masks.all(axis=0).any()
    assert masks.any(axis=0).mean() > 0.98


@pytest.mark.parametrize("exclusive", [False, True])
def test_masks_overlap_unless_the_settings_forbid_it(exclusive: bool) -> None:
    """Two objects prompted by the same box claim the same pixels; the prompted frame shows both as given."""
    frames = moving_images(5)
    tracker = small_tracker(exclusive_masks=exclusive)
    given = [disc(60, 40, 25), disc(70, 40, 25)]
    for mask in given:
        tracker.add_object(frames[0], mask=mask)
    assert np.array_equal(tracker.last_result.masks, given)
    overlaps = [int(tracker.step(frame).masks.all(axis=0).sum()) for frame in frames[1:]]
    assert (max(overlaps) == 0) if exclusive else (min(overlaps) > 0)
    assert tracker.last_result.masks.any(axis=(1, 2)).all()
