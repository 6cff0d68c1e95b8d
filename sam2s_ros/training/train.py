"""`sam2s train`: train a network from one configuration file; interrupted runs go on where they were."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

from sam2s_ros.data.out_lock import locked
from sam2s_ros.training.config import TrainConfig, read_train_config

HELP = "train a network from a configuration file; the same command goes on with a run that was interrupted"


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
    parser.add_argument("--devices", type=int, help="processes on this machine (default: 1, or torchrun's)")
    parser.add_argument("--nodes", type=int, help="machines (default: 1, or torchrun's)")
    parser.add_argument(
        "--accelerator",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="default: %(default)s",
    )
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=600.0,
        help="seconds after which a process that waits for another gives up (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Train; 0 when all steps are done.

    Raises:
        FileNotFoundError: data that the configuration names is missing.
        ValueError: settings that are wrong, do not fit one another or those of the run that is gone on with; or another
            run writes into the folder.
        ConnectionError: another process of the run ended.
    """
    config = read_train_config(args.config)
    check_data(config, args.data)
    from sam2s_ros.training.peers import Peers
    from sam2s_ros.training.processes import is_first, make_fabric, shut_down
    from sam2s_ros.training.validation import check_validation

    fabric = make_fabric(config, args.accelerator, args.devices, args.nodes, args.timeout_s)
    if args.out.exists() and not args.out.is_dir():
        raise FileExistsError(f"--out {args.out} is a file; name a folder")
    if os.environ.get("LOCAL_RANK", "0") == "0":
        check_validation(config, args.data)
        check_sources(config, args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    peers = Peers(fabric, resumption())
    alone = locked(args.out, "train") if is_first(fabric) else nullcontext()
    with alone, peers.named():
        peers.launch()
        from sam2s_ros.training.run import train

        train(config, fabric, args.data.resolve(), args.out.resolve(), args.licence)
        shut_down(fabric)
    return 0


def resumption() -> str:
    """How a run that is cut off goes on, as its error says it: the command that this process was called with."""
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    command = "the same torchrun command" if torchrun else f"`{shlex.join(['sam2s', *sys.argv[1:]])}`"
    return (
        f"once the cause is mended, {command} goes on from the last checkpoint in --out, "
        "or begins anew where there is none"
    )


def check_sources(config: TrainConfig, data: Path) -> None:
    """Errors as those of `check_files`, where a file of the videos to train on is damaged: it may be drawn late."""
    from sam2s_ros.data.clips import folder_of
    from sam2s_ros.data.whole_files import check_files

    folders = [folder_of(name) for name in (*config.sources, *config.image_sources)]
    for folder in dict.fromkeys(folder for folder in folders if folder is not None):
        check_files(data / folder)


def check_data(config: TrainConfig, data: Path) -> None:
    """FileNotFoundError where weights, a class bank, a source or the validation have nothing to read."""
    for setting in ("init", "class_bank"):
        path = getattr(config, setting)
        if path and not Path(path).expanduser().is_file():
            raise FileNotFoundError(
                f"{setting}: there is no file {path}; name one, from the folder that the command is called in"
            )
    from sam2s_ros.data.clips import PROCEDURAL, folder_of

    named = {f"sources: {name}": folder_of(name) for name in (*config.sources, *config.image_sources)}
    if config.validation:
        named[f"validation: {config.validation}"] = folder_of(config.validation)
    rendered = [name for name in (*config.sources, *config.image_sources) if folder_of(name) is None]
    if (set(rendered) - {PROCEDURAL} or not config.sources) and not (data / "train").is_dir():
        raise FileNotFoundError(f"--data {data}: no folder 'train' inside; give the folder that holds it")
    for what, folder in named.items():
        if folder is not None and not (data / folder).is_dir():
            raise FileNotFoundError(f"{what}: {data / folder} is not a folder")
