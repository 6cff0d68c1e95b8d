"""Mask decoder: prompt tokens and image features look at each other, then tokens become masks and scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.layers import MLP, Attention, LayerNorm2d


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image attends to the tokens."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, first: bool) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, ffn_dim, dim, 2)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, downsample=2)
        self.first = first

    def forward(
        self, tokens: Tensor, image: Tensor, token_position: Tensor, image_position: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_position
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        image_key = image + image_position
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_position, image_key, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(image_key, tokens + token_position, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """A stack of two-way blocks and a last look of the tokens at the image."""

    def __init__(self, depth: int, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, num_heads, ffn_dim, i == 0) for i in range(depth))
        self.final_attn_token_to_image = Attention(dim, num_heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_position: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image [N, L, C], its position [1, L, C], tokens [N, T, C] -> (tokens [N, T, C], image [N, L, C])."""
        queries = tokens
        for layer in self.layers:
            queries, image = layer(queries, image, tokens, image_position)
        queries = queries + self.final_attn_token_to_image(queries + tokens, image + image_position, image)
        return self.norm_final_attn(queries), image


@dataclass(frozen=True)
class MaskHypotheses:
    """All masks of one decoder pass. M = 1 + number of multimask outputs; hypothesis 0 is the single-mask output."""

    logits: Tensor
    """[N, M, 4h, 4w]."""
    iou: Tensor
    """[N, M] predicted IoU, 0..1."""
    tokens: Tensor
    """[N, M, C] output tokens, from which object pointers are made."""
    object_score: Tensor
    """[N, 1] logit of the object being in view."""
    class_token: Tensor | None = None
    """[N, C] the class token after the decoder; None where none went in."""


class MaskDecoder(nn.Module):
    """SAM 2's mask decoder with high-resolution features and an object score."""

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        ffn_dim: int,
        iou_hidden_dim: int,
        num_multimask_outputs: int,
    ) -> None:
        super().__init__()
        self.num_masks = num_multimask_outputs + 1
        self.transformer = TwoWayTransformer(depth, dim, num_heads, ffn_dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_masks, dim)
        self.obj_score_token = nn.Embedding(1, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, 2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, 2),
            nn.GELU(),
        )
        self.conv_s0 = nn.Conv2d(dim, dim // 8, 1)
        self.conv_s1 = nn.Conv2d(dim, dim // 4, 1)
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(dim, dim, dim // 8, 3) for _ in range(self.num_masks)
        )
        self.iou_prediction_head = MLP(dim, iou_hidden_dim, self.num_masks, 3, sigmoid=True)
        self.pred_obj_score_head = MLP(dim, dim, 1, 3)

    def upscale(self, image: Tensor, f0: Tensor, f1: Tensor) -> Tensor:
        """Image [N, C, h, w] with f1 (stride 8) and f0 (stride 4) -> [N, C / 8, 4h, 4w]."""
        up1, norm, act1, up2, act2 = self.output_upscaling
        x = act1(norm(up1(image) + f1))
        return act2(up2(x) + f0)

    def forward(
        self,
        features: Tensor,
        position: Tensor,
        sparse: Tensor,
        dense: Tensor,
        f0: Tensor,
        f1: Tensor,
        class_token: Tensor | None = None,
    ) -> MaskHypotheses:
        """Decode masks.

        Args:
            features: [N, C, h, w].
            position: [1, C, h, w] encoding of the grid.
            sparse: [N, T, C] prompt tokens.
            dense: [N or 1, C, h or 1, w or 1] dense prompt, added to the features.
            f0: [N or 1, C / 8, 4h, 4w]. f1: [N or 1, C / 4, 2h, 2w].
            class_token: [N or 1, 1, C] one more token, between the output tokens and the prompt's; or None.
        """
        batch, channels, height, width = features.shape
        output = torch.cat((self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight))
        extra = () if class_token is None else (class_token.expand(batch, -1, -1),)
        tokens = torch.cat((output.expand(batch, -1, -1), *extra, sparse), dim=1)
        image = (features + dense).flatten(2).transpose(1, 2)
        tokens, image = self.transformer(image, position.flatten(2).transpose(1, 2), tokens)
        mask_tokens = tokens[:, 2 : 2 + self.num_masks]
        upscaled = self.upscale(image.transpose(1, 2).reshape(batch, channels, height, width), f0, f1)
        weights = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        logits = (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
        return MaskHypotheses(
            logits=logits,
            iou=self.iou_prediction_head(tokens[:, 1]),
            tokens=mask_tokens,
            object_score=self.pred_obj_score_head(tokens[:, 0]),
            class_token=None if class_token is None else tokens[:, 2 + self.num_masks],
        )


def upsample_logits(logits: Tensor, size: int) -> Tensor:
    """Bilinear upsampling of mask logits [N, 1, a, a] -> [N, 1, size, size] (align_corners False, as SAM 2)."""
    return F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
