"""Memory attention: the frame's features look at themselves, then at what the memory bank holds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.layers import Attention
from sam2s_ros.network.position import axial_rotation, rotate

EXPLICIT_SCORES = 2**20
"""Most scores (queries x keys) that are held in memory at once, where reduced precision makes that the faster way."""


class RotaryAttention(Attention):
    """Attention with axial rotary positions; keys may repeat the grid and end in tokens without position."""

    def rotary(
        self, q: Tensor, k: Tensor, v: Tensor, rotation: Tensor, bias: Tensor | None = None, grids: int = 1
    ) -> Tensor:
        """q [B or 1, L, dim], k and v [B, grids * L + E, kv_dim], rotation [L, D / 2] complex -> [B, L, dim].

        The first keys are `grids` maps of the queries' size, the last E (object pointers) are not rotated.
        `bias` [B, 1, 1, grids * L + E] is added to the scores. All of it in the dtype of the weights.
        """
        query = rotate(self.split_heads(self.q_proj(q)), rotation)
        key = self.split_heads(self.k_proj(k))
        positioned = grids * rotation.shape[0]
        repeated = rotation if grids == 1 else rotation.repeat(grids, 1)
        turned = rotate(key[:, :, :positioned], repeated)
        if positioned < key.shape[2]:
            turned = torch.cat((turned, key[:, :, positioned:]), dim=2)
        query = query.expand(key.shape[0], -1, -1, -1)
        if query.dtype == torch.bfloat16 and query.shape[2] * key.shape[2] <= EXPLICIT_SCORES:
            query = query[:, 0] * query.shape[-1] ** -0.5
            return self.out_proj(self.v_proj(_weighted_mean(query, turned[:, 0], v, bias)))
        value = self.split_heads(self.v_proj(v))
        attended = F.scaled_dot_product_attention(query, turned, value, attn_mask=bias)
        return self.out_proj(self.join_heads(attended))

    def unplaced(self, token: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attention of tokens that are at no place [N or 1, T, dim]: neither they nor the keys are rotated.

        k and v [N or 1, L, kv_dim], bias [N, 1, 1, L] -> [N or 1, T, dim]. Instead of many keys, the few tokens are
        projected once more; the keys' own bias would be the same for all of them and is left out.
        """
        query = (self.q_proj(token) * self.q_proj.out_features**-0.5) @ self.k_proj.weight
        return self.out_proj(self.v_proj(_weighted_mean(query, k, v, bias)))


def _weighted_mean(query: Tensor, key: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """Values [B, K, V] averaged by attention of the scaled query [B, L, D] to key [B, K, D] -> [B, L, V].

    With one head, projecting the mean is the mean of the projected: the values stay in the memory's few channels.
    """
    scores = query @ key.transpose(1, 2)
    if bias is not None:
        scores += bias[:, 0]
    return torch.softmax(scores, dim=-1) @ values


class MemoryAttentionLayer(nn.Module):
    """Self-attention, cross-attention to memory, feed-forward; each after a normalisation."""

    def __init__(self, dim: int, memory_dim: int, ffn_dim: int) -> None:
        super().__init__()
        self.self_attn = RotaryAttention(dim, 1)
        self.cross_attn_image = RotaryAttention(dim, 1, kv_dim=memory_dim)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        token: Tensor | None,
        keys: Tensor,
        values: Tensor,
        rotation: Tensor,
        bias: Tensor | None,
        grids: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Image tokens x [N or 1, L, C] and, if there is one, the class token [N or 1, 1, C] -> both, of N.

        The class token looks at the image tokens and the memory; nothing looks at it here, so that image features are
        what they are without it.
        """
        y = self.norm1(x).to(keys.dtype)
        if token is not None:
            token = self._attend_token(token, y, keys, values, bias)
        x = x + self.self_attn.rotary(y, y, y, rotation)
        y = self.norm2(x).to(keys.dtype)
        x = x + self.cross_attn_image.rotary(y, keys, values, rotation, bias, grids)
        return self._feed_forward(x, keys.dtype), token

    def _attend_token(
        self, token: Tensor, image: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None
    ) -> Tensor:
        y = self.norm1(token).to(keys.dtype)
        token = token + self.self_attn.unplaced(y, image, image)
        y = self.norm2(token).to(keys.dtype)
        token = token + self.cross_attn_image.unplaced(y, keys, values, bias)
        return self._feed_forward(token, keys.dtype)

    def _feed_forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        y = self.norm3(x).to(dtype)
        return x + self.linear2(F.relu(self.linear1(y)))


class MemoryAttention(nn.Module):
    """Image features conditioned on memory (source: SAM 2 `MemoryAttention`, positions at the input x 0.1).

    The projections may be in bfloat16 (`reduce_precision`); sums and normalisations stay in float32.
    """

    rotation: Tensor

    def __init__(
        self, dim: int, memory_dim: int, layers: int, ffn_dim: int, feature_size: int, theta: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MemoryAttentionLayer(dim, memory_dim, ffn_dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        rotation = axial_rotation(feature_size, feature_size, dim, theta)
        self.register_buffer("rotation", rotation, persistent=False)
        self._dtype = torch.float32

    def reduce_precision(self) -> None:
        """Turn the weights of attention and feed-forward into bfloat16, for inference."""
        self._dtype = torch.bfloat16
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                module.to(self._dtype)

    def forward(
        self,
        features: Tensor,
        position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        bias: Tensor | None,
        grids: int,
        token: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Condition features on memory.

        Args:
            features: [N or 1, L, C] image tokens, row-major; with 1 the first self-attention is shared.
            position: [1, L, C] their sinusoidal encoding.
            memory: [N, K, Cm] memory tokens: whole grids first, object pointers last.
            memory_position: [N, K, Cm] added to the keys, not to the values.
            bias: [N, 1, 1, K] added to the scores, very negative where a token is not valid; None: all valid.
            grids: how many spatial entries the memory begins with, L tokens each.
            token: [1, 1, C] class token, or None.

        Returns:
            Features [N, L, C] and, with one, the class token [N, 1, C].
        """
        x = features + 0.1 * position
        keys, values = (memory + memory_position).to(self._dtype), memory.to(self._dtype)
        bias = None if bias is None else bias.to(self._dtype)
        for layer in self.layers:
            x, token = layer(x, token, keys, values, self.rotation, bias, grids)
        return self.norm(x), None if token is None else self.norm(token)
