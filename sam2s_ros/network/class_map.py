"""What tells classes apart, read beside the masks: a map of the whole frame, and each object's part of it.

Jaws and wrist say what an instrument is; the shaft that it shares with others covers most of its mask. So each head of
the reader looks for the telling places inside of the mask, by a score that the map gives them. No mask depends on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.conv_trunk import ResidualBlock

HEADS = 8
"""Places that are looked for in each object."""
HIDDEN = 192
"""Channels between what the heads saw and the embedding."""
PIXEL_CHANNELS = (16, 32)
"""Of the two convolutions that read the image itself: the image features were trained for masks, whatever the class."""
LEAST_WEIGHT = 1e-3
"""Weight of a cell outside of the mask; of an object without a mask all cells have it."""
NORM_GROUPS = 8


class ClassMap(nn.Module):
    """Image and image features -> the class map, at stride 8.

    Args:
        dim: channels C of the image features.
        width: channels D of what is read; `HEADS` more are the heads' scores.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        first, second = PIXEL_CHANNELS
        self.pixels = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, 2, 1),
            nn.GroupNorm(NORM_GROUPS, second),
            nn.ReLU(),
        )
        self.fine = nn.Conv2d(dim + second, width, 3, 2, 1)
        self.coarse = nn.Conv2d(dim, width, 1)
        self.norm = nn.GroupNorm(NORM_GROUPS, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, width, 1, NORM_GROUPS) for _ in range(2)))
        self.scores = nn.Conv2d(width, HEADS, 1)

    def forward(self, image: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """A frame's class map [B, D + HEADS, S / 8, S / 8]. Inputs are brought to the precision of the weights.

        Args:
            image: [B, 3, S, S] normalised.
            fine: [B, C, S / 4, S / 4]. coarse: [B, C, S / 8, S / 8] image features, before the decoder's projections.
        """
        image, fine, coarse = (x.to(self.coarse.weight.dtype) for x in (image, fine, coarse))
        x = self.fine(torch.cat((self.pixels(image), fine), dim=1)) + self.coarse(coarse)
        x = self.blocks(F.relu(self.norm(x)))
        return torch.cat((x, self.scores(x)), dim=1)


class ClassReader(nn.Module):
    """An object's part of the class map -> its embedding.

    Args:
        width: channels D of the class map.
        dim: channels of the embedding.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(HEADS * width, HIDDEN)
        self.out = nn.Linear(HIDDEN, dim)

    def forward(self, class_map: Tensor, logits: Tensor) -> Tensor:
        """Class map [N or 1, D + HEADS, a, a] and mask logits [N, 2a, 2a] -> [N, dim], of length 1."""
        weights = F.avg_pool2d(torch.sigmoid(logits)[:, None], 2).flatten(2) + LEAST_WEIGHT
        flat = class_map.flatten(2)
        scores = flat[:, -HEADS:] + torch.log(weights)
        seen = torch.softmax(scores, dim=2) @ flat[:, :-HEADS].transpose(1, 2)
        return F.normalize(self.out(F.relu(self.hidden(seen.flatten(1)))), dim=-1)
