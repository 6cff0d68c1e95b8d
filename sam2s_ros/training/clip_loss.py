"""What one batch costs: roll the network out over its clips and compare each decoder pass with the truth."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network import Sam2Network
from sam2s_ros.training.config import TrainConfig
from sam2s_ros.training.losses import hypotheses_loss, in_view
from sam2s_ros.training.reader_loss import reader_loss
from sam2s_ros.training.rollout import Rollout, RolloutPlan, Supervised
from sam2s_ros.training.semantic_loss import SemanticSamples, semantic_loss


class ClipLoss(nn.Module):
    """A network and its loss as one module: what Fabric wraps, so that gradients are shared while they are made."""

    def __init__(self, network: Sam2Network, config: TrainConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config

    def forward(
        self, frames: Tensor, masks: Tensor, rng: np.random.Generator, long_term: int, rows: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `clip_loss`."""
        return clip_loss(self.network, frames, masks, self.config, rng, long_term, rows)


def normalise(frames: Tensor, network: Sam2Network) -> Tensor:
    """uint8 [..., S, S, 3] -> float32 [..., 3, S, S], mean and deviation removed."""
    images = frames.float().div_(255)
    mean, deviation = (
        torch.tensor(values, device=frames.device)
        for values in (network.config.image_mean, network.config.image_std)
    )
    return images.sub_(mean).div_(deviation).movedim(-1, -3).contiguous()


def clip_loss(
    network: Sam2Network,
    frames: Tensor,
    masks: Tensor,
    config: TrainConfig,
    rng: np.random.Generator,
    long_term: int = 0,
    rows: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and mean log numbers of one batch, scalars.

    Args:
        frames: uint8 [B, T, S, S, 3] RGB.
        masks: bool [B, T, K, S, S].
        rng: decides prompts and what goes wrong.
        long_term: frames after the first that lie anywhere in the video.
        rows: int64 [B, K] class of each object in the bank; None: unknown.
    """
    images = normalise(frames, network)
    if config.prompts.true_masks and rows is not None and rng.random() < config.prompts.true_masks:
        return reader_loss(network, images, masks, rows, config.loss, rng)
    plan = RolloutPlan.draw(config.prompts, frames.shape[1], rng, long_term)
    rollout = Rollout(network, images, masks, plan, rng, config.bf16 == "encoder")
    passes = rollout.run()
    with torch.autocast(frames.device.type, enabled=False):
        return _loss_of(network, rollout, passes, config, rows)


def _loss_of(
    network: Sam2Network,
    rollout: Rollout,
    passes: list[Supervised],
    config: TrainConfig,
    rows: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    size = config.loss.size
    targets: dict[int, Tensor] = {}
    losses: list[Tensor] = []
    logs: list[dict[str, Tensor]] = []
    for item in passes:
        if item.frame not in targets:
            targets[item.frame] = F.adaptive_avg_pool2d(rollout.truth(item.frame), size)
        assert item.decoded.hypotheses is not None
        loss, log = hypotheses_loss(item.decoded.hypotheses, item.multimask, targets[item.frame], config.loss)
        losses.append(loss)
        logs.append(log)
    semantic, accuracy = _semantic_term(network, rollout, passes, rows, config)
    total = torch.stack(losses).mean() + semantic
    means = {key: torch.stack([log[key] for log in logs]).mean() for key in logs[0]}
    return total, {**means, "loss": total.detach(), "class_accuracy": total.new_tensor(accuracy)}


def _semantic_term(
    network: Sam2Network,
    rollout: Rollout,
    passes: list[Supervised],
    rows: Tensor | None,
    config: TrainConfig,
) -> tuple[Tensor, float]:
    """Weighted loss of temporal semantic learning, and its accuracy, over all passes and that of a mask prompt."""
    bank = network.sam2s.class_embeddings
    if bank is None or rows is None:
        return rollout.images.new_zeros(()), math.nan
    said = [(item.frame, item.decoded) for item in passes]
    if rollout.start.hypotheses is None:
        said.append((0, rollout.start))
    samples = [
        SemanticSamples(
            decoded.embedding.float(),
            rows.flatten(),
            in_view(F.adaptive_avg_pool2d(rollout.truth(frame), config.loss.size)),
        )
        for frame, decoded in said
        if decoded.embedding is not None
    ]
    loss, accuracy = semantic_loss(samples, bank, config.loss.tsl_scale)
    return config.loss.tsl * loss, accuracy
