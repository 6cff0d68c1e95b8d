"""Memory encoder: a mask and the frame's features become one spatial memory entry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.layers import LayerNorm2d


class MaskDownSampler(nn.Module):
    """Strided convolutions of the given widths: mask [N, 1, S, S] -> [N, dim, S / 16, S / 16]."""

    def __init__(self, dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, 2, 1), LayerNorm2d(width), nn.GELU()]
            channels = width
        layers.append(nn.Conv2d(channels, dim, 1))
        self.encoder = nn.Sequential(*layers)

    def forward(self, mask: Tensor) -> Tensor:
        return self.encoder(mask)


class FuserBlock(nn.Module):
    """A ConvNeXt block: depthwise 7x7, then a pointwise bottleneck, scaled and added."""

    def __init__(self, dim: int, scale_init: float = 1e-6) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = LayerNorm2d(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(scale_init * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class Fuser(nn.Module):
    """A stack of fuser blocks."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(FuserBlock(dim) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class MemoryEncoder(nn.Module):
    """Features [N, C, h, w] and mask values [N, 1, S, S] -> memory [N, Cm, h, w] (source: SAM 2 `MemoryEncoder`)."""

    def __init__(self, dim: int, memory_dim: int, mask_widths: Sequence[int]) -> None:
        super().__init__()
        self.mask_downsampler = MaskDownSampler(dim, mask_widths)
        self.pix_feat_proj = nn.Conv2d(dim, dim, 1)
        self.fuser = Fuser(dim, 2)
        self.out_proj = nn.Conv2d(dim, memory_dim, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        x = self.pix_feat_proj(features) + self.mask_downsampler(mask)
        return self.out_proj(self.fuser(x))
