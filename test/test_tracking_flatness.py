"""Nothing grows with the number of frames: neither memory nor the time of a step."""

from __future__ import annotations

import resource
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tracking_cases import disc, moving_images, small_tracker

WINDOW = 500
"""Frames whose median step time is one number."""


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def run(frames: int) -> tuple[list[int], list[float]]:
    """Resident memory and processor time of every step, with two objects, one of them corrected now and
    then."""
    tracker = small_tracker(drop_stray_components=True)
    images = moving_images(30)
    tracker.add_object(images[0], mask=disc(60, 40, 15))
    tracker.add_object(None, points=[[100, 40]])
    resident, seconds = [], []
    for index, image in enumerate(islice(cycle(images), frames)):
        start = time.process_time()
        tracker.step(image)
        seconds.append(time.process_time() - start)
        if index % 200 == 100:
            tracker.refine_object(1, points=[[60, 40]], stamp_ns=tracker.kept_stamps_ns()[-5])
        resident.append(resident_kib())
    return resident, seconds


@pytest.fixture
def one_thread() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_memory_stays_level() -> None:
    resident, _ = run(500)
    assert max(resident[200:]) <= 1.01 * resident[200]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("one_thread")
def test_memory_and_step_time_stay_level_over_ten_thousand_frames() -> None:
    resident, seconds = run(10_000)
    assert max(resident[200:]) <= 1.01 * resident[200]
    medians = np.median(np.reshape(seconds, (-1, WINDOW)), axis=1)
    assert medians.max() <= 1.1 * medians.min(), medians
