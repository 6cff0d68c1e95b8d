"""Weights on disk: read safely, fitted strictly, written with their origin and a checksum.

Two kinds of file are read: safetensors, and PyTorch files (`.pt`, `.pth`) through
`torch.load(weights_only=True)`, which never runs code from the file. Whatever is wrong with a file ends in
one `CheckpointError` that names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from sam2s_ros.network.class_bank import CLASS_EMBEDDINGS, METADATA_KEY, ClassBank, read_class_bank
from sam2s_ros.network.fit import (
    fitting_preset,
    list_misfits,
    misfits_of_closest,
    shapes_with_parts_of,
)
from sam2s_ros.network.sam2 import Sam2Network
from sam2s_ros.network.semantics import CLASS_PREFIX, LONG_TERM_TPOS

FORMAT_VERSION = 1
SAFETENSORS_SUFFIX = ".safetensors"
PYTORCH_SUFFIXES = (".pt", ".pth")
UNKNOWN_LICENCE = "unknown"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights may be stored in."""


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message names the file, what is wrong and the likely fix."""


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a file written by `save_checkpoint` says about its weights."""

    preset: str
    """A key of `PRESETS`."""
    licence: str
    """SPDX identifier or name; "unknown" for a file that does not say."""
    weights_sha256: str
    """`weights_sha256` of the tensors in the file."""
    format_version: int = FORMAT_VERSION
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further facts, any JSON: training commit, data, metrics. `class_bank`: `ClassBank.facts` of weights with one."""


def load_checkpoint(network: Sam2Network, path: str | Path) -> CheckpointMetadata:
    """Load weights into a network, all of them or none.

    Floating-point tensors of another precision are converted to the network's. Where the network has long-term
    memory and the file has not, its temporal embedding starts as that of the conditioning frames; where it knows
    classes and the file does not, its parts for that stay as they are.

    Args:
        network: receives the weights.
        path: a safetensors file, or a PyTorch file holding a state dict or `{"model": state dict}`, the
            layout of the official SAM 2.1 files.

    Returns:
        The file's metadata; without any, the network's preset, licence "unknown" and the computed checksum.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not readable, or missing, unexpected, mis-shaped or non-finite tensors, or a class bank whose
            names are not the network's.
    """
    path = _existing_file(path)
    state = read_state(path)
    own = network.state_dict()
    of_classes = set() if _class_keys(state) else _class_keys(own)
    lacking = {LONG_TERM_TPOS} - state.keys() | of_classes
    expected = {name: shape for name, shape in _shapes(own).items() if name not in lacking}
    misfits = list_misfits(_shapes(state), expected)
    if misfits:
        raise CheckpointError(f"{path} does not fit the network {network.config.name}:\n{misfits}")
    _check_values(path, state)
    metadata = read_metadata(path)
    checksum = weights_sha256(state)
    if metadata is None:
        metadata = CheckpointMetadata(network.config.name, UNKNOWN_LICENCE, checksum)
    elif metadata.weights_sha256 != checksum:
        raise CheckpointError(
            f"{path} is damaged: its tensors have SHA-256 {checksum}, its header says "
            f"{metadata.weights_sha256}; fetch or convert it again"
        )
    if CLASS_EMBEDDINGS in state:
        bank = _class_bank(path, metadata.extra, state)
        if bank.names != network.config.class_names:
            raise CheckpointError(f"{path} has other classes, or others in another order, than the network")
    if network.config.long_term and LONG_TERM_TPOS not in state:
        state[LONG_TERM_TPOS] = state["maskmem_tpos_enc"][-1:]
    state |= {name: own[name] for name in of_classes}
    network.load_state_dict(state, strict=True)
    return metadata


def save_checkpoint(
    path: str | Path,
    state: Mapping[str, Tensor],
    preset: str,
    licence: str,
    extra: Mapping[str, Any] | None = None,
) -> CheckpointMetadata:
    """Write a state dict as safetensors with metadata; the same input gives the same bytes.

    The file appears at once, complete, or not at all.

    Args:
        path: ends in `.safetensors`; its folder is created.
        state: must have exactly the preset's keys and shapes, with or without the parts of SAM2S.
        preset: a key of `PRESETS`.
        licence: SPDX identifier or name.
        extra: further facts, JSON-serialisable; with class embeddings, `class_bank` says whose (`ClassBank.facts`).

    Raises:
        CheckpointError: another suffix, an unknown preset, no licence, tensors that do not fit the preset, or class
            embeddings without their names.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix != SAFETENSORS_SUFFIX:
        raise CheckpointError(
            f"weights are written as safetensors; name the file {path.stem}{SAFETENSORS_SUFFIX}"
        )
    if not licence.strip():
        raise CheckpointError("weights need a licence; give its SPDX identifier, such as Apache-2.0")
    misfits = list_misfits(_shapes(state), shapes_with_parts_of(preset, _shapes(state)))
    if misfits:
        raise CheckpointError(f"the tensors for {path} do not fit preset {preset}:\n{misfits}")
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    _check_values(path, tensors)
    if CLASS_EMBEDDINGS in tensors:
        _class_bank(path, extra or {}, tensors)
    metadata = CheckpointMetadata(preset, licence.strip(), weights_sha256(tensors), extra=dict(extra or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(_sorted_header(save(tensors, _metadata_to_strings(metadata))))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return metadata


def read_metadata(path: str | Path) -> CheckpointMetadata | None:
    """What the file says about itself; None for a file that `save_checkpoint` did not write.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: a broken file, or one of a newer format version.
    """
    path = _existing_file(path)
    if path.suffix != SAFETENSORS_SUFFIX:
        return None
    strings = _read_safetensors_header(path)[0]
    if not {"preset", "licence", "weights_sha256", "format_version"} <= strings.keys():
        return None
    try:
        version = int(strings["format_version"])
        extra = json.loads(strings.get("extra", "{}"))
        if not isinstance(extra, dict):
            raise ValueError(f"extra is a JSON {type(extra).__name__}, not an object")
    except ValueError as error:
        raise CheckpointError(
            f"{path} has metadata that cannot be read ({error}); convert it again"
        ) from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}; this program knows up to {FORMAT_VERSION}, update it"
        )
    return CheckpointMetadata(
        strings["preset"], strings["licence"], strings["weights_sha256"], format_version=version, extra=extra
    )


def detect_preset(path: str | Path) -> str:
    """The preset whose keys and shapes a file has, told without loading its tensors into memory.

    Where several presets share them, the one the file's metadata names is taken.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: a broken file, or one that fits no preset.
    """
    shapes = read_shapes(path)
    metadata = read_metadata(path)
    preset = fitting_preset(shapes, preferred=metadata.preset if metadata else None)
    if preset is None:
        raise CheckpointError(f"{path} fits no preset. {misfits_of_closest(shapes)}")
    return preset


def read_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's tensors, told without loading them into memory.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: a broken file.
    """
    path = _existing_file(path)
    if path.suffix == SAFETENSORS_SUFFIX:
        return _read_safetensors_header(path)[1]
    return _shapes(_read_pytorch(path, device="meta"))


def read_state(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU, in the file's precision.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: not a safetensors or PyTorch file, cut short, or holding more than tensors.
    """
    path = _existing_file(path)
    if path.suffix != SAFETENSORS_SUFFIX:
        return _read_pytorch(path, device="cpu")
    _read_safetensors_header(path)
    return load_file(path)


def read_checkpoint_bank(path: str | Path) -> ClassBank | None:
    """The class bank of a weights file; None for one without.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: a broken file, or embeddings without the names of their rows.
    """
    path = _existing_file(path)
    if CLASS_EMBEDDINGS not in read_shapes(path):
        return None
    if path.suffix != SAFETENSORS_SUFFIX:
        return _class_bank(path, {}, read_state(path))
    try:
        return read_class_bank(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of the tensors' bytes (row-major, little-endian), in the sorted order of their keys."""
    digest = hashlib.sha256()
    for name in sorted(state):
        flat = state[name].detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _class_bank(path: Path, extra: Mapping[str, Any], state: Mapping[str, Tensor]) -> ClassBank:
    try:
        return ClassBank.from_facts(extra.get(METADATA_KEY), state[CLASS_EMBEDDINGS])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _existing_file(path: str | Path) -> Path:
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the weights file in it")
    if not path.exists():
        raise FileNotFoundError(f"no weights file {path}")
    if path.suffix not in (SAFETENSORS_SUFFIX, *PYTORCH_SUFFIXES):
        known = ", ".join((SAFETENSORS_SUFFIX, *PYTORCH_SUFFIXES))
        raise CheckpointError(f"{path} has no suffix of a weights file; known are {known}")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise CheckpointError(f"{path} is empty; fetch it again")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull`")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(f"{path} is a web page, not weights; download the file itself")
    return path


def _read_safetensors_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Metadata strings and shapes."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            return file.metadata() or {}, shapes
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}); fetch or convert it again"
        ) from error


def _read_pytorch(path: Path, device: str) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # the unpickler fails in many ways on damaged input; all mean the same here
        raise CheckpointError(f"{path} {_why_unpickling_failed(error)}") from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no state dict; expected one, or one under the key 'model'")
    strange = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(
            f"{path} holds entries that are no tensors ({', '.join(strange[:5])}); "
            "expected a state dict, or one under the key 'model'"
        )
    return {str(name): tensor for name, tensor in state.items()}


def _why_unpickling_failed(error: Exception) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code:
        return (
            f"asks to run code on loading ({code.group(1)}), which is never done; "
            "export its state dict alone with torch.save, or as safetensors, where you trust it"
        )
    return f"is not a complete PyTorch file ({type(error).__name__}); fetch it again"


def _check_values(path: Path, state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.dtype not in DTYPES:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            raise CheckpointError(
                f"{path}: {name} is {tensor.dtype}; weights must be floating-point of 16 bits or more: {known}"
            )
        if tensor.layout != torch.strided:
            raise CheckpointError(f"{path}: {name} is sparse ({tensor.layout}); save it with to_dense()")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{path}: {name} holds NaN or infinity; the file is damaged or training diverged"
            )


def _class_keys(state: Mapping[str, Tensor]) -> set[str]:
    return {name for name in state if name.startswith(CLASS_PREFIX)}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _metadata_to_strings(metadata: CheckpointMetadata) -> dict[str, str]:
    return {
        "format": "pt",  # the framework, as other readers of safetensors expect it
        "format_version": str(metadata.format_version),
        "preset": metadata.preset,
        "licence": metadata.licence,
        "weights_sha256": metadata.weights_sha256,
        "extra": json.dumps(metadata.extra, sort_keys=True),
    }


def _sorted_header(content: bytes) -> bytes:
    """The same file with its metadata in a fixed order; the library writes it in any order."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
