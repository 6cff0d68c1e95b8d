"""What tells classes apart, read from the image beside the masks: a picture of each object's tip, the same way round.

Jaws and wrist say what an instrument is; the shaft that it shares with others covers most of its mask. So a square
around the tip is taken of the image, turned so that the instrument points to the right, and a few convolutions look at
it and at the mask in it. From such pictures classes are learnt with far fewer examples than from whole frames. No mask
depends on any of this.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.conv_trunk import ResidualBlock

SIDE = 64
"""Pixels of the square's side."""
HALF = 0.36
"""Half of its side, as a share of half of the image's side; the tip is what lies as near to the foremost pixel."""
CHANNELS = (24, 48, 96)
"""At strides 2, 4 and 8 of the square."""
HIDDEN = 192
"""Channels between the convolutions and the embedding."""
NORM_GROUPS = 8
NOTHING = 1e-6
"""Added to weights and lengths, so that no mask divides by zero."""


class ClassReader(nn.Module):
    """An image and the masks of objects in it -> what they are.

    Args:
        dim: channels of the embedding.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.stem = nn.Sequential(
            nn.Conv2d(4, first, 3, 2, 1, bias=False), nn.GroupNorm(NORM_GROUPS, first), nn.ReLU()
        )
        self.blocks = nn.Sequential(
            ResidualBlock(first, second, 2, NORM_GROUPS),
            ResidualBlock(second, third, 2, NORM_GROUPS),
            ResidualBlock(third, third, 1, NORM_GROUPS),
            nn.AvgPool2d(2),
        )
        self.hidden = nn.Linear(third * (SIDE // 16) ** 2, HIDDEN)
        self.out = nn.Linear(HIDDEN, dim)

    def begin_between(self, embeddings: Tensor) -> None:
        """Begin near the middle of these embeddings [K, D], where no one is far more likely than the others."""
        with torch.no_grad():
            self.out.bias.copy_(F.normalize(embeddings.mean(dim=0), dim=0))
            self.out.weight.mul_(0.1)

    def forward(self, pixels: Tensor, logits: Tensor) -> Tensor:
        """Normalised image [1, 3, S, S], or one for each object, and mask logits [N, a, a] -> [N, dim] of length 1.

        No gradient reaches the masks.
        """
        mask = torch.sigmoid(logits.detach())[:, None]
        grid = square_around_tip(mask)
        seen = F.grid_sample(pixels.expand(mask.shape[0], -1, -1, -1), grid, align_corners=False)
        inside = F.grid_sample(mask, grid, align_corners=False)
        x = self.blocks(self.stem(torch.cat((seen, 2 * inside - 1), dim=1)))
        return F.normalize(self.out(F.gelu(self.hidden(x.flatten(1)))), dim=-1)


def square_around_tip(mask: Tensor) -> Tensor:
    """Where the pixels of each object's square lie, [N, SIDE, SIDE, 2] x, y from -1 to 1; its x runs along the object.

    Args:
        mask: [N, 1, a, a] from 0 to 1.
    """
    a = mask.shape[-1]
    axis = (torch.arange(a, device=mask.device) + 0.5) / a * 2 - 1
    place = torch.stack((axis.repeat(a), axis.repeat_interleave(a)), dim=1)
    blurred = F.avg_pool2d(mask, 3, 1, 1, count_include_pad=False)
    weight = (2 * blurred - 0.8).clamp(0, 1).flatten(1) + NOTHING
    direction = pointing(weight, place)
    along = direction @ place.T
    foremost = (along - 3 * (1 - (4 * weight).clamp(max=1))).amax(dim=1, keepdim=True)
    near = weight * (1 + (along - foremost + HALF) / 0.05).clamp(0, 1) + NOTHING * weight
    tip = _mean(near, place)
    aside = torch.stack((-direction[:, 1], direction[:, 0]), dim=1)
    steps = HALF * ((torch.arange(SIDE, device=mask.device) + 0.5) / SIDE * 2 - 1)
    across = steps[:, None, None] * aside[:, None, None]
    return tip[:, None, None] + across + steps[None, :, None] * direction[:, None, None]


def pointing(weight: Tensor, place: Tensor) -> Tensor:
    """Unit vectors [N, 2] along the objects, from where they enter the image, or else from afar, to their tips.

    Args:
        weight: [N, L] of the pixels.
        place: [L, 2] x, y of the pixels, from -1 to 1.
    """
    edge = (place.abs().amax(dim=1) > 1 - 4 / place.shape[0] ** 0.5).to(weight.dtype)
    centre, entry = _mean(weight, place), _mean(weight * edge, place)
    enters = (weight * edge).sum(dim=1, keepdim=True).clamp(max=1)
    inwards = _unit(enters * (centre - entry) - (1 - enters) * centre)
    aside = place - centre[:, None]
    xx, yy = (weight[:, None] @ aside**2)[:, 0].unbind(dim=1)
    xy = (weight * aside[..., 0] * aside[..., 1]).sum(dim=1)
    more, twice = xx - yy, 2 * xy
    spread = torch.sqrt(more**2 + twice**2 + NOTHING**2)
    wide, high = torch.stack((spread + more, twice), dim=1), torch.stack((twice, spread - more), dim=1)
    # Both lie along the longer axis; this one loses no digits.
    longer = _unit(torch.where(more[:, None] < 0, high, wide))
    forwards = torch.where((longer * inwards).sum(dim=1, keepdim=True) < 0, -longer, longer)
    elongation = (spread / (xx + yy + NOTHING))[:, None]
    return _unit(0.5 * (1 - elongation) * inwards + 3 * elongation * forwards)


def _mean(weight: Tensor, values: Tensor) -> Tensor:
    """Values [L, V] averaged by weights [N, L] -> [N, V]."""
    return weight @ values / (weight.sum(dim=1, keepdim=True) + NOTHING**2)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.norm(dim=1, keepdim=True) + NOTHING)
