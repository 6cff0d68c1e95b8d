"""The whole streaming tracker equals the public SAM 2 reference, objects added and corrected on the way."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sam2_reference import ReferenceStream, build_reference, reference_features
from tracking_cases import disc, moving_images

from sam2s_ros.engines import create_engine
from sam2s_ros.network import PRESETS, Sam2Network
from sam2s_ros.tracking import StreamingTracker, TrackerConfig

SIDE = 128
"""Images have the network's own size, so that resizing, which SAM 2 leaves to its caller, plays no part."""
FRAMES = 14
BAR = 5e-6
"""Largest accepted deviation, relative to the range of the mask logits."""

# object -> frame -> prompt in pixels of the image
SCRIPT: dict[int, dict[int, dict[str, Any]]] = {
    1: {0: {"points": [[50, 40]], "labels": [1]}, 8: {"points": [[60, 45], [15, 100]], "labels": [1, 0]}},
    2: {3: {"mask": disc(70, 60, 20, (SIDE, SIDE))}},
    3: {5: {"box": [20, 25, 70, 85]}},
}


def run_tracker(
    network: Sam2Network, frames: list[NDArray[np.uint8]]
) -> dict[int, list[NDArray[np.float32]]]:
    config = TrackerConfig.sam2()
    tracker = StreamingTracker(create_engine("eager", network, config.engine_capacity()), config)
    logits: dict[int, list[NDArray[np.float32]]] = {name: [] for name in SCRIPT}
    for index, frame in enumerate(frames):
        tracker.step(frame)
        for name, plan in SCRIPT.items():
            if index == min(plan):
                assert tracker.add_object(None, **plan[index]) == name
            elif index in plan:
                tracker.refine_object(name, **plan[index])
        for name, seen in zip(tracker.last_result.ids.tolist(), tracker.last_result.logits, strict=True):
            logits[name].append(seen)
    return logits


def run_reference(reference: Any, network: Sam2Network, frames: list[NDArray[np.uint8]]) -> dict[int, list]:
    """Each object alone; on a corrected frame the corrected output counts."""
    mean = torch.tensor(network.config.image_mean).view(1, 3, 1, 1)
    std = torch.tensor(network.config.image_std).view(1, 3, 1, 1)
    images = [(torch.from_numpy(frame).permute(2, 0, 1)[None] / 255 - mean) / std for frame in frames]
    features = reference_features(reference, images)
    logits: dict[int, list] = {}
    for name, plan in SCRIPT.items():
        stream = ReferenceStream(reference, features)
        logits[name] = []
        for index in range(min(plan), len(frames)):
            output = stream.step(index) if index > min(plan) else None
            if index in plan:
                output = stream.step(index, **reference_prompt(plan[index]))
            logits[name].append(output["logits"][0, 0].numpy())
    return logits


def reference_prompt(prompt: dict[str, Any]) -> dict[str, torch.Tensor]:
    if "mask" in prompt:
        return {"mask": torch.from_numpy(prompt["mask"]).float()[None, None]}
    points = np.reshape(prompt.get("box", prompt.get("points")), (-1, 2))
    labels = [2, 3] if "box" in prompt else prompt["labels"]
    return {"points": torch.tensor(points[None], dtype=torch.float32), "labels": torch.tensor([labels])}


@pytest.fixture(scope="module")
def both() -> tuple[dict[int, list], dict[int, list]]:
    reference = build_reference("sam2.1_hiera_t", SIDE, seed=2)
    config = dataclasses.replace(PRESETS["sam2.1_hiera_t"], image_size=SIDE)
    network = Sam2Network(config).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    frames = moving_images(FRAMES, (SIDE, SIDE))
    return run_tracker(network, frames), run_reference(reference, network, frames)


@pytest.mark.parametrize("name", SCRIPT)
def test_every_frame_of_every_object_equals_the_reference(
    name: int, both: tuple[dict[int, list], dict[int, list]]
) -> None:
    ours, theirs = (np.stack(side[name]) for side in both)
    assert ours.shape == theirs.shape == (FRAMES - min(SCRIPT[name]), SIDE // 4, SIDE // 4)
    assert np.ptp(theirs) > 1, "the case shows something"
    assert np.abs(ours - theirs).max() <= BAR * np.ptp(theirs)
