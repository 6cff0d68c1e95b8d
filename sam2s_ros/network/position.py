"""Positions as numbers: sinusoids for image features and time, rotations for memory attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_encoding_2d(height: int, width: int, channels: int, temperature: float = 10000.0) -> Tensor:
    """Sinusoidal encoding of pixel positions normalised to (0, 2 pi] -> [channels, height, width], float32.

    The first half of the channels encodes y, the second x (source: SAM 2 `PositionEmbeddingSine`, normalised).
    """
    half = channels // 2
    exponent = 2 * torch.div(torch.arange(half, dtype=torch.float32), 2, rounding_mode="floor") / half
    period = temperature**exponent

    def encode(length: int) -> Tensor:
        steps = torch.arange(1, length + 1, dtype=torch.float32)
        angle = (steps / (length + 1e-6) * (2 * math.pi))[:, None] / period
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    y = encode(height)[:, None, :].expand(height, width, half)
    x = encode(width)[None, :, :].expand(height, width, half)
    return torch.cat((y, x), dim=2).permute(2, 0, 1).contiguous()


def sine_encoding_1d(position: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    """Sinusoidal encoding of scalars [...] -> [..., channels]: all sines, then all cosines."""
    half = channels // 2
    index = torch.arange(half, dtype=torch.float32, device=position.device)
    period = temperature ** (2 * torch.div(index, 2, rounding_mode="floor") / half)
    angle = position.unsqueeze(-1) / period
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def axial_rotation(height: int, width: int, channels: int, theta: float = 10000.0) -> Tensor:
    """Rotary phases of a row-major grid -> [height * width, channels / 2], complex64 of modulus 1.

    The first quarter of the channels rotates with x, the second with y; channels come in adjacent pairs
    (source: SAM 2 `compute_axial_cis`).
    """
    frequency = 1.0 / theta ** (torch.arange(0, channels, 4, dtype=torch.float32)[: channels // 4] / channels)
    index = torch.arange(height * width, dtype=torch.float32)
    x = index % width
    y = torch.div(index, width, rounding_mode="floor")
    angle = torch.cat((torch.outer(x, frequency), torch.outer(y, frequency)), dim=1)
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate adjacent channel pairs of x [B, heads, L, D] by rotation [L, D / 2] (complex); keeps x's dtype."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)
