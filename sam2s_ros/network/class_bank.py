"""The class bank: names of instrument and tissue classes and the text embedding of each, never one alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

CLASS_EMBEDDINGS = "sam2s.class_embeddings"
"""State-dict key of the bank's embeddings, [K, D]; the tensor's name in a bank's own file too."""
METADATA_KEY = "class_bank"
"""Where a file's metadata say what the rows of `CLASS_EMBEDDINGS` are."""


@dataclass(frozen=True)
class ClassBank:
    """K classes that an object can have."""

    names: tuple[str, ...]
    """Distinct; the name of each row."""
    embeddings: Tensor
    """[K, D] of length 1."""
    encoder: str
    """Name and version of the text encoder. Embeddings of two encoders cannot be compared."""
    template: str
    """What the encoder read for a class, with {} for its prompt text."""

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names) or not all(self.names):
            raise ValueError("class bank: names must be distinct, not empty, and at least one")
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.names):
            shape = list(self.embeddings.shape)
            raise ValueError(
                f"class bank: {len(self.names)} names for embeddings {shape}; each name needs one row"
            )
        lengths = self.embeddings.float().norm(dim=1)
        if not bool(((lengths - 1).abs() < 1e-2).all()):
            raise ValueError("class bank: the embeddings are not of length 1; make them with embed-classes")

    @property
    def dim(self) -> int:
        """D, channels of an embedding."""
        return int(self.embeddings.shape[1])

    def check_replaces(self, other: ClassBank) -> None:
        """ValueError when what was trained with `other` cannot be compared with this bank."""
        if (self.encoder, self.template, self.dim) != (other.encoder, other.template, other.dim):
            raise ValueError(
                f"the class bank is of {self.encoder}, {self.template!r}, {self.dim} channels; the weights were "
                f"trained with {other.encoder}, {other.template!r}, {other.dim}: embed the classes as these were"
            )

    def rows(self, names: tuple[str, ...]) -> list[int]:
        """Row of each name; -1 for "" and for a name that is no class of the bank."""
        known = {name: row for row, name in enumerate(self.names)}
        return [known.get(name, -1) for name in names]

    def facts(self) -> dict[str, Any]:
        """What a weights file says beside the embeddings, as JSON; `sha256` ties the names to their rows."""
        return {
            "names": list(self.names),
            "encoder": self.encoder,
            "template": self.template,
            "sha256": _checksum(self.names, self.embeddings),
        }

    @staticmethod
    def from_facts(facts: object, embeddings: Tensor) -> ClassBank:
        """The bank of embeddings [K, D] and what `facts` said of them.

        Raises:
            ValueError: no facts, or facts of other embeddings or other names.
        """
        if not isinstance(facts, Mapping) or not {"names", "encoder", "template", "sha256"} <= facts.keys():
            raise ValueError("class embeddings without the names of their rows (metadata class_bank)")
        names = tuple(str(name) for name in facts["names"])
        if facts["sha256"] != _checksum(names, embeddings):
            raise ValueError(
                f"the names of the class bank ({len(names)}) do not belong to these embeddings "
                f"{list(embeddings.shape)}: their checksum differs; take the file from its source again"
            )
        return ClassBank(names, embeddings, str(facts["encoder"]), str(facts["template"]))


def write_class_bank(path: str | Path, bank: ClassBank) -> None:
    """Write a bank as one small safetensors file; the same bank gives the same bytes.

    Raises:
        ValueError: the path does not end in `.safetensors`.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix != ".safetensors":
        raise ValueError(f"a class bank is written as safetensors; name the file {path.stem}.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {CLASS_EMBEDDINGS: bank.embeddings.detach().contiguous()}
    path.write_bytes(save(tensors, metadata={METADATA_KEY: json.dumps(bank.facts(), sort_keys=True)}))


def read_class_bank(path: str | Path) -> ClassBank:
    """Read what `write_class_bank` wrote, or the bank of a weights file that has one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no class bank, or one whose names and embeddings do not belong together.
    """
    path = Path(os.path.expanduser(path))
    if not path.exists():
        raise FileNotFoundError(f"no class bank {path}; make one with `sam2s embed-classes`")
    try:
        with safe_open(path, framework="pt") as file:
            strings = file.metadata() or {}
            embeddings = file.get_tensor(CLASS_EMBEDDINGS) if CLASS_EMBEDDINGS in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no safetensors file with a class bank ({error})") from error
    if embeddings is None:
        raise ValueError(f"{path} has no class bank (no tensor {CLASS_EMBEDDINGS})")
    try:
        if METADATA_KEY in strings:
            facts = json.loads(strings[METADATA_KEY])
        else:
            facts = json.loads(strings.get("extra", "{}")).get(METADATA_KEY)
        return ClassBank.from_facts(facts, embeddings)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _checksum(names: tuple[str, ...], embeddings: Tensor) -> str:
    """SHA-256 (hex) of the names, in order, and of the embeddings' bytes."""
    digest = hashlib.sha256(json.dumps(names).encode())
    digest.update(embeddings.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
