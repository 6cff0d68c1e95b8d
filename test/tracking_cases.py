"""A tracker small enough for quick tests, with random weights that show something, and images that move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sam2_reference import perturb

from sam2s_ros.engines import create_engine
from sam2s_ros.network import ConvTrunkConfig, NetworkConfig, Sam2Network
from sam2s_ros.tracking import StreamingTracker, TrackerConfig

SMALL = NetworkConfig(
    name="small_test",
    trunk=ConvTrunkConfig(channels=(8, 16, 16, 32), blocks=(1, 1, 1, 1)),
    image_size=128,
    hidden_dim=32,
    memory_dim=16,
    fpn_top_down_levels=(0, 1, 2, 3),
    memory_layers=1,
    memory_ffn_dim=64,
    decoder_heads=4,
    decoder_ffn_dim=64,
    decoder_iou_hidden_dim=32,
)
SIZE = (90, 160)
"""Height and width of the test images."""


CLASSES = ("hook", "grasper", "liver")
SEMANTIC = replace(SMALL, semantic_dim=24, class_names=CLASSES)
"""The same with a class token and a bank of three classes."""
READING = replace(SEMANTIC, class_reader=True)
"""The same with a class reader instead of the token."""


def small_network(seed: int = 0, config: NetworkConfig = SMALL) -> Sam2Network:
    """Random weights that see an object everywhere."""
    torch.manual_seed(seed)
    network = Sam2Network(config).eval()
    perturb(network)
    return network


def small_tracker(network: Sam2Network | None = None, **settings: Any) -> StreamingTracker:
    """SAM 2's behaviour unless told otherwise."""
    config = TrackerConfig(
        **{"drop_stray_components": False, "drop_twins": False, "max_objects": 4, **settings}
    )
    return StreamingTracker(
        create_engine("eager", network or small_network(), config.engine_capacity()), config
    )


def moving_images(count: int, size: tuple[int, int] = SIZE, seed: int = 5) -> list[NDArray[np.uint8]]:
    """A coloured texture that drifts: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size[0] // 5 + 2, size[1] // 5 + 2 * count, 3), dtype=np.uint8)
    large = coarse.repeat(5, axis=0).repeat(5, axis=1)
    return [np.ascontiguousarray(large[: size[0], 3 * t : 3 * t + size[1]]) for t in range(count)]


def disc(x: float, y: float, radius: float, size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    """A round mask, bool [H, W]."""
    rows, columns = np.indices(size)
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 < radius**2)
