"""Layers that several parts of the network share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of [B, C, H, W], at each pixel."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        centred = x - mean
        variance = centred.pow(2).mean(1, keepdim=True)
        normalised = centred / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * normalised + self.bias[:, None, None]


class MLP(nn.Module):
    """`depth` linear layers with an activation between them and, if asked, a sigmoid at the end."""

    def __init__(
        self,
        dim_in: int,
        dim_hidden: int,
        dim_out: int,
        depth: int,
        activation: Callable[[Tensor], Tensor] = F.relu,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        dims = [dim_in] + [dim_hidden] * (depth - 1) + [dim_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(dims[:-1], dims[1:], strict=True))
        self.activation = activation
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        x = self.layers[-1](x)
        return torch.sigmoid(x) if self.sigmoid else x


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the model's.

    Args:
        dim: channels of queries and of the output.
        num_heads: heads; divides `dim // downsample`.
        downsample: inner width = dim // downsample.
        kv_dim: channels of keys and values, `dim` if None.
    """

    def __init__(self, dim: int, num_heads: int, downsample: int = 1, kv_dim: int | None = None) -> None:
        super().__init__()
        inner = dim // downsample
        kv_dim = dim if kv_dim is None else kv_dim
        if inner % num_heads:
            raise ValueError(f"{num_heads} heads do not divide the attention width {inner}")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(kv_dim, inner)
        self.v_proj = nn.Linear(kv_dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def split_heads(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, heads, L, D / heads]."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def join_heads(self, x: Tensor) -> Tensor:
        """[B, heads, L, D / heads] -> [B, L, D]."""
        return x.transpose(1, 2).flatten(2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """q [B, Lq, dim], k and v [B, Lk, kv_dim], bias added to the scores [B or 1, 1, 1, Lk] -> [B, Lq, dim]."""
        q = self.split_heads(self.q_proj(q))
        k = self.split_heads(self.k_proj(k))
        v = self.split_heads(self.v_proj(v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out_proj(self.join_heads(attended))
