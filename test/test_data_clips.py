"""Promises of the training clips: exact disjoint masks, visible first frames, the same clip for the same generator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sam2s_ros.data.backgrounds import procedural_plate
from sam2s_ros.data.clips import (
    DEFAULT_WEIGHTS,
    MIN_FIRST_AREA,
    MORE_SOURCES,
    Clip,
    ClipSource,
    make_mixture,
)
from sam2s_ros.data.instrument_classes import CLASSES
from sam2s_ros.data.instruments import pooled_design
from sam2s_ros.data.motion import frame_times

SHARED = Path(os.environ.get("SAM2S_SHARED_DATA", Path(__file__).parents[2] / "shared/data"))
needs_data = pytest.mark.skipif(not (SHARED / "train").is_dir(), reason=f"no training data at {SHARED}")
SIZE = 96


@pytest.fixture(scope="module")
def procedural() -> ClipSource:
    return make_mixture(None, SIZE)


def draw(source: ClipSource, seed: int, length: int = 3, objects: int = 2) -> Clip:
    return source.sample(np.random.default_rng(seed), length, objects, SIZE)


def assert_usable(clip: Clip, length: int, objects: int) -> None:
    assert clip.frames.shape == (length, SIZE, SIZE, 3) and clip.frames.dtype == np.uint8
    assert clip.masks.shape == (length, objects, SIZE, SIZE) and clip.masks.dtype == np.bool_
    assert len(clip.class_names) == objects
    assert (clip.masks[0].mean(axis=(1, 2)) >= MIN_FIRST_AREA).all()
    for a in range(objects):
        for b in range(a):
            first, second = clip.masks[:, a], clip.masks[:, b]
            assert np.array_equal(first, second) or not (first & second).any()


@pytest.mark.parametrize("seed", range(12))
def test_objects_of_synthetic_clips_are_visible_at_first_and_never_overlap(
    procedural: ClipSource, seed: int
) -> None:
    assert_usable(draw(procedural, seed), 3, 2)


def test_same_generator_gives_same_clip(procedural: ClipSource) -> None:
    first, again = draw(procedural, 5), draw(procedural, 5)
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.masks, again.masks)


def test_other_generator_gives_other_clip(procedural: ClipSource) -> None:
    assert not np.array_equal(draw(procedural, 5).frames, draw(procedural, 6).frames)


def test_single_images_are_served(procedural: ClipSource) -> None:
    assert_usable(draw(procedural, 3, length=1, objects=1), 1, 1)


def test_unknown_source_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="laparoscope"):
        make_mixture(None, SIZE, {"laparoscope": 1.0})


def test_frame_times_start_at_zero_and_cover_slow_and_fast_sampling() -> None:
    gaps = []
    for seed in range(200):
        times = frame_times(np.random.default_rng(seed), 5)
        assert times[0] == 0.0 and (np.diff(times) > 0).all()
        gaps.append(float(np.diff(times).mean()))
    assert min(gaps) < 0.07 and max(gaps) > 1.2
    assert 0.25 < np.mean(np.array(gaps) > 0.4) < 0.45


def test_long_term_frames_lie_anywhere_in_the_video_and_the_others_are_consecutive() -> None:
    before = 0
    for seed in range(100):
        times = frame_times(np.random.default_rng(seed), 8, long_term=2)
        assert len(times) == 8 and times[0] == 0.0 and (times >= 0).all()
        assert (np.diff(times[3:]) > 0).all() and np.diff(times[3:]).max() < 0.6
        before += int((times[1:3] < times[3]).sum())
    assert 60 < before < 140, "as many before the consecutive frames as after them"


@needs_data
@pytest.mark.parametrize("name", sorted({*DEFAULT_WEIGHTS, *MORE_SOURCES}))
def test_every_source_gives_clips_with_long_term_frames(name: str) -> None:
    source = make_mixture(SHARED, SIZE, {name: 1.0})
    clip = source.sample(np.random.default_rng(1), 6, 2, SIZE, long_term=2)
    assert_usable(clip, 6, 2)


@needs_data
@pytest.mark.parametrize("name", sorted({*DEFAULT_WEIGHTS, *MORE_SOURCES}))
def test_every_source_gives_usable_reproducible_clips(name: str) -> None:
    source = make_mixture(SHARED, SIZE, {name: 1.0})
    for seed in range(4):
        clip = draw(source, seed)
        assert_usable(clip, 3, 2)
        assert np.array_equal(clip.frames, draw(source, seed).frames)


@needs_data
def test_instruments_of_long_surgery_have_classes_and_are_away_at_times() -> None:
    """What re-identification and presence are learnt from."""
    source = make_mixture(SHARED, SIZE, {"long_surgery": 1.0})
    clips = [draw(source, seed, length=6) for seed in range(8)]
    assert {name for clip in clips for name in clip.class_names} <= set(CLASSES)
    in_view = np.concatenate([clip.masks[1:].any(axis=(2, 3)).ravel() for clip in clips])
    assert 0.1 < 1 - in_view.mean() < 0.6
    returns = sum(
        int((~seen[1:-1] & seen[2:]).sum()) for seen in (clip.masks.any(axis=(2, 3)) for clip in clips)
    )
    assert returns > 0, "some come back within the clip"


def test_what_is_kept_of_the_pools_is_little_and_soon_complete() -> None:
    """Less than 0.1 GB, and fewer than the clips after which memory is to stay as it is."""
    kept = [pool.cache_parameters()["maxsize"] for pool in (procedural_plate, pooled_design)]
    assert all(0 < count <= 100 for count in kept)
    assert kept[0] * procedural_plate(0).nbytes < 1e8
