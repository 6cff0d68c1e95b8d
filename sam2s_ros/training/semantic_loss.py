"""Temporal semantic learning's loss (SAM2S, arXiv 2511.16618, section 4.3): which class of the bank an object is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

UNLABELLED = -1
"""Row of an object whose class is not known, or not in the bank."""


@dataclass(frozen=True)
class SemanticSamples:
    """One decoder pass over N objects."""

    embeddings: Tensor
    """[N, D] of length 1."""
    rows: Tensor
    """int64 [N] row of the bank, `UNLABELLED` without a class."""
    present: Tensor
    """bool [N] whether the object is in view; what is not seen teaches nothing."""


def info_nce(embeddings: Tensor, bank: Tensor, rows: Tensor, scale: float) -> Tensor:
    """Cross-entropy of scaled cosines with all K classes (InfoNCE), [N, D] and [K, D] of length 1 -> [N].

    The paper says tau = 100 "following OVSeg" and prints a division; OVSeg multiplies, and so do we (`scale`).
    """
    return F.cross_entropy(scale * embeddings @ bank.T, rows, reduction="none")


def semantic_loss(samples: Sequence[SemanticSamples], bank: Tensor, scale: float) -> tuple[Tensor, float]:
    """Mean InfoNCE over the labelled objects in view of all passes, and the share of them whose class comes first.

    Without a single one the loss is 0, with a gradient of 0, and the share NaN.
    """
    embeddings = torch.cat([one.embeddings for one in samples])
    rows = torch.cat([one.rows for one in samples])
    counted = torch.cat([one.present for one in samples]) & (rows != UNLABELLED)
    if not counted.any():
        return embeddings.sum() * 0, math.nan
    embeddings, rows = embeddings[counted], rows[counted]
    first = (embeddings.detach() @ bank.T).argmax(dim=1)
    return info_nce(embeddings, bank, rows, scale).mean(), float((first == rows).float().mean())
