"""The training loss: masks, predicted IoU, presence.

Ambiguity-resilient learning (SAM2S, arXiv 2511.16618, section 4.4) compares every pixel's probability with a softened
label. Ordinary focal loss is minimised away from a soft label (0.72 for 0.6, 0.88 for 0.7) and so sharpens it again;
`quality_focal_loss` is minimised at it, whatever the label. Dice, IoU and presence keep the label as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sam2s_ros.network.mask_decoder import MaskHypotheses
from sam2s_ros.training.config import MASK_LOSSES, LossConfig


def balanced_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with the smaller class lifted, [N, M, H, W] against soft [N, 1, H, W] -> [N, M].

    From scratch, SAM 2's focal loss rests on all-background for a long time; this does not.
    """
    positive = target.mean(dim=(2, 3), keepdim=True).clamp(0.005, 0.995)
    lift = ((1 - positive) / positive).sqrt().clamp(1 / 6, 6)
    weight = target * lift + (1 - target)
    loss = F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    return (loss * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Sigmoid focal loss (arXiv 1708.02002), [N, M, H, W] against [N, 1, H, W] -> [N, M]."""
    target = target.expand_as(logits)
    probability = torch.sigmoid(logits)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    agreement = probability * target + (1 - probability) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * (1 - agreement) ** gamma * loss).mean(dim=(2, 3))


def quality_focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss for soft labels (quality focal loss, arXiv 2006.04388), [N, M, H, W] against [N, 1, H, W] -> [N, M].

    Cross-entropy weighted by the distance of probability and label to the power of gamma: 0 where they are equal.
    """
    target = target.expand_as(logits)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    distance = (torch.sigmoid(logits) - target).abs()
    return (distance**gamma * loss).mean(dim=(2, 3))


def soften(target: Tensor, sigma: float) -> Tensor:
    """Labels [N, 1, H, W] smoothed by a Gaussian of 5 x 5 pixels that sums to 1; the border is repeated outwards."""
    offset = torch.arange(-2, 3, dtype=target.dtype, device=target.device)
    line = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    return F.conv2d(F.pad(target, (2, 2, 2, 2), mode="replicate"), kernel[None, None])


PIXEL_LOSSES = dict(zip(MASK_LOSSES, (balanced_bce, focal_loss, quality_focal_loss), strict=True))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - Dice of probabilities [N, M, H, W] and [N, 1, H, W] -> [N, M]."""
    probability = torch.sigmoid(logits).flatten(2)
    flat = target.flatten(2)
    overlap = 2 * (probability * flat).sum(-1)
    return 1 - (overlap + 1) / (probability.sum(-1) + flat.sum(-1) + 1)


def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of thresholded masks, [N, M, H, W] and [N, 1, H, W] -> [N, M]; both empty: 1."""
    predicted = logits.gt(0).flatten(2)
    truth = target.gt(0.5).flatten(2)
    intersection = (predicted & truth).sum(-1).float()
    union = (predicted | truth).sum(-1).float()
    return torch.where(union > 0, intersection / union.clamp(min=1), torch.ones_like(union))


def in_view(target: Tensor) -> Tensor:
    """Whether any pixel of coverage [N, 1, H, W] is more of the object than not -> bool [N]."""
    return target.flatten(1).amax(dim=1).gt(0.5)


def hypotheses_loss(
    hypotheses: MaskHypotheses, multimask: bool, target: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one decoder pass (source: SAM 2 `MultiStepMultiMasksAndIous`).

    The hypothesis with the lowest mask loss learns its mask, the others with the weight `config.others`; every one
    learns its IoU. Mask and IoU terms count only where the object is in view.

    Args:
        hypotheses: the decoder's output, raw logits.
        multimask: which hypotheses answer: the ambiguous ones, or the single one.
        target: [N, 1, size, size] soft ground truth, coverage in 0..1.

    Returns:
        The loss and numbers for the log, scalars in float32 whatever the hypotheses were computed in.
    """
    chosen = slice(1, None) if multimask else slice(0, 1)
    logits = F.interpolate(
        hypotheses.logits[:, chosen].float(), size=target.shape[-2:], mode="bilinear", align_corners=False
    )
    predicted_iou = hypotheses.iou[:, chosen].float()
    present = in_view(target).float()
    label = soften(target, config.softening) if config.softening else target
    pixel_term = PIXEL_LOSSES[config.mask_loss](logits, label)
    mask_terms = config.mask * pixel_term + config.dice * dice_loss(logits, target)
    lowest, index = mask_terms.min(dim=1)
    best = (1 - config.others) * lowest + config.others * mask_terms.mean(dim=1)
    actual = mask_iou(logits.detach(), target)
    iou_term = (predicted_iou - actual).abs().mean(dim=1)
    visible = present.sum().clamp(min=1)
    presence_term = F.binary_cross_entropy_with_logits(hypotheses.object_score[:, 0].float(), present)
    loss = ((best + config.iou * iou_term) * present).sum() / visible + config.presence * presence_term
    picked = predicted_iou.argmax(dim=1, keepdim=True)
    seen = hypotheses.object_score[:, 0] > 0
    return loss, {
        "loss": loss.detach(),
        "iou": (actual.gather(1, picked)[:, 0] * present).sum() / visible,
        "iou_best": (actual.gather(1, index[:, None])[:, 0] * present).sum() / visible,
        "presence": (seen.float() == present).float().mean(),
    }
