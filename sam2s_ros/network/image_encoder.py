"""Image encoder: a trunk and the pyramid that brings its four scales to one width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class FpnNeck(nn.Module):
    """Lateral 1x1 convolutions with a top-down path at chosen levels (source: SAM 2 `FpnNeck`, nearest, sum).

    Args:
        channel_list: channels of the trunk's maps, coarsest first.
        dim: channels of every output.
        top_down_levels: levels (0 = finest) to which the upsampled coarser output is added.
    """

    def __init__(self, channel_list: Sequence[int], dim: int, top_down_levels: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for channels in channel_list:
            lateral = nn.Sequential()
            lateral.add_module("conv", nn.Conv2d(channels, dim, 1))
            self.convs.append(lateral)
        self.top_down_levels = frozenset(top_down_levels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps finest first -> maps [B, dim, H_i, W_i] finest first."""
        coarsest = len(maps) - 1
        outputs: list[Tensor] = []
        for level in range(coarsest, -1, -1):
            lateral = self.convs[coarsest - level](maps[level])
            if outputs and level in self.top_down_levels:
                lateral = lateral + F.interpolate(outputs[-1], scale_factor=2.0, mode="nearest")
            outputs.append(lateral)
        return outputs[::-1]


class ImageEncoder(nn.Module):
    """Trunk and neck; the coarsest pyramid level only feeds the one below it and is dropped (`scalp` 1)."""

    def __init__(self, trunk: nn.Module, neck: FpnNeck) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck = neck

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image [B, 3, S, S] -> maps at strides 4, 8 and 16, each [B, C, S / stride, S / stride]."""
        return self.neck(self.trunk(image))[:-1]
