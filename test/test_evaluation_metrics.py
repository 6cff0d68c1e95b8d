"""J and F equal the public DAVIS 2017 and SA-V evaluation code on 200 mask pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sam2s_ros.evaluation.metrics import boundary_accuracy, boundary_radius, mask_boundary, region_accuracy

REFERENCE = Path(__file__).parent / "fixtures" / "davis_sav_metrics.json"
SIZES = [(1, 1), (1, 40), (40, 1), (2, 2), (7, 9), (33, 64), (96, 96), (120, 213), (240, 320), (480, 854)]
Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def mask_pairs(seed: int, count: int) -> list[Pair]:
    """`count` pairs of masks: every degenerate shape against every other, then ellipses, at all SIZES."""
    generator = np.random.default_rng(seed)
    shapes: list[Callable[[np.random.Generator, int, int], NDArray[np.bool_]]] = [
        _empty, _full, _one_pixel, _border_strip, _full_but_one, _ellipse, _noise, _speckle,
    ]  # fmt: skip
    combinations = [(first, second) for first in shapes for second in shapes]
    pairs = []
    for index in range(count):
        height, width = SIZES[index % len(SIZES)]
        if index < len(combinations):
            first, second = combinations[index]
            pairs.append((first(generator, height, width), second(generator, height, width)))
        else:
            pairs.append(_displaced_ellipses(generator, height, width))
    return pairs


def _empty(generator: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return np.zeros((height, width), bool)


def _full(generator: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return np.ones((height, width), bool)


def _one_pixel(generator: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    mask[int(generator.integers(height)), int(generator.integers(width))] = True
    return mask


def _full_but_one(generator: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return ~_one_pixel(generator, height, width)


def _border_strip(generator: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), bool)
    depth = 1 + int(generator.integers(4))
    strips = [np.s_[:depth], np.s_[-depth:], np.s_[:, :depth], np.s_[:, -depth:]]
    for side in generator.permutation(4)[: 1 + int(generator.integers(2))]:
        mask[strips[int(side)]] = True
    return mask


def _noise(generator: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return generator.random((height, width)) < 0.5


def _speckle(generator: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return generator.random((height, width)) < 0.002


def _ellipse(generator: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    return _displaced_ellipses(generator, height, width)[0]


def _displaced_ellipses(generator: np.random.Generator, height: int, width: int) -> Pair:
    """An ellipse that may cross the border; the same one shifted and scaled, at times with a hole."""
    centre_x, centre_y, radius_x, radius_y = generator.random(4) * (width, height, width / 2, height / 2)
    shift_x, shift_y, growth = (generator.random(3) - 0.5) * (width / 10, height / 10, 0.4)
    rows, columns = np.mgrid[:height, :width]

    def inside(x: float, y: float, scale: float) -> NDArray[np.bool_]:
        radii = (scale * radius_x + 0.5, scale * radius_y + 0.5)
        return ((columns - x) / radii[0]) ** 2 + ((rows - y) / radii[1]) ** 2 <= 1

    second = inside(centre_x + shift_x, centre_y + shift_y, 1 + growth)
    if generator.random() < 0.3:
        second &= ~inside(centre_x, centre_y, 0.3)
    return inside(centre_x, centre_y, 1.0), second


def digest(pairs: list[Pair]) -> str:
    """SHA-256 of the packed masks: tells a changed generator from a changed metric."""
    digest = hashlib.sha256()
    for pair in pairs:
        for mask in pair:
            digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def reference() -> dict:
    return json.loads(REFERENCE.read_text())


@pytest.fixture(scope="module")
def pairs(reference: dict) -> list[Pair]:
    return mask_pairs(reference["seed"], reference["count"])


def test_pairs_are_those_the_public_code_was_run_on(reference: dict, pairs: list[Pair]) -> None:
    assert digest(pairs) == reference["sha256"]


@pytest.mark.parametrize("code", ["davis2017", "sav"])
def test_region_accuracy_equals_the_public_code(reference: dict, pairs: list[Pair], code: str) -> None:
    ours = [region_accuracy(prediction, truth) for prediction, truth in pairs]
    np.testing.assert_allclose(ours, reference[code]["j"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("code", ["davis2017", "sav"])
def test_boundary_accuracy_equals_the_public_code(reference: dict, pairs: list[Pair], code: str) -> None:
    ours = [boundary_accuracy(prediction, truth) for prediction, truth in pairs]
    np.testing.assert_allclose(ours, reference[code]["f"], rtol=0, atol=1e-6)


def test_integer_masks_count_every_non_zero_value_as_object() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[5:10, 5:10] = 255
    assert region_accuracy(truth // 255, truth) == 1.0
    assert boundary_accuracy(truth // 255, truth) == 1.0


def test_tolerance_grows_with_the_diagonal_and_is_rounded_up() -> None:
    assert [boundary_radius(480, 854), boundary_radius(512, 512), boundary_radius(1, 1)] == [8, 6, 1]


def test_an_object_at_the_image_edge_has_no_boundary_there() -> None:
    mask = np.zeros((6, 6), bool)
    mask[:, 3:] = True
    assert np.flatnonzero(mask_boundary(mask).any(axis=0)).tolist() == [2]


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\) and \(4, 5\)"):
        region_accuracy(np.zeros((4, 4)), np.zeros((4, 5)))
