"""Masks at image size: the quick way gives what resizing everything gives; run lengths are COCO's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam2s_ros.tracking import rle
from sam2s_ros.tracking.masks import AT_A_TIME, MaskUpsampler
from sam2s_ros.tracking.runs import NO_WINDOW, MaskRuns, column_runs

SIZES = [(720, 1280), (512, 512), (37, 411), (20, 30), (1, 1), (64, 64)]


def blobs(seed: int, count: int = 3, side: int = 64) -> NDArray[np.float32]:
    """Logits [count, side, side]: one smooth bump each on a negative ground, some at the border."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((side, side))
    logits = []
    for _ in range(count):
        centre, radius = rng.uniform(0, side, 2), rng.uniform(2, side / 3)
        distance = np.hypot(y - centre[0], x - centre[1])
        logits.append(4 * (1 - distance / radius) + rng.normal(0, 0.3, (side, side)))
    return np.stack(logits).astype(np.float32)


def interpolated(logits: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear logits float32 [H, W], all of them: along x, then along y."""
    for axis, length in ((1, size[1]), (0, size[0])):
        place = np.clip((np.arange(length) + 0.5) * (64 / length) - 0.5, 0, 63)
        before = np.floor(place).astype(int)
        shape = (-1, 1) if axis == 0 else (1, -1)
        share = (place - before).astype(np.float32).reshape(shape)
        after = np.minimum(before + 1, 63)
        logits = logits.take(before, axis) * (1 - share) + logits.take(after, axis) * share
    return logits


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_masks_are_bit_for_bit_those_of_interpolating_everything(size: tuple[int, int], noise: float) -> None:
    upsample = MaskUpsampler(64, size)
    ragged = np.random.default_rng(6).normal(0, noise, (6, 64, 64)).astype(np.float32)
    logits = blobs(1, 6) + ragged
    logits[::2] = np.rint(logits[::2])  # many are 0, which is background
    runs = upsample(logits)
    for row, (mask, one) in enumerate(zip(runs.masks(), logits, strict=True)):
        assert np.array_equal(mask, interpolated(one, size) > 0)
        assert all(map(np.array_equal, runs.of(row), column_runs(mask)))


@pytest.mark.parametrize("size", SIZES)
def test_the_interpolation_is_that_of_pytorch(size: tuple[int, int]) -> None:
    logits = blobs(2)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None], size, mode="bilinear", align_corners=False
    )[0].numpy()
    sure = np.abs(reference) > 2e-5 * np.abs(reference).max()
    masks = MaskUpsampler(64, size)(logits).masks()
    assert sure.mean() > 0.99
    assert np.array_equal(masks[sure], reference[sure] > 0)


def test_an_absent_object_gives_an_empty_mask() -> None:
    runs = MaskUpsampler(64, (90, 160))(np.full((2, 64, 64), -1024, dtype=np.float32))
    assert runs.masks().shape == (2, 90, 160)
    assert not runs.masks().any()
    assert [runs.window(row) for row in (0, 1)] == [NO_WINDOW] * 2


def test_no_object_gives_no_mask() -> None:
    runs = MaskUpsampler(64, (90, 160))(np.zeros((0, 64, 64), dtype=np.float32))
    assert runs.count == 0
    assert runs.masks().shape == (0, 90, 160)


def test_more_masks_than_are_made_at_a_time() -> None:
    logits = blobs(3, 2 * AT_A_TIME + 3)
    logits[4] = -1
    upsample = MaskUpsampler(64, (90, 160))
    assert np.array_equal(
        upsample(logits).masks(), np.concatenate([upsample(one[None]).masks() for one in logits])
    )


def random_masks() -> list[NDArray[np.bool_]]:
    rng = np.random.default_rng(4)
    masks = [rng.random((7, 9)) < p for p in (0.0, 0.1, 0.5, 0.9, 1.0)]
    masks += [rng.random((h, w)) < 0.5 for h, w in ((1, 1), (1, 8), (8, 1), (33, 20))]
    for row, column in ((0, 0), (6, 8), (0, 8), (6, 0), (3, 4)):
        single = np.zeros((7, 9), dtype=bool)
        single[row, column] = True
        masks += [single, ~single]
    columns = np.zeros((6, 10), dtype=bool)
    columns[:, 3:5] = True
    return [*masks, columns]


@pytest.mark.parametrize("mask", random_masks())
def test_runs_give_their_mask_back(mask: NDArray[np.bool_]) -> None:
    runs = MaskRuns.of_masks(np.stack([mask, np.zeros_like(mask), ~mask]))
    assert np.array_equal(runs.masks(), [mask, np.zeros_like(mask), ~mask])
    y0, y1, x0, x1 = runs.window(0)
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    swapped = runs.chosen(np.array([2, 0])).with_masks({1: mask.T.reshape(mask.shape)})
    assert np.array_equal(swapped.masks(), [~mask, mask.T.reshape(mask.shape)])


@pytest.mark.parametrize("mask", random_masks())
def test_run_lengths_are_those_of_coco_and_come_back(mask: NDArray[np.bool_]) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is a development extra")
    counts = rle.encode(mask)
    assert counts.dtype == np.uint32
    assert counts.sum() == mask.size
    assert (counts[1:] > 0).all(), "only the first run may be empty"
    ours = coco.frPyObjects({"size": list(mask.shape), "counts": counts.tolist()}, *mask.shape)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert ours["counts"] == theirs["counts"]
    assert np.array_equal(rle.decode(counts, mask.shape), mask)


def test_run_lengths_of_another_image_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 12, the mask has 3 x 5 = 15 pixels"):
        rle.decode([4, 8], (3, 5))
