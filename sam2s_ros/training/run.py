"""A whole run in one of its processes: from the last checkpoint to the last step. The first process writes files."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from sam2s_ros.data.clips import make_mixture
from sam2s_ros.training.batches import reader_watched
from sam2s_ros.training.config import TrainConfig
from sam2s_ros.training.loop import Trainer
from sam2s_ros.training.origins import origins_of
from sam2s_ros.training.run_files import (
    BEST,
    LOG,
    VALIDATION,
    WEIGHTS,
    append_line,
    draw_curves,
    forget_after,
    write_weights,
)
from sam2s_ros.training.validation import ValidationClips, validate


def train(config: TrainConfig, fabric: Fabric, data: Path, out: Path, licence: str) -> None:
    """Take the steps that are left; every process of the run calls this.

    Raises:
        ValueError, OSError: see `Trainer`, `read_batches` and `validate`.
    """
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(0)
    videos = make_mixture(data, config.side, config.sources or None)
    images = make_mixture(data, config.side, config.image_sources) if config.image_sources else None
    trainer = Trainer(config, videos, out, fabric, images, origins_of(config, data))
    resumed = trainer.restore()
    if fabric.is_global_zero:
        forget_after(out, trainer.step)
        begun = "resuming" if resumed else "starting"
        print(f"{begun} at step {trainer.step} of {config.total_steps}", flush=True)
    clips = ValidationClips(config, data, fabric.global_rank, fabric.world_size)
    bar = tqdm(
        total=config.total_steps, initial=trainer.step, disable=not fabric.is_global_zero, mininterval=20
    )
    with reader_watched(), bar:
        while trainer.step < config.total_steps:
            progress = trainer.train_step()
            bar.update()
            bar.set_postfix(loss=f"{progress.loss:.3f}", iou=f"{progress.iou:.3f}", refresh=False)
            if fabric.is_global_zero:
                append_line(out / LOG, asdict(progress))
            last = trainer.step == config.total_steps
            if trainer.step % config.validate_every_steps == 0 or last:
                _validate(trainer, clips, licence)
            if fabric.is_global_zero and (trainer.step % config.save_every_steps == 0 or last):
                trainer.save()


def _validate(trainer: Trainer, clips: ValidationClips, licence: str) -> None:
    """Score the averaged weights and write them; also as the best where no others scored higher."""
    scores = validate(trainer.network.config, trainer.average, clips, trainer.fabric)
    better = scores["jf"] > trainer.best
    if better:
        trainer.best = scores["jf"]
    if not trainer.fabric.is_global_zero:
        return
    out = trainer.out
    append_line(out / VALIDATION, {"step": trainer.step, **scores})
    write_weights(trainer, out / WEIGHTS, licence, scores)
    if better:
        write_weights(trainer, out / BEST, licence, scores)
    draw_curves(out)
