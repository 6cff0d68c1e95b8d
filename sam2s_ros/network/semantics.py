"""Temporal semantic learning (SAM2S, arXiv 2511.16618, section 4.3), and what else SAM2S adds to SAM 2.1's weights.

A class token asks the memory what the object is, then goes through the mask decoder with the other tokens; or, beside
the masks, a reader of its own looks at the image where the object is (`class_reader`). What comes out is compared with
the text embeddings of the class bank. Where the paper leaves the wiring open, it is as in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.class_bank import ClassBank
from sam2s_ros.network.class_reader import ClassReader
from sam2s_ros.network.config import NetworkConfig

PREFIX = "sam2s."
CLASS_PREFIX = f"{PREFIX}class_"
"""Begins the state-dict keys of temporal semantic learning: a file has all of them or none."""

LONG_TERM_TPOS = "sam2s.long_term_tpos"
"""State-dict key of the long-term entries' temporal embedding, [1, 1, 1, Cm]."""
TOKEN_SCALE = 0.02
"""Standard deviation of the class token's first values: small beside the decoder's own tokens."""


def has_class_reader(names: Iterable[str]) -> bool:
    """Whether these state-dict keys are those of a network with a class reader."""
    return any(name.startswith(f"{CLASS_PREFIX}reader.") for name in names)


class Sam2sParts(nn.Module):
    """The state dict's keys under `sam2s.`: none for a network that is SAM 2.1's alone.

    Args:
        config: says which parts there are.
        conditioning: [1, 1, 1, Cm] what the long-term entries' temporal embedding starts as.
    """

    long_term_tpos: nn.Parameter | None
    class_token: nn.Parameter | None
    class_reader: ClassReader | None
    class_embeddings: Tensor | None

    def __init__(self, config: NetworkConfig, conditioning: Tensor) -> None:
        super().__init__()
        c, d, k = config.hidden_dim, config.semantic_dim, len(config.class_names)
        self.long_term_tpos = nn.Parameter(conditioning.clone()) if config.long_term else None
        token = config.has_class_token
        self.class_token = nn.Parameter(torch.randn(1, 1, c) * TOKEN_SCALE) if token else None
        self.class_projection = nn.Linear(c, d) if token else None
        self.class_reader = ClassReader(d) if config.class_reader else None
        self.register_buffer("class_embeddings", F.normalize(torch.randn(k, d), dim=1) if d else None)

    def put_class_bank(self, bank: ClassBank) -> None:
        """Compare with these embeddings [K, D] from now on."""
        self.class_embeddings = bank.embeddings.detach().float().clone()

    def embedding(self, token: Tensor | None) -> Tensor | None:
        """The class token [N, C] as it left the mask decoder -> [N, D] of length 1; None without one."""
        if token is None or self.class_projection is None:
            return None
        return F.normalize(self.class_projection(token), dim=-1)

    def read(self, pixels: Tensor | None, logits: Tensor) -> Tensor | None:
        """What a class reader says of masks [N, 4h, 4w] in a normalised image [1 or N, 3, S, S], [N, D] of length 1.

        None without a reader or an image.
        """
        return None if self.class_reader is None or pixels is None else self.class_reader(pixels, logits)
