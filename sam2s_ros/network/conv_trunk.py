"""A residual convolutional trunk: as good as a Hiera of the same cost at nano size, and faster on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ConvTrunkConfig:
    """Channels and residual blocks of the four stages, at strides 4, 8, 16 and 32."""

    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    blocks: tuple[int, int, int, int] = (1, 2, 3, 1)
    norm_groups: int = 8


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group normalisation around a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels_in == channels
            else nn.Conv2d(channels_in, channels, stride, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ConvTrunk(nn.Module):
    """Image [B, 3, S, S] -> feature maps at strides 4, 8, 16, 32, finest first."""

    def __init__(self, config: ConvTrunkConfig) -> None:
        super().__init__()
        first = config.channels[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, 2, 1, bias=False),
            nn.GroupNorm(config.norm_groups, first),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.ModuleList()
        channels_in = first
        for channels, blocks in zip(config.channels, config.blocks, strict=True):
            stage = [ResidualBlock(channels_in, channels, 2, config.norm_groups)]
            stage += [ResidualBlock(channels, channels, 1, config.norm_groups) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
            channels_in = channels
        self.channel_list = list(reversed(config.channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
