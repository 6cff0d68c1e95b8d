"""Prompt encoder: clicks and box corners become tokens, a mask becomes a dense map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sam2s_ros.network.layers import LayerNorm2d

NOT_A_POINT, NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3


class RandomPositionEncoding(nn.Module):
    """Positions in [0, 1]^2 through fixed random frequencies (source: SAM `PositionEmbeddingRandom`)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_frequencies: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_frequencies))

    def forward(self, position: Tensor) -> Tensor:
        """Position [..., 2] as (x, y) in [0, 1] -> [..., 2 * num_frequencies]."""
        angle = (2 * position - 1) @ self.positional_encoding_gaussian_matrix * (2 * math.pi)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

    def grid(self, size: int) -> Tensor:
        """Encoding of the cell centres of a size x size grid -> [1, C, size, size]."""
        centre = (torch.arange(size, device=self.positional_encoding_gaussian_matrix.device) + 0.5) / size
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        return self(torch.stack((x, y), dim=-1)).permute(2, 0, 1)[None]


class PromptEncoder(nn.Module):
    """Sparse tokens and dense map for the mask decoder (source: SAM 2 `PromptEncoder`)."""

    def __init__(self, dim: int, image_size: int, mask_channels: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.feature_size = image_size // 16
        self.pe_layer = RandomPositionEncoding(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, 2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, 2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def sparse(self, points: Tensor, labels: Tensor) -> Tensor:
        """Points [N, K, 2] in input pixels and labels [N, K] -> tokens [N, K + 1, C]; the last is not a point."""
        padding = points.new_zeros(points.shape[0], 1, 2)
        points = torch.cat((points + 0.5, padding), dim=1)
        labels = torch.cat((labels, labels.new_full((labels.shape[0], 1), NOT_A_POINT)), dim=1)
        position = self.pe_layer(points / self.image_size)
        kinds = torch.cat([self.not_a_point_embed.weight, *self.point_embeddings.parameters()])
        is_point = (labels != NOT_A_POINT).unsqueeze(-1).to(position.dtype)
        return position * is_point + kinds[labels.long() + 1]

    def dense(self, mask: Tensor | None) -> Tensor:
        """Mask logits [N, 1, 4h, 4w] -> [N, C, h, w]; None -> the learned absence [1, C, 1, 1]."""
        if mask is None:
            return self.no_mask_embed.weight[:, :, None, None]
        return self.mask_downscaling(mask)

    def image_position(self) -> Tensor:
        """Encoding of the feature grid [1, C, h, w]."""
        return self.pe_layer.grid(self.feature_size)
