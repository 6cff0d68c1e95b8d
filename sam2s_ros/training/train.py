"""`sam2s train`: train a network from one configuration file; interrupted runs go on where they were."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tqdm import tqdm

from sam2s_ros.data.clips import FOLDER_PREFIX
from sam2s_ros.network.class_bank import METADATA_KEY
from sam2s_ros.training.config import TrainConfig, read_train_config
from sam2s_ros.training.loop import Trainer, write_log

HELP = "train a network from a configuration file; resumes a run that was interrupted"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=Path("config/train_nano.yaml"), help="settings of the run (YAML)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with train/vocalfolds, train/davis2016_val, ...; folders of `videos:` sources are relative to it",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for checkpoint, log, curves and weights"
    )
    parser.add_argument("--licence", default="CC-BY-4.0", help="licence written into the weights file")


def run(args: argparse.Namespace) -> int:
    config = read_train_config(args.config)
    rendered = [name for name in config.sources if not name.startswith(FOLDER_PREFIX)]
    if (rendered or not config.sources) and not (args.data / "train").is_dir():
        raise FileNotFoundError(
            f"--data {args.data}: no folder 'train' inside; give the folder that holds it"
        )
    for name in config.sources:
        folder = args.data / name.removeprefix(FOLDER_PREFIX)
        if name.startswith(FOLDER_PREFIX) and not folder.is_dir():
            raise FileNotFoundError(f"sources: {name}: {folder} is not a folder")
    args.out.mkdir(parents=True, exist_ok=True)
    rendezvous = args.out / "rendezvous"
    rendezvous.unlink(missing_ok=True)
    mp.spawn(
        _process,
        (config, args.data.resolve(), args.out.resolve(), args.licence),
        nprocs=config.processes,
        join=True,
    )
    return 0


def _process(rank: int, config: TrainConfig, data: Path, out: Path, licence: str) -> None:
    os.environ["OMP_NUM_THREADS"] = str(config.threads)
    torch.set_num_threads(config.threads)
    import cv2

    from sam2s_ros.data.clips import make_mixture

    cv2.setNumThreads(0)
    if config.processes > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{out / 'rendezvous'}", rank=rank, world_size=config.processes
        )
    source = make_mixture(data, 256, config.sources)
    trainer = Trainer(config, source, out, rank, config.processes)
    resumed = trainer.restore()
    if rank == 0:
        print(
            f"{'resuming' if resumed else 'starting'} at step {trainer.step} of {config.total_steps}",
            flush=True,
        )
    _steps(trainer, _validation_clips(data) if rank == 0 else [], licence)
    if config.processes > 1:
        dist.destroy_process_group()


def _validation_clips(data: Path) -> list[Any]:
    from sam2s_ros.data.clips import validation_clips

    return list(validation_clips(data if (data / "train").is_dir() else None))


def _steps(trainer: Trainer, validation: list[Any], licence: str) -> None:
    config, out = trainer.config, trainer.out
    bar = tqdm(total=config.total_steps, initial=trainer.step, disable=trainer.rank != 0, mininterval=20)
    while trainer.step < config.total_steps:
        progress = trainer.train_step()
        if trainer.rank:
            continue
        bar.update()
        bar.set_postfix(loss=f"{progress.loss:.3f}", iou=f"{progress.iou:.3f}", refresh=False)
        write_log(out / "log.jsonl", progress)
        last = trainer.step == config.total_steps
        if trainer.step % config.save_every_steps == 0 or last:
            trainer.save()
        if trainer.step % config.validate_every_steps == 0 or last:
            scores = trainer.validate(validation)
            write_log(out / "validation.jsonl", {"step": trainer.step, **scores})
            write_weights(trainer, out / "weights.safetensors", licence, scores)
            draw_curves(out)
    bar.close()


def write_weights(trainer: Trainer, path: Path, licence: str, scores: dict[str, float]) -> None:
    """The averaged weights as safetensors, with what made them."""
    from sam2s_ros.network.checkpoint import save_checkpoint

    extra = training_facts(trainer.config, trainer.step, scores)
    if trainer.bank is not None:
        extra[METADATA_KEY] = trainer.bank.facts()
    save_checkpoint(path, trainer.average, preset=trainer.config.preset, licence=licence, extra=extra)


def training_facts(config: TrainConfig, step: int, scores: dict[str, float]) -> dict[str, Any]:
    """What is written into the weights: settings, steps taken, validation, and the same of the weights begun with."""
    from sam2s_ros.network.checkpoint import read_metadata

    settings = {name: value for name, value in asdict(config).items() if name not in ("init", "class_bank")}
    facts: dict[str, Any] = {"step": step, "validation": scores, "settings": settings}
    if config.init:
        begun_with = read_metadata(config.init)
        facts["begun_with"] = None if begun_with is None else asdict(begun_with)
    return facts


def draw_curves(out: Path) -> None:
    """Loss, IoU and validation over steps as out/curves.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    checks = [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]
    width = max(1, len(rows) // 300)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4))
    for axis, key in ((axes[0], "loss"), (axes[1], "iou")):
        values = [row[key] for row in rows]
        means = [
            sum(values[i : i + width]) / len(values[i : i + width]) for i in range(0, len(values), width)
        ]
        axis.plot([rows[i]["step"] for i in range(0, len(rows), width)], means, label=f"training {key}")
        axis.set_xlabel("step")
    for key in ("iou_memory", "iou_previous"):
        axes[1].plot(
            [c["step"] for c in checks], [c[key] for c in checks], marker=".", label=f"validation {key}"
        )
    for axis in axes:
        axis.legend()
        axis.grid(True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(out / "curves.png", dpi=100)
    pyplot.close(figure)
