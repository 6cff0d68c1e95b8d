"""Hiera image trunk of SAM 2.1: a hierarchical vision transformer with windowed attention.

Source: Ryali et al., "Hiera" (arXiv 2306.00989); Bolya et al. for the windowed position embedding
(arXiv 2311.05613); numerics and state-dict names as in SAM 2 (``sam2/modeling/backbones/hieradet.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_ros.network.layers import MLP

PATCH_STRIDE = 4
POOL_STRIDE = 2


@dataclass(frozen=True)
class BlockPlan:
    """What one transformer block is made of; derived from a `HieraConfig`."""

    dim_in: int
    dim_out: int
    num_heads: int
    window: int  # side of an attention window in tokens, before pooling; 0 = attention over the whole map
    pools: bool  # queries are max-pooled 2x2, so the map leaves at half its size
    ends_stage: bool  # the block's output is one of the feature maps returned


@dataclass(frozen=True)
class HieraConfig:
    """Shape of a Hiera trunk. The defaults are those of ``sam2.1_hiera_t``."""

    embed_dim: int = 96
    num_heads: int = 1
    stages: tuple[int, ...] = (1, 2, 7, 2)  # blocks in each stage
    global_att_blocks: tuple[int, ...] = (5, 7, 9)  # block numbers that attend over the whole map
    window_spec: tuple[int, ...] = (8, 4, 14, 7)  # window side of each stage, in tokens
    window_pos_embed_bkg_spatial_size: tuple[int, int] = (7, 7)  # grid of the stretched position embedding
    q_pool: int = 3  # how many stage changes halve the map

    def __post_init__(self) -> None:
        if len(self.window_spec) != len(self.stages):
            raise ValueError(
                f"window_spec {self.window_spec} must name one window per stage, there are {len(self.stages)}"
            )
        if not 0 <= self.q_pool < len(self.stages):
            raise ValueError(f"q_pool {self.q_pool} must lie in 0..{len(self.stages) - 1} (stage changes)")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}")

    def block_plans(self) -> tuple[BlockPlan, ...]:
        """One plan per block, in order. A stage's first block still has the window of the stage before it."""
        plans: list[BlockPlan] = []
        for stage, depth in enumerate(self.stages):
            width = 2**stage
            for position in range(depth):
                enters = stage > 0 and position == 0
                window = self.window_spec[stage - 1] if enters else self.window_spec[stage]
                plans.append(
                    BlockPlan(
                        dim_in=self.embed_dim * (width // 2 if enters else width),
                        dim_out=self.embed_dim * width,
                        num_heads=self.num_heads * width,
                        window=0 if len(plans) in self.global_att_blocks else window,
                        pools=enters and stage <= self.q_pool,
                        ends_stage=position == depth - 1,
                    )
                )
        return tuple(plans)


def split_windows(tokens: Tensor, side: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut [B, H, W, C] into [B * windows, side, side, C], zero-padded at the right and bottom where needed.

    Also returns the number of windows down and across.
    """
    batch, height, width, channels = tokens.shape
    rows, columns = -(-height // side), -(-width // side)
    bottom, right = rows * side - height, columns * side - width
    if bottom or right:
        tokens = F.pad(tokens, (0, 0, 0, right, 0, bottom))
    tiles = tokens.reshape(batch, rows, side, columns, side, channels).transpose(2, 3)
    return tiles.reshape(batch * rows * columns, side, side, channels), (rows, columns)


def join_windows(windows: Tensor, grid: tuple[int, int], height: int, width: int) -> Tensor:
    """Undo `split_windows`: [B * rows * columns, side, side, C] -> [B, height, width, C], padding cut off."""
    rows, columns = grid
    _, side, _, channels = windows.shape
    tiles = windows.reshape(-1, rows, columns, side, side, channels).transpose(2, 3)
    return tiles.reshape(-1, rows * side, columns * side, channels)[:, :height, :width]


def pool_tokens(tokens: Tensor) -> Tensor:
    """2x2 max pooling of a channels-last map: [B, H, W, C] -> [B, H/2, W/2, C]."""
    pooled = F.max_pool2d(tokens.permute(0, 3, 1, 2), kernel_size=POOL_STRIDE, stride=POOL_STRIDE)
    return pooled.permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Overlapping 7x7 patches every 4 pixels: [B, 3, S, S] -> [B, S/4, S/4, C]."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=7, stride=PATCH_STRIDE, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).permute(0, 2, 3, 1)


class WindowAttention(nn.Module):
    """Multi-head self-attention over each [H, W] map of a batch, with optional pooling of the queries."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.num_heads = plan.num_heads
        self.pools = plan.pools
        self.qkv = nn.Linear(plan.dim_in, 3 * plan.dim_out)
        self.proj = nn.Linear(plan.dim_out, plan.dim_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, dim_in] -> [B, H, W, dim_out], or [B, H/2, W/2, dim_out] when the block pools."""
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        if self.pools:
            query = pool_tokens(query)
        attended = F.scaled_dot_product_attention(
            self._split_heads(query), self._split_heads(key), self._split_heads(value)
        )
        return self.proj(attended.transpose(1, 2).reshape(query.shape))

    def _split_heads(self, tokens: Tensor) -> Tensor:
        """[B, H, W, dim_out] -> [B, heads, H*W, dim_out / heads]."""
        return tokens.flatten(1, 2).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class HieraBlock(nn.Module):
    """Pre-norm transformer block; at a stage change it widens the channels and may halve the map."""

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.plan = plan
        self.norm1 = nn.LayerNorm(plan.dim_in, eps=1e-6)
        self.attn = WindowAttention(plan)
        self.norm2 = nn.LayerNorm(plan.dim_out, eps=1e-6)
        self.mlp = MLP(plan.dim_out, 4 * plan.dim_out, plan.dim_out, depth=2, activation=F.gelu)
        if plan.dim_in != plan.dim_out:
            self.proj = nn.Linear(plan.dim_in, plan.dim_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, H, W, dim_in] -> [B, H, W, dim_out], or [B, H/2, W/2, dim_out] when the block pools."""
        normed = self.norm1(tokens)
        tokens = self._shortcut(tokens, normed)
        tokens = tokens + self._attend(normed, height=tokens.shape[1], width=tokens.shape[2])
        return tokens + self.mlp(self.norm2(tokens))

    def _shortcut(self, tokens: Tensor, normed: Tensor) -> Tensor:
        """The residual path. As in SAM 2, where channels change it starts from the normalised tokens."""
        if self.plan.dim_in == self.plan.dim_out:
            return tokens
        widened = self.proj(normed)
        return pool_tokens(widened) if self.plan.pools else widened

    def _attend(self, normed: Tensor, height: int, width: int) -> Tensor:
        """Attention inside windows or over the whole map; ``height`` and ``width`` are those of the result.

        Padding takes part in attention as zero tokens, as in SAM 2, so results depend on it.
        """
        if self.plan.window == 0:
            return self.attn(normed)
        windows, grid = split_windows(normed, self.plan.window)
        return join_windows(self.attn(windows), grid, height, width)


class Hiera(nn.Module):
    """The trunk: image -> one feature map per stage.

    `channel_list` gives the maps' channels from coarse to fine (the order of the FPN's lateral convolutions).
    """

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        plans = config.block_plans()
        side = config.window_spec[0]
        self.config = config
        self.plans = plans
        self.channel_list = [plan.dim_out for plan in reversed(plans) if plan.ends_stage]
        # The image's sides are multiples of this: every pooling halves exactly, and windows tile the map.
        self.size_multiple = PATCH_STRIDE * math.lcm(POOL_STRIDE**config.q_pool, side)
        self.patch_embed = PatchEmbed(config.embed_dim)
        self.pos_embed = nn.Parameter(
            torch.zeros(1, config.embed_dim, *config.window_pos_embed_bkg_spatial_size)
        )
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.embed_dim, side, side))
        self.blocks = nn.ModuleList(HieraBlock(plan) for plan in plans)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised image [B, 3, S, S] -> maps [B, C, S/4, S/4] ... [B, 8C, S/32, S/32], fine to coarse.

        Raises ValueError when a side of the image is no multiple of `size_multiple` (32 for SAM 2.1).
        """
        height, width = image.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"image of {height} x {width} does not fit the Hiera trunk: "
                f"both sides must be multiples of {self.size_multiple}"
            )
        tokens = self.patch_embed(image)
        tokens = tokens + self.position_embedding(tokens.shape[1], tokens.shape[2])
        maps: list[Tensor] = []
        for block, plan in zip(self.blocks, self.plans, strict=True):
            tokens = block(tokens)
            if plan.ends_stage:
                maps.append(tokens.permute(0, 3, 1, 2))
        return maps

    def position_embedding(self, height: int, width: int) -> Tensor:
        """[1, height, width, C]: a coarse grid stretched bicubically plus a tile repeated in each window."""
        stretched = F.interpolate(self.pos_embed, size=(height, width), mode="bicubic")
        side = self.config.window_spec[0]
        tiled = self.pos_embed_window.tile(1, 1, height // side, width // side)
        return (stretched + tiled).permute(0, 2, 3, 1)
