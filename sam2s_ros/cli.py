"""The console script `sam2s`: one table of subcommands, each in a module that is imported when it is called.

A subcommand's module has `HELP: str`, `configure(parser: argparse.ArgumentParser) -> None` and
`run(args) -> int` (the exit status). A mistake of the user is raised as `ValueError` or `OSError` with a message
that says what to do.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from sam2s_ros import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "ablate": ("sam2s_ros.training.ablate", "train variants of one recipe and compare them"),
    "bag": (
        "sam2s_ros.evaluation.bag_command",
        "make a bag of a video or of images, or add ground truth to one",
    ),
    "bench": ("sam2s_ros.nodes.bench", "measure tracker steps per second and the rate of images through DDS"),
    "build-engine": (
        "sam2s_ros.tracking.build_command",
        "compile a model for this machine's NVIDIA GPU with TensorRT",
    ),
    "calibrate": (
        "sam2s_ros.evaluation.calibration",
        "compare predicted with true IoU, to choose thresholds on the predicted one",
    ),
    "compare": (
        "sam2s_ros.evaluation.compare",
        "paired differences between two evaluations of the same videos",
    ),
    "convert": ("sam2s_ros.network.convert", "turn a SAM 2 checkpoint into safetensors"),
    "data": ("sam2s_ros.cli_data", "convert, check, count, label and look at data sets; render surgeries"),
    "demo": ("sam2s_ros.nodes.demo", "replay the bundled bag through the tracker node and score it"),
    "embed-classes": (
        "sam2s_ros.training.embed_classes",
        "embed the names of the instrument bank with a text encoder",
    ),
    "evaluate": (
        "sam2s_ros.evaluation.command",
        "score a tracker and the baselines on bags, videos or image folders",
    ),
    "export": ("sam2s_ros.tracking.export_command", "write a model's graphs for a GPU as ONNX files"),
    "prompt": ("sam2s_ros.nodes.prompt_command", "call the services of a running tracker node"),
    "train": ("sam2s_ros.training.train", "train weights from one configuration file"),
}
"""Subcommand -> (module, one line for `sam2s --help`)."""


LIVE = "sam2s_ros.nodes.live_evaluation"
"""What `sam2s evaluate --mode live` needs ROS for, imported when that is asked for."""


class _Live:
    """The module LIVE, imported at its first use: `evaluate` may not know ROS."""

    def __getattr__(self, name: str) -> object:
        return getattr(importlib.import_module(LIVE), name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sam2s` with `argv` (default: the process's); return the exit status, 2 for a user's mistake, 141 when who
    reads what is printed has gone."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    parser = argparse.ArgumentParser(prog="sam2s", description="Streaming segmentation of surgical video.")
    parser.add_argument("--version", action="version", version=f"sam2s {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, (module, summary) in COMMANDS.items():
        if command == name:
            implementation = importlib.import_module(module)
            subparser = subparsers.add_parser(command, help=summary, description=implementation.HELP)
            implementation.configure(subparser)
            subparser.set_defaults(run=implementation.run, live=_Live())
        else:
            subparsers.add_parser(command, help=summary, add_help=False)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        if args.traceback:
            raise
        print(f"sam2s: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sam2s: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
