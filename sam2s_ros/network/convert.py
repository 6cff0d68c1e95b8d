"""`sam2s convert`: a checkpoint becomes a safetensors file that says what it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2s_ros.network.checkpoint import (
    CheckpointError,
    detect_preset,
    read_metadata,
    read_state,
    save_checkpoint,
)
from sam2s_ros.network.presets import PRESETS

HELP = "turn a SAM 2.1 checkpoint into safetensors with preset, licence and checksum"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, help="official .pt file, or .safetensors")
    parser.add_argument("output", type=Path, help=".safetensors file to write")
    parser.add_argument("--preset", choices=sorted(PRESETS), help="default: told from names and shapes")
    parser.add_argument(
        "--licence", "--license", help="licence of the weights (SPDX identifier); default: the input's own"
    )
    parser.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="further fact to store, such as source=... (repeatable)",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing output")


def run(args: argparse.Namespace) -> int:
    """Convert and print what was written.

    Raises:
        FileNotFoundError, CheckpointError: see `read_state` and `save_checkpoint`.
        FileExistsError: the output exists and `--force` was not given.
    """
    if args.output.exists() and not args.force:
        raise FileExistsError(f"{args.output} exists; give --force to replace it")
    notes = _parse_notes(args.note)
    known = read_metadata(args.input)
    licence = args.licence or (known.licence if known else None)
    if licence is None:
        raise CheckpointError(
            f"{args.input} does not say its licence; give --licence (official SAM 2.1 weights: Apache-2.0)"
        )
    state = read_state(args.input)
    metadata = save_checkpoint(
        args.output,
        state,
        preset=args.preset or detect_preset(args.input),
        licence=licence,
        extra={**(known.extra if known else {}), **notes},
    )
    parameters = sum(tensor.numel() for tensor in state.values())
    print(f"{args.output}: {len(state)} tensors, {parameters:,} values, {args.output.stat().st_size:,} bytes")
    print(f"preset  {metadata.preset}\nlicence {metadata.licence}\nsha256  {metadata.weights_sha256}")
    return 0


def _parse_notes(notes: list[str]) -> dict[str, str]:
    pairs = [note.partition("=") for note in notes]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise ValueError(f"--note {key!r} is not KEY=VALUE")
    return {key: value for key, _, value in pairs}
