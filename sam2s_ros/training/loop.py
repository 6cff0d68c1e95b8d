"""The training loop of one process: sample, roll out, average gradients, step, checkpoint."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from sam2s_ros.network import Sam2Network, build_network
from sam2s_ros.network.checkpoint import read_checkpoint_bank
from sam2s_ros.network.class_bank import CLASS_EMBEDDINGS, ClassBank, read_class_bank
from sam2s_ros.training.config import LONG_TERM_FRAMES, StageConfig, TrainConfig
from sam2s_ros.training.initialise import align_memory_attention, align_prompt_attention
from sam2s_ros.training.losses import hypotheses_loss, in_view
from sam2s_ros.training.rollout import Rollout, RolloutPlan, Supervised
from sam2s_ros.training.semantic_loss import SemanticSamples, semantic_loss

RENDERED_FRAMES = 4
"""Frames that a scene is rendered for at least."""
MIN_PROMPTED_AREA = 0.0008
"""Share of the image that each object covers in a clip's first frame, where it is prompted."""


class Clip(Protocol):
    """frames uint8 [T, S, S, 3] RGB, masks bool [T, K, S, S], class_names [K] ("" when unknown)."""

    frames: np.ndarray
    masks: np.ndarray
    class_names: tuple[str, ...]


class ClipSource(Protocol):
    """Where clips come from; the same generator state gives the same clip."""

    def sample(
        self, rng: np.random.Generator, length: int, objects: int, size: int, long_term: int = 0
    ) -> Any: ...


@dataclass
class Progress:
    """One line of the log."""

    step: int
    loss: float
    iou: float
    iou_best: float
    presence: float
    class_accuracy: float
    """Share of the labelled objects in view whose class comes first; NaN without any."""
    seconds: float


def batch_of(
    source: ClipSource, stage: StageConfig, size: int, rng: np.random.Generator, long_term: int = 0
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, ...]]]:
    """Clips of one step -> frames uint8 [B, T, S, S, 3], masks bool [B, T, K, S, S], class names of each clip [B][K].

    Setting a scene up costs more than another frame of it, so short clips are cut from longer ones. `long_term`
    frames after the first lie anywhere in the video.
    """
    frames: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    names: list[tuple[str, ...]] = []
    while len(frames) < stage.clips:
        clip = source.sample(rng, max(RENDERED_FRAMES, stage.length), stage.objects, size, long_term)
        for start in range(0, len(clip.frames) - stage.length + 1, stage.length):
            window = slice(start, start + stage.length)
            if clip.masks[start].mean(axis=(1, 2)).min() >= MIN_PROMPTED_AREA:
                frames.append(clip.frames[window])
                masks.append(clip.masks[window])
                names.append(clip.class_names)
    return np.stack(frames[: stage.clips]), np.stack(masks[: stage.clips]), names[: stage.clips]


def normalise(frames: np.ndarray, network: Sam2Network) -> Tensor:
    """uint8 [..., S, S, 3] -> float32 [..., 3, S, S], mean and deviation removed."""
    images = torch.from_numpy(frames).float().div_(255)
    images = (images - torch.tensor(network.config.image_mean)) / torch.tensor(network.config.image_std)
    return images.movedim(-1, -3).contiguous()


def clip_loss(
    network: Sam2Network,
    frames: np.ndarray,
    masks: np.ndarray,
    config: TrainConfig,
    rng: np.random.Generator,
    long_term: int = 0,
    rows: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Loss and mean log numbers of one batch. `rows`: int64 [B, K] class of each object in the bank; None: unknown."""
    plan = RolloutPlan.draw(config.prompts, frames.shape[1], rng, long_term)
    rollout = Rollout(
        network, normalise(frames, network), torch.from_numpy(masks), plan, rng, config.bf16_encoder
    )
    total = torch.zeros(())
    logs: list[dict[str, float]] = []
    size = config.loss.size
    targets: dict[int, Tensor] = {}
    passes = rollout.run()
    for item in passes:
        if item.frame not in targets:
            targets[item.frame] = F.adaptive_avg_pool2d(rollout.truth(item.frame), size)
        assert item.decoded.hypotheses is not None
        loss, log = hypotheses_loss(item.decoded.hypotheses, item.multimask, targets[item.frame], config.loss)
        total = total + loss
        logs.append(log)
    semantic, accuracy = _semantic_term(network, rollout, passes, rows, config)
    loss = total / len(logs) + semantic
    means = {key: float(np.mean([log[key] for log in logs])) for key in logs[0]}
    return loss, {**means, "loss": means["loss"] + float(semantic.detach()), "class_accuracy": accuracy}


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
        return torch.zeros(()), math.nan
    said = [(item.frame, item.decoded) for item in passes]
    if rollout.start.hypotheses is None:
        said.append((0, rollout.start))
    samples = [
        SemanticSamples(
            decoded.embedding,
            rows.flatten(),
            in_view(F.adaptive_avg_pool2d(rollout.truth(frame), config.loss.size)),
        )
        for frame, decoded in said
        if decoded.embedding is not None
    ]
    loss, accuracy = semantic_loss(samples, bank, config.loss.tsl_scale)
    return config.loss.tsl * loss, accuracy


def _class_bank(config: TrainConfig) -> ClassBank | None:
    """The bank that a run learns: the one it names, or that of the weights it begins with."""
    if config.class_bank:
        return read_class_bank(config.class_bank)
    return read_checkpoint_bank(config.init) if config.init else None


def _same_bank(state: dict[str, Tensor], bank: ClassBank) -> bool:
    stored = state.get(CLASS_EMBEDDINGS)
    return stored is not None and torch.equal(stored, bank.embeddings.to(stored.dtype))


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.total_steps - config.warmup_steps)
    low, high = config.final_learning_rate, config.learning_rate
    return low + (high - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def trained_parameters(network: torch.nn.Module, beginnings: Sequence[str]) -> list[torch.nn.Parameter]:
    """The parameters whose names begin with any of these, or all; the others get no gradient any more.

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
    for name, parameter in named.items():
        parameter.requires_grad_(not beginnings or name.startswith(tuple(beginnings)))
    return [parameter for parameter in named.values() if parameter.requires_grad]


class Trainer:
    """State of a run: network, moving average, optimiser, step. Saved whole, so that a killed run goes on exactly."""

    def __init__(
        self, config: TrainConfig, source: ClipSource, out: Path, rank: int = 0, ranks: int = 1
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.source, self.out, self.rank, self.ranks = config, source, out, rank, ranks
        self.bank = _class_bank(config)
        self.network = build_network(config.preset, config.init or None, config.long_term, self.bank).train()
        if not config.init:
            align_prompt_attention(self.network)
            align_memory_attention(self.network)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.trained = trained_parameters(self.network, config.train_only)
        decay = [p for p in self.trained if p.ndim > 1]
        plain = [p for p in self.trained if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=config.learning_rate,
        )
        self.step = 0

    @property
    def checkpoint_path(self) -> Path:
        return self.out / "checkpoint.pt"

    def restore(self) -> bool:
        """Go on from the last checkpoint in the output folder, if there is one."""
        if not self.checkpoint_path.exists():
            return False
        state = torch.load(self.checkpoint_path, weights_only=True)
        if self.bank is not None and not _same_bank(state["network"], self.bank):
            raise ValueError(
                f"{self.checkpoint_path} was begun with another class bank; go on with that one, or in another --out"
            )
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        return True

    def save(self) -> None:
        """Write the whole state atomically."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        partial = self.checkpoint_path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.checkpoint_path)

    def train_step(self) -> Progress:
        """One optimiser step; the data depends on seed, rank and step number alone."""
        started = time.perf_counter()
        config = self.config
        rng = np.random.default_rng([config.seed, self.rank, self.step])
        stage = config.stage_at(self.step)
        long_term = LONG_TERM_FRAMES if rng.random() < stage.hybrid else 0
        frames, masks, names = batch_of(self.source, stage, self.network.config.image_size, rng, long_term)
        rows = None if self.bank is None else torch.tensor([self.bank.rows(clip) for clip in names])
        loss, log = clip_loss(self.network, frames, masks, config, rng, long_term, rows)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self.trained, config.clip_norm)
        rate = learning_rate(config, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self._update_average()
        self.step += 1
        return Progress(self.step, seconds=time.perf_counter() - started, **log)

    def _share_gradients(self) -> None:
        """Average gradients over processes; parameters that no clip touched count as zero."""
        if self.ranks == 1:
            return
        flat = torch.cat(
            [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in self.trained]
        )
        dist.all_reduce(flat)
        flat /= self.ranks
        offset = 0
        for p in self.trained:
            p.grad = flat[offset : offset + p.numel()].view_as(p)
            offset += p.numel()

    def _update_average(self) -> None:
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        state = self.network.state_dict()
        torch._foreach_lerp_(
            [self.average[k] for k in state], [v.detach() for v in state.values()], weight=1 - keep
        )

    def validate(self, clips: list[Any]) -> dict[str, float]:
        """Mean IoU per frame of mask-prompted tracking over fixed clips, with the averaged weights.

        Returns:
            {"iou": both settings' mean, "iou_memory": previous-mask prompt off, "iou_previous": on}.
        """
        network = Sam2Network(self.network.config).eval()
        network.load_state_dict(self.average)
        scores = {}
        for name, previous in (("iou_memory", False), ("iou_previous", True)):
            scores[name] = float(np.mean([track_iou(network, clip, previous) for clip in clips]))
        scores["iou"] = 0.5 * (scores["iou_memory"] + scores["iou_previous"])
        return scores


@torch.inference_mode()
def track_iou(network: Sam2Network, clip: Clip, previous_mask: bool) -> float:
    """Mean IoU over the frames after the first in which an object is in view."""
    plan = RolloutPlan(prompt="mask", clicks=0, correct_at=-1, previous_mask=previous_mask)
    images = normalise(clip.frames[None], network)
    rollout = Rollout(network, images, torch.from_numpy(clip.masks[None]), plan, np.random.default_rng(0))
    values = []
    for item in rollout.run():
        truth = rollout.truth(item.frame)[:, 0] > 0.5
        predicted = item.decoded.high_res[:, 0] > 0
        overlap = (truth & predicted).flatten(1).sum(1).float()
        union = (truth | predicted).flatten(1).sum(1).clamp(min=1).float()
        values += (overlap / union)[truth.flatten(1).any(1)].tolist()
    return float(np.mean(values)) if values else 1.0


def write_log(path: Path, record: Progress | dict[str, Any]) -> None:
    """Append one JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(record) if isinstance(record, Progress) else record) + "\n")
