"""Masks that come from outside: given as the answer itself, or an earlier one as the prompt of the next."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from sam2s_ros.network.sam2 import Sam2Network

PREVIOUS_MASK_LIMIT = 32.0
"""Previous logits are clamped to +- this before they prompt (source: SAM 2 `add_new_points_or_box`)."""
GIVEN_LOGIT = 10.0
"""Logit on a given mask, its negative off it; also the object score of one that is not empty."""


@dataclass(frozen=True)
class GivenAnswer:
    """What a mask given as the output means (source: SAM 2 `_use_mask_as_output`).

    logits [N, 4h, 4w] and, at input size, high_res [N, S, S]; object_score [N]; prompt [N, 4h, 4w], the dense prompt
    from which its pointer is decoded.
    """

    logits: NDArray[np.float32]
    high_res: NDArray[np.float32]
    object_score: NDArray[np.float32]
    prompt: NDArray[np.float32]


class GivenMasks:
    """`Sam2Network.mask_as_output` without the decoder."""

    def __init__(self, network: Sam2Network) -> None:
        assert network.mask_downsample.bias is not None
        self._weight = network.mask_downsample.weight.detach().clone()
        self._bias = network.mask_downsample.bias.detach().clone()
        self._mask_size = network.config.mask_size

    @torch.inference_mode()
    def answer(self, masks: NDArray[np.float32]) -> GivenAnswer:
        """Masks [N, S, S] of 0 and 1."""
        mask = torch.from_numpy(masks)[:, None]
        high_res = mask * (2 * GIVEN_LOGIT) - GIVEN_LOGIT
        size = (self._mask_size, self._mask_size)
        logits = F.interpolate(high_res, size=size, mode="bilinear", align_corners=False, antialias=True)
        prompt = F.conv2d(mask, self._weight, self._bias, stride=self._weight.shape[-1])
        present = masks.any(axis=(1, 2))
        return GivenAnswer(
            logits=logits[:, 0].numpy(),
            high_res=high_res[:, 0].numpy(),
            object_score=np.where(present, GIVEN_LOGIT, -GIVEN_LOGIT).astype(np.float32),
            prompt=prompt[:, 0].contiguous().numpy(),
        )


@torch.inference_mode()
def previous_mask_prompt(
    logits: NDArray[np.float32], flow: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Logits [N, a, a] of an earlier frame as a dense prompt [N, a, a].

    `flow` [a, a, 2] or None: see `PromptBatch.previous_mask_flow`.
    """
    clamped = torch.from_numpy(logits).clamp(-PREVIOUS_MASK_LIMIT, PREVIOUS_MASK_LIMIT)
    if flow is None:
        return np.asarray(clamped.numpy())
    side = logits.shape[-1]
    grid = ((_pixel_centres(side) + torch.from_numpy(flow)) * (2 / side) - 1).expand(len(logits), -1, -1, -1)
    moved = F.grid_sample(clamped[:, None], grid, padding_mode="border", align_corners=False)
    return np.asarray(moved[:, 0].contiguous().numpy())


@lru_cache(maxsize=1)
def _pixel_centres(side: int) -> torch.Tensor:
    """x, y of every pixel's centre, [side, side, 2]."""
    centre = torch.arange(side) + 0.5
    return torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1)
