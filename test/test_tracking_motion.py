"""The previous mask is moved along the image motion before it prompts."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from tracking_cases import small_network

from sam2s_ros.engines.base import EngineCapacity
from sam2s_ros.engines.eager import EagerEngine
from sam2s_ros.tracking.motion import MotionEstimator


def textured(shift: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (320, 400, 3), dtype=np.uint8)
    return np.roll(cv2.GaussianBlur(noise, (0, 0), 4), shift, axis=1)


def test_flow_says_where_each_pixel_was() -> None:
    motion = MotionEstimator(64)
    assert motion.advance(textured(0)) is None
    flow = motion.advance(textured(10))
    assert flow is not None and flow.shape == (64, 64, 2)
    assert abs(float(np.median(flow[..., 0])) + 10 * 64 / 400) < 0.15
    assert abs(float(np.median(flow[..., 1]))) < 0.1
    motion.reset()
    assert motion.advance(textured(0)) is None


@torch.inference_mode()
def test_the_engine_moves_previous_logits_along_the_flow() -> None:
    network = small_network()
    engine = EagerEngine(network, EngineCapacity(max_objects=2, frame_slots=2))
    size = engine.mask_size
    rows = np.array([1], dtype=np.int64)
    logits = torch.full((1, 1, size, size), -5.0)
    logits[..., 4:8, 2:6] = 5.0
    engine._logits[torch.from_numpy(engine._logit_slots(rows, 0))] = logits
    flow = np.zeros((size, size, 2), np.float32)
    flow[..., 0] = -3
    moved = engine._previous_mask(rows, 0, flow)
    assert moved is not None
    torch.testing.assert_close(moved[..., 3:], logits[..., :-3])
