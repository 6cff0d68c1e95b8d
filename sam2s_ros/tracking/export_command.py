"""`sam2s export`: a model's graphs, as an engine on a GPU runs them, become ONNX files with a manifest."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2s_ros.engines.export import (
    DEVICE_PRECISIONS,
    WHAT,
    device_fingerprint,
    graph_files,
    load_device_graphs,
)
from sam2s_ros.engines.folder_cache import MANIFEST, write_folder
from sam2s_ros.tracking.loader import load_network

HELP = "write a model's graphs for a GPU as ONNX files, with a manifest of what they were made from"


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; must be new or empty")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which network, at which size and precision."""
    parser.add_argument("--model", default="nano", help="preset, or weights file (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="weights for the preset --model")
    parser.add_argument(
        "--size",
        type=int,
        default=0,
        metavar="N",
        help="side of the network's input, a multiple of 32; default: the model's own",
    )
    parser.add_argument(
        "--precision",
        choices=DEVICE_PRECISIONS,
        default="fp16",
        help="of image encoder, memory attention and memory encoder (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Export and print what was written.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError, OSError: the model cannot be loaded, or the folder not be written.
    """
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise FileExistsError(f"{args.out} exists and is not an empty folder; name another one")
    network = load_network(args.model, args.checkpoint, args.size)
    graphs = load_device_graphs(network, args.precision)
    made_from = device_fingerprint(network, args.precision == "fp16")
    write_folder(args.out.resolve(), graph_files(graphs), made_from, WHAT)
    for name, graph in graphs.items():
        print(f"{args.out / name}.onnx: {len(graph.model):,} bytes")
    print(f"{args.out / MANIFEST}: {network.config.name}, {network.config.image_size} px, {args.precision}")
    return 0
