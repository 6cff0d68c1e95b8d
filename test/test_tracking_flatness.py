"""Nothing grows with the number of frames: neither memory nor the time of a step."""

from __future__ import annotations

import gc
import resource
import time
import tracemalloc
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from tracking_cases import disc, moving_images, small_network, small_tracker

from sam2s_ros.network import Sam2Network

COMPARED = 300
"""Steps of the old and of a fresh tracker that are timed in turn, so that a busy machine slows both."""


class Stream:
    """A tracker with two objects on an endless loop of images, one object corrected now and then."""

    def __init__(self, network: Sam2Network) -> None:
        self.tracker = small_tracker(network, drop_stray_components=True)
        self.images = cycle(moving_images(30))
        self.frames = 1
        self.tracker.add_object(next(self.images), mask=disc(60, 40, 15))
        self.tracker.add_object(None, points=[[100, 40]])

    def step(self) -> float:
        """One frame; gives the processor time of the step alone, in seconds."""
        image = next(self.images)
        start = time.process_time()
        self.tracker.step(image)
        seconds = time.process_time() - start
        self.frames += 1
        if self.frames % 200 == 100:
            self.tracker.refine_object(1, points=[[60, 40]], stamp_ns=self.tracker.kept_stamps_ns()[-5])
        return seconds


def resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def growth_after_frame_200(stream: Stream, frames: int) -> float:
    """Run up to a frame; the largest resident memory from frame 200 on, relative to that at frame 200."""
    resident = []
    while stream.frames < frames:
        stream.step()
        resident.append(resident_kib())
    return max(resident[200:]) / resident[200]


def test_nothing_is_kept_from_frame_to_frame() -> None:
    """Neither arrays nor tensors nor Python objects: a single mask a frame would be 64 KiB a frame."""
    stream = Stream(small_network())
    tracemalloc.start()
    try:
        sizes, tensors = zip(*(held_at(stream, frame) for frame in (120, 160, 200)), strict=True)
    finally:
        tracemalloc.stop()
    assert max(sizes) - min(sizes) < 64 * 1024
    assert len(set(tensors)) == 1


def held_at(stream: Stream, frame: int) -> tuple[int, int]:
    """Bytes that Python and NumPy hold, and the number of live tensors, when the stream has come to a frame."""
    while stream.frames < frame:
        stream.step()
    gc.collect()
    return tracemalloc.get_traced_memory()[0], sum(isinstance(one, torch.Tensor) for one in gc.get_objects())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("one_thread")
def test_memory_and_step_time_stay_level_over_ten_thousand_frames() -> None:
    network = small_network()
    old = Stream(network)
    assert growth_after_frame_200(old, 10_000) <= 1.01
    fresh = Stream(network)
    for _ in range(50):
        fresh.step()
    pairs = np.array([(old.step(), fresh.step()) for _ in range(COMPARED)])
    slower = np.median(pairs[:, 0]) / np.median(pairs[:, 1])
    assert 1 / 1.1 <= slower <= 1.1
