"""Masks gone wrong in the ways trackers go wrong, to be remembered in training: the network learns to come back.

In a short clip nothing goes wrong for long, so a network trained on such clips alone trusts its recent memory, and an
error once made is kept for good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DRIFTING_SHARE = 0.7
"""Of the objects of a clip in which memory drifts."""


@dataclass(frozen=True)
class Drift:
    """How the masks of N objects are wrong, the same way for a whole clip."""

    loses: Tensor
    """[N, 1, 1] bool: a part of the object is lost."""
    gains: Tensor
    """[N, 1, 1] bool: a part of the neighbour, or of what lies beside the object, is taken in."""
    direction: Tensor
    """[N, 2] unit vector x, y: across the line at which parts are lost or gained."""
    cut: Tensor
    """[N] where that line lies along the direction: 0 the object's centroid, in standard deviations of its pixels."""
    radius: Tensor
    """[N] of what is taken in where there is no neighbour, as a share of the image's side."""
    strength: float
    """Logit of the wrong masks."""

    @staticmethod
    def draw(count: int, rng: np.random.Generator, device: torch.device | str = "cpu") -> Drift:
        """Random errors for `count` objects; those that do not drift neither lose nor gain."""
        kind = rng.random(count)
        drifts = rng.random(count) < DRIFTING_SHARE
        angle = rng.uniform(0, 2 * np.pi, count)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device)

        return Drift(
            loses=tensor(drifts & (kind < 0.65))[:, None, None],
            gains=tensor(drifts & (kind > 0.35))[:, None, None],
            direction=tensor(np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)),
            cut=tensor(rng.uniform(-1.0, 1.0, count).astype(np.float32)),
            radius=tensor(rng.uniform(0.03, 0.15, count).astype(np.float32)),
            strength=float(rng.uniform(4.0, 10.0)),
        )

    def apply(self, masks: Tensor, neighbours: Tensor) -> Tensor:
        """Wrong logits [N, 1, S, S] for true masks [N, S, S] bool and those of another object of each clip."""
        size = masks.shape[-1]
        axis = (torch.arange(size, device=masks.device) + 0.5) / size
        grid_y, grid_x = torch.meshgrid(axis, axis, indexing="ij")
        weight = masks.float()
        mass = weight.sum(dim=(1, 2)).clamp(min=1)
        along = grid_x * self.direction[:, 0, None, None] + grid_y * self.direction[:, 1, None, None]
        mean = (along * weight).sum(dim=(1, 2)) / mass
        spread = (((along - mean[:, None, None]) ** 2 * weight).sum(dim=(1, 2)) / mass).sqrt()
        line = (mean + self.cut * spread)[:, None, None]
        kept = masks & ((along < line) | ~self.loses)
        centre_x = (grid_x * weight).sum(dim=(1, 2)) / mass + self.direction[:, 0] * (spread + self.radius)
        centre_y = (grid_y * weight).sum(dim=(1, 2)) / mass + self.direction[:, 1] * (spread + self.radius)
        beside = (grid_x - centre_x[:, None, None]) ** 2 + (grid_y - centre_y[:, None, None]) ** 2
        disc = beside < (self.radius**2)[:, None, None]
        half = along > (along * neighbours).sum(dim=(1, 2), keepdim=True) / neighbours.sum(
            dim=(1, 2), keepdim=True
        ).clamp(min=1)
        alone = ~neighbours.flatten(1).any(dim=1)[:, None, None]
        wrong = kept | (self.gains & ((neighbours & half) | (disc & alone)))
        return (wrong.float()[:, None] * 2 - 1) * self.strength
