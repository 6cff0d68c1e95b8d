"""Which parameters are trained, at which learning rate and with which weight decay."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from sam2s_ros.network import Sam2Network
from sam2s_ros.network.layers import Attention
from sam2s_ros.training.config import TrainConfig

TRUNK = "image_encoder.trunk."
RATE_SCALE = "rate_scale"
"""Key of a parameter group: factor on the learning rate of the step."""
BLOCK = re.compile(r"(?:blocks|stages)\.(\d+)(?:\.(\d+))?\.")


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.total_steps - config.warmup_steps)
    low, high = config.final_learning_rate, config.learning_rate
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def trained_parameters(network: nn.Module, beginnings: Sequence[str]) -> dict[str, nn.Parameter]:
    """The parameters whose names begin with any of these, or all; the others get no gradient any more.

    Biases that no output depends on (`idle_biases`) stay as they are too: of their gradient, which is 0 but for
    rounding, Adam would make steps of full length, and other ones with another number of processes.

    Raises:
        ValueError: a beginning that no parameter has.
    """
    named = dict(network.named_parameters())
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in named):
            parts = sorted({".".join(name.split(".")[:2]) for name in named})
            raise ValueError(
                f"train_only: no parameter of the network begins with '{beginning}'; there are {', '.join(parts)}"
            )
    idle = idle_biases(network)
    for name, parameter in named.items():
        parameter.requires_grad_(name not in idle and (not beginnings or name.startswith(tuple(beginnings))))
    return {name: parameter for name, parameter in named.items() if parameter.requires_grad}


def idle_biases(network: nn.Module) -> set[str]:
    """Names of the key biases of the mask decoder's attentions.

    Such a bias adds the same to all scores of a query, which the softmax takes out again; under rotary positions, as in
    the memory attention, it does not.
    """
    return {
        f"{name}.k_proj.bias"
        for name, module in network.named_modules()
        if isinstance(module, Attention) and "sam_mask_decoder.transformer." in name
    }


def layer_scales(network: Sam2Network, decay: float) -> dict[str, float]:
    """Factor on the learning rate of each parameter of the trunk: `decay` to the power of the layers above its own.

    What comes before the first block is a layer, and so is each block; what comes after the last one is another, at
    factor 1. Position embeddings have factor 1 (source: SAM 2's `layer_decay_param_modifier` and its override).
    """
    names = [name.removeprefix(TRUNK) for name, _ in network.named_parameters() if name.startswith(TRUNK)]
    blocks = sorted({block for name in names if (block := _block_of(name)) is not None})
    layers = {block: layer for layer, block in enumerate(blocks, start=1)}
    scales = {}
    for name in names:
        block = _block_of(name)
        layer = 0 if block is None else layers[block]
        scales[TRUNK + name] = 1.0 if "pos_embed" in name else decay ** (len(blocks) + 1 - layer)
    return scales


def _block_of(name: str) -> tuple[int, ...] | None:
    found = BLOCK.match(name)
    if found is None:
        return None
    stage, block = found.groups()
    return (int(stage),) if name.startswith("blocks.") else (int(stage), int(block))


def parameter_groups(
    parameters: Mapping[str, nn.Parameter], scales: Mapping[str, float], weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for the optimiser by learning rate and weight decay; vectors and scalars (biases, norms) do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        key = (scales.get(name, 1.0), weight_decay if parameter.ndim > 1 else 0.0)
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": members, "weight_decay": decay, RATE_SCALE: scale}
        for (scale, decay), members in groups.items()
    ]
