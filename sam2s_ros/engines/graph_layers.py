"""Layers of the exported graphs: the network's own, with weights folded and rotations real-valued."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.layers import LayerNorm2d
from sam2s_ros.network.mask_decoder import MaskDecoder
from sam2s_ros.network.memory_attention import MemoryAttentionLayer, RotaryAttention
from sam2s_ros.network.memory_encoder import FuserBlock


class Projection(nn.Module):
    """A linear layer of given weights [out, in] and bias [out]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("bias", bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class TurningProjection(nn.Module):
    """A projection of [..., dim] followed by the rotation of adjacent channel pairs by given cosines and sines."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.straight = Projection(weight, bias)
        self.turned = Projection(quarter_turn(weight), quarter_turn(bias))

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        return self.straight(x) * cosine + self.turned(x) * sine


def quarter_turn(rows: Tensor) -> Tensor:
    """Rows of [D, ...] turned by 90 degrees in adjacent pairs: (a, b) -> (-b, a)."""
    return torch.stack((-rows[1::2], rows[0::2]), dim=1).flatten(0, 1)


class FoldedAttention(nn.Module):
    """`RotaryAttention` over tokens [B, L, dim] and keys and values [B, K, kv_dim]."""

    def __init__(self, attention: RotaryAttention) -> None:
        super().__init__()
        query, key, value, out = attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj
        scale = query.weight.shape[0] ** -0.5
        self.query = TurningProjection(query.weight * scale, query.bias * scale)
        self.key = TurningProjection(key.weight, key.bias)
        self.out = Projection(out.weight @ value.weight, out.weight @ value.bias + out.bias)

    def forward(
        self,
        tokens: Tensor,
        keys: Tensor,
        values: Tensor,
        token_phase: tuple[Tensor, Tensor],
        key_phase: tuple[Tensor, Tensor],
        bias: Tensor | None,
    ) -> Tensor:
        """Phases are cosines and sines [L or K, inner width]; `bias` [B, 1, K] is added to the scores."""
        scores = self.query(tokens, *token_phase) @ self.key(keys, *key_phase).transpose(1, 2)
        if bias is not None:
            scores = scores + bias
        return self.out(torch.softmax(scores, dim=-1) @ values)


class UnplacedAttention(nn.Module):
    """`RotaryAttention.unplaced` over tokens [B or 1, T, dim] and keys and values [B or 1, K, kv_dim]."""

    def __init__(self, attention: RotaryAttention) -> None:
        super().__init__()
        query, key, value, out = attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj
        scale = query.weight.shape[0] ** -0.5
        turn = key.weight.T * scale
        self.query = Projection(turn @ query.weight, turn @ query.bias)
        self.out = Projection(out.weight @ value.weight, out.weight @ value.bias + out.bias)

    def forward(self, tokens: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """`bias` [B, 1, K] is added to the scores."""
        scores = self.query(tokens) @ keys.transpose(1, 2)
        if bias is not None:
            scores = scores + bias
        return self.out(torch.softmax(scores, dim=-1) @ values)


class SelfAttention(nn.Module):
    """The first third of a `MemoryAttentionLayer`, on tokens [B, L, C]."""

    def __init__(self, layer: MemoryAttentionLayer) -> None:
        super().__init__()
        self.norm = layer.norm1
        self.attention = FoldedAttention(layer.self_attn)

    def forward(self, x: Tensor, phase: tuple[Tensor, Tensor]) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, phase, phase, None)


class TokenSelfAttention(nn.Module):
    """The first third of a `MemoryAttentionLayer` for the class token [1 or B, 1, C], which looks at image tokens."""

    def __init__(self, layer: MemoryAttentionLayer) -> None:
        super().__init__()
        self.norm = layer.norm1
        self.attention = UnplacedAttention(layer.self_attn)

    def forward(self, token: Tensor, x: Tensor) -> Tensor:
        y = self.norm(x)
        return token + self.attention(self.norm(token), y, y, None)


class TokenCrossAttention(nn.Module):
    """The rest of a `MemoryAttentionLayer` for the class token."""

    def __init__(self, layer: MemoryAttentionLayer) -> None:
        super().__init__()
        self.norm, self.attention = layer.norm2, UnplacedAttention(layer.cross_attn_image)
        self.ffn_norm, self.linear1, self.linear2 = layer.norm3, layer.linear1, layer.linear2

    def forward(self, token: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        token = token + self.attention(self.norm(token), keys, values, bias)
        return token + self.linear2(F.relu(self.linear1(self.ffn_norm(token))))


class CrossAttention(nn.Module):
    """The rest of a `MemoryAttentionLayer`: attention to memory, and feed-forward."""

    def __init__(self, layer: MemoryAttentionLayer) -> None:
        super().__init__()
        self.norm, self.attention = layer.norm2, FoldedAttention(layer.cross_attn_image)
        self.ffn_norm, self.linear1, self.linear2 = layer.norm3, layer.linear1, layer.linear2

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        phase: tuple[Tensor, Tensor],
        key_phase: tuple[Tensor, Tensor],
        bias: Tensor,
    ) -> Tensor:
        x = x + self.attention(self.norm(x), keys, values, phase, key_phase, bias)
        return x + self.linear2(F.relu(self.linear1(self.ffn_norm(x))))


class Phases(nn.Module):
    """Cosines and sines [L, C] of the network's rotation, each for both channels of a pair."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, rotation: Tensor) -> None:
        super().__init__()
        self.register_buffer("cosine", rotation.real.repeat_interleave(2, dim=1))
        self.register_buffer("sine", rotation.imag.repeat_interleave(2, dim=1))

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.cosine, self.sine

    def of_memory(self, grids: int, others: int) -> tuple[Tensor, Tensor]:
        """[grids * L + others, C]: the grid's phases `grids` times, then no rotation."""
        still = torch.zeros_like(self.cosine[:1]).expand(others, -1)
        return (
            torch.cat((self.cosine.repeat(grids, 1), 1 - still)),
            torch.cat((self.sine.repeat(grids, 1), still)),
        )


class Upscaling(nn.Module):
    """The decoder's two transposed convolutions as projections: a cell's pixels lie side by side, in quarters."""

    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        first, norm, _, second, _ = decoder.output_upscaling
        assert isinstance(first, nn.ConvTranspose2d) and isinstance(second, nn.ConvTranspose2d)
        assert isinstance(norm, LayerNorm2d) and first.bias is not None and second.bias is not None
        self.norm = norm
        self.first = Projection(first.weight.permute(2, 3, 1, 0).flatten(0, 2), first.bias.repeat(4))
        self.second = Projection(second.weight.permute(2, 3, 1, 0).flatten(0, 2), second.bias.repeat(4))

    def forward(self, image: Tensor, f0: Tensor, f1: Tensor) -> Tensor:
        """Image [N, L, C], f0 [1, L, 16, C/8], f1 [1, L, 4, C/4] -> [N, L * 16, C/8]."""
        n, area, channels = image.shape
        x = F.gelu(channel_norm(self.first(image).reshape(n, area, 4, channels // 4) + f1, self.norm))
        x = self.second(x).reshape(n, area, 16, channels // 8) + f0
        return F.gelu(x).reshape(n, area * 16, channels // 8)


class MaskConvolution(nn.Module):
    """Strided convolution, `LayerNorm2d` and GELU: the convolution centres over its channels, the norm only scales."""

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d, norm: LayerNorm2d) -> None:
        super().__init__()
        weight, bias = convolution.weight.detach(), convolution.bias
        assert bias is not None
        self.register_buffer("weight", weight - weight.mean(dim=0, keepdim=True))
        self.register_buffer("bias", (bias - bias.mean()).detach())
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        centred = F.conv2d(x, self.weight, self.bias, stride=2, padding=1)
        scale = torch.rsqrt((centred * centred).mean(1, keepdim=True) + self.norm.eps)
        return F.gelu(centred * scale * self.norm.weight[:, None, None] + self.norm.bias[:, None, None])


class Fusion(nn.Module):
    """A `FuserBlock` with its scale folded into the last projection."""

    def __init__(self, block: FuserBlock) -> None:
        super().__init__()
        self.depthwise, self.norm, self.widen = block.dwconv, block.norm, block.pwconv1
        narrow = block.pwconv2
        self.narrow = Projection(block.gamma[:, None] * narrow.weight, block.gamma * narrow.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = channel_norm(self.depthwise(x).permute(0, 2, 3, 1), self.norm)
        return x + self.narrow(F.gelu(self.widen(y))).permute(0, 3, 1, 2)


def channel_norm(x: Tensor, norm: LayerNorm2d) -> Tensor:
    """`LayerNorm2d` of [..., C] with the channels last."""
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
