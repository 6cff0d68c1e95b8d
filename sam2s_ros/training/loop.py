"""The state of a run in one process, and its steps: read, roll out, share gradients, step, checkpoint."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from sam2s_ros.network import Sam2Network, build_network, with_image_size
from sam2s_ros.network.checkpoint import read_checkpoint_bank
from sam2s_ros.network.class_bank import CLASS_EMBEDDINGS, ClassBank, read_class_bank
from sam2s_ros.training.batches import ROLLING_OUT, Batch, Batches, BatchOrder, ClipSource, read_batches
from sam2s_ros.training.checksums import require_checksums
from sam2s_ros.training.clip_loss import ClipLoss
from sam2s_ros.training.config import TrainConfig
from sam2s_ros.training.initialise import align_memory_attention, align_prompt_attention
from sam2s_ros.training.optimiser import (
    RATE_SCALE,
    layer_scales,
    learning_rate,
    parameter_groups,
    trained_parameters,
)
from sam2s_ros.training.origins import check_same_run
from sam2s_ros.training.processes import make_fabric, sum_over_processes


@dataclass
class Progress:
    """One line of the log: means over all batches of the step."""

    step: int
    loss: float
    iou: float
    iou_best: float
    presence: float
    class_accuracy: float
    """Share of the labelled objects in view whose class comes first; NaN without any."""
    gradient: float
    """Length of the gradient before it is clipped."""
    seconds: float
    waited: float
    """Seconds of these that the first process waited for clips."""


def class_bank_of(config: TrainConfig) -> ClassBank | None:
    """The bank that a run learns: the one it names, or that of the weights it begins with."""
    if config.class_bank:
        return read_class_bank(config.class_bank)
    return read_checkpoint_bank(config.init) if config.init else None


def network_to_train(config: TrainConfig, bank: ClassBank | None) -> Sam2Network:
    """The network of a configuration as its training begins. Errors as those of `build_network`."""
    network = build_network(config.preset, config.init or None, config.long_term, bank, config.class_reader)
    if config.side != network.config.image_size:
        network = with_image_size(network, config.side)
    if not config.init:
        align_prompt_attention(network)
        align_memory_attention(network)
    return network.train()


def _same_bank(state: dict[str, Tensor], bank: ClassBank | None) -> bool:
    stored = state.get(CLASS_EMBEDDINGS)
    if stored is None or bank is None:
        return stored is None and bank is None
    return stored.shape == bank.embeddings.shape and torch.equal(stored, bank.embeddings.to(stored.dtype))


class Trainer:
    """State of a run: network, moving average, optimiser, step, best score. Saved whole, so that a killed run goes on
    exactly: clips and prompts are drawn from random numbers that depend on seed, step and batch alone.

    Args:
        source: the clips of videos.
        fabric: the processes; None: this one alone, on the CPU.
        images: the clips that single images are cut from; None: `source`.
        origins: `origins_of` the run, which it goes on with only where they are the same.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: ClipSource,
        out: Path,
        fabric: Fabric | None = None,
        images: ClipSource | None = None,
        origins: Mapping[str, str] | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.out = config, out
        self._origins = dict(origins or {})
        self.fabric = fabric or make_fabric(config)
        self.bank = class_bank_of(config)
        self.network = network_to_train(config, self.bank)
        trained = trained_parameters(self.network, config.train_only)
        scales = layer_scales(self.network, config.layer_decay)
        self._plain_optimiser = torch.optim.AdamW(
            parameter_groups(trained, scales, config.weight_decay), lr=config.learning_rate
        )
        self.model, self.optimiser = self.fabric.setup(ClipLoss(self.network, config), self._plain_optimiser)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.step = 0
        self.best = -math.inf
        self._readable = Batches(config, source, images or source)
        self._batches: Iterator[Batch] | None = None

    @property
    def checkpoint_path(self) -> Path:
        return self.out / "checkpoint.pt"

    @property
    def batches_here(self) -> int:
        """Batches of a step that this process trains on."""
        return self.config.batches // self.fabric.world_size

    def restore(self) -> bool:
        """Go on from the last checkpoint in the output folder, if there is one.

        Raises:
            ValueError: it was begun with other settings, other weights or videos or another class bank, or is damaged.
        """
        if not self.checkpoint_path.exists():
            return False
        state = self._read_checkpoint()
        self.network.load_state_dict(state["network"])
        self.average = {k: v.to(self.fabric.device) for k, v in state["average"].items()}
        self._plain_optimiser.load_state_dict(state["optimiser"])
        self.step, self.best = int(state["step"]), float(state["best"])
        self._batches = None
        return True

    def _read_checkpoint(self) -> dict[str, Any]:
        path = self.checkpoint_path
        require_checksums(path)
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            settings = state["settings"]
        except (RuntimeError, EOFError, KeyError, TypeError, UnpicklingError) as error:
            raise ValueError(
                f"{path} is no checkpoint of this program ({' '.join(str(error).split())}); remove it to begin anew"
            ) from error
        if "origins" not in state:
            raise ValueError(
                f"{path} does not say which weights and videos it was begun with, as an older version wrote it; "
                "begin in another --out"
            )
        check_same_run(path, settings, asdict(self.config), state["origins"], self._origins)
        if not _same_bank(state["network"], self.bank):
            raise ValueError(
                f"{path} was begun with another class bank, or none; go on with that one, or in another --out"
            )
        return state

    def save(self) -> None:
        """Write the whole state: the file appears complete or not at all."""
        state = {
            "settings": asdict(self.config),
            "origins": self._origins,
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self._plain_optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
        }
        partial = self.checkpoint_path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.checkpoint_path)

    def train_step(self) -> Progress:
        """One optimiser step on all batches of the step; this process takes its share of them.

        Raises:
            ValueError: the gradient is not finite; weights, average and step are still those before.
        """
        started = time.perf_counter()
        waited = 0.0
        logs = []
        for number in range(self.batches_here):
            asked = time.perf_counter()
            batch = self._next_batch()
            waited += time.perf_counter() - asked
            last = number + 1 == self.batches_here
            with self.fabric.no_backward_sync(self.model, enabled=not last):
                loss, log = self._loss(batch)
                self.fabric.backward(loss / self.batches_here)
            logs.append(log)
        norm = self.fabric.clip_gradients(
            self.model, self.optimiser, max_norm=self.config.clip_norm, error_if_nonfinite=False
        )
        if norm is None or not math.isfinite(norm):
            raise ValueError(
                f"the gradient of step {self.step + 1} is {norm}: the training diverged; go on from the last "
                "checkpoint in another --out, with a lower learning_rate"
            )
        rate = learning_rate(self.config, self.step)
        for group in self._plain_optimiser.param_groups:
            group["lr"] = rate * group[RATE_SCALE]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._update_average()
        self.step += 1
        means = self._mean_over_processes(logs)
        seconds = time.perf_counter() - started
        return Progress(self.step, gradient=float(norm), seconds=seconds, waited=waited, **means)

    def _next_batch(self) -> Batch:
        if self._batches is None:
            order = BatchOrder(self.config, self.step, self.fabric.global_rank, self.fabric.world_size)
            self._batches = read_batches(self._readable, order, self.config.workers)
        return next(self._batches)

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        device = self.fabric.device
        rows = None
        if self.bank is not None:
            rows = torch.tensor([self.bank.rows(names) for names in batch.class_names], device=device)
        rng = batch.number.stream(self.config.seed, ROLLING_OUT)
        return self.model(batch.frames.to(device), batch.masks.to(device), rng, batch.long_term, rows)

    def _mean_over_processes(self, logs: list[dict[str, Tensor]]) -> dict[str, float]:
        """Means over the batches of all processes; of what is NaN for a batch, over the others."""
        names = list(logs[0])
        values = torch.stack([torch.stack([log[name].float() for name in names]) for log in logs])
        known = ~values.isnan()
        sums = torch.stack((values.nan_to_num().sum(dim=0), known.float().sum(dim=0)))
        total, count = sum_over_processes(self.fabric, sums).tolist()
        return {name: t / c if c else math.nan for name, t, c in zip(names, total, count, strict=True)}

    def _update_average(self) -> None:
        keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
        state = self.network.state_dict()
        torch._foreach_lerp_(
            [self.average[k] for k in state], [v.detach() for v in state.values()], weight=1 - keep
        )
