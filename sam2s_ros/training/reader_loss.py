"""What a batch costs that teaches the class reader alone: it reads the true masks, and nothing is tracked."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from sam2s_ros.network import Sam2Network
from sam2s_ros.training.config import LossConfig
from sam2s_ros.training.losses import in_view
from sam2s_ros.training.semantic_loss import SemanticSamples, semantic_loss

SHARPNESS = 20.0
"""Logit between the inside of a mask and its outside, as of the masks that a decoder is sure of."""


def reader_loss(
    network: Sam2Network,
    images: Tensor,
    masks: Tensor,
    rows: Tensor,
    config: LossConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted loss of temporal semantic learning and the log numbers of a batch; those of masks are NaN.

    Args:
        network: one with a class reader.
        images: [B, T, 3, S, S] normalised.
        masks: bool [B, T, K, S, S]; they are read as they are, softened, larger or smaller.
        rows: int64 [B, K] class of each object in the bank.
        rng: decides which.
    """
    reader, bank = network.sam2s.class_reader, network.sam2s.class_embeddings
    assert reader is not None and bank is not None
    clips, length, objects = masks.shape[:3]
    low = F.adaptive_avg_pool2d(masks.flatten(0, 2)[:, None].float(), network.config.mask_size)
    logits = SHARPNESS * (_varied(low, int(rng.integers(4))) - 0.5)
    embeddings = reader(images.flatten(0, 1).repeat_interleave(objects, dim=0), logits[:, 0])
    of_each = rows[:, None].expand(clips, length, objects).flatten()
    seen = SemanticSamples(embeddings, of_each, in_view(F.adaptive_avg_pool2d(low, config.size)))
    loss, accuracy = semantic_loss([seen], bank, config.tsl_scale)
    unknown = loss.new_tensor(math.nan)
    log = dict.fromkeys(("iou", "iou_best", "presence"), unknown)
    total = config.tsl * loss
    return total, {**log, "loss": total.detach(), "class_accuracy": loss.new_tensor(accuracy)}


def _varied(masks: Tensor, kind: int) -> Tensor:
    """Masks [N, 1, a, a] as they are (0), softened (1), a pixel larger (2) or smaller (3)."""
    if kind == 1:
        return F.avg_pool2d(masks, 3, 1, 1)
    if kind == 2:
        return F.max_pool2d(masks, 3, 1, 1)
    return -F.max_pool2d(-masks, 3, 1, 1) if kind == 3 else masks
