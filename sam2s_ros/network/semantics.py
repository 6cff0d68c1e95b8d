"""Temporal semantic learning (SAM2S, arXiv 2511.16618, section 4.3), and what else SAM2S adds to SAM 2.1's weights.

A class token asks the memory what the object is, then goes through the mask decoder with the other tokens; or, beside
the masks, a class map of the frame is read where the object is (`class_map`). What comes out is compared with the text
embeddings of the class bank. Where the paper leaves the wiring open, it is as in docs/architecture.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.network.class_bank import ClassBank
from sam2s_ros.network.class_map import ClassMap, ClassReader
from sam2s_ros.network.config import NetworkConfig

PREFIX = "sam2s."
CLASS_PREFIX = f"{PREFIX}class_"
"""Begins the state-dict keys of temporal semantic learning: a file has all of them or none."""
CLASS_MAP_WIDTH = f"{CLASS_PREFIX}map.coarse.bias"
"""State-dict key of a network with a class map, [class_map_dim]."""
LONG_TERM_TPOS = "sam2s.long_term_tpos"
"""State-dict key of the long-term entries' temporal embedding, [1, 1, 1, Cm]."""
TOKEN_SCALE = 0.02
"""Standard deviation of the class token's first values: small beside the decoder's own tokens."""


class Sam2sParts(nn.Module):
    """The state dict's keys under `sam2s.`: none for a network that is SAM 2.1's alone.

    Args:
        config: says which parts there are.
        conditioning: [1, 1, 1, Cm] what the long-term entries' temporal embedding starts as.
    """

    long_term_tpos: nn.Parameter | None
    class_token: nn.Parameter | None
    class_map: ClassMap | None
    class_reader: ClassReader | None
    class_embeddings: Tensor | None

    def __init__(self, config: NetworkConfig, conditioning: Tensor) -> None:
        super().__init__()
        c, d, k = config.hidden_dim, config.semantic_dim, len(config.class_names)
        self.long_term_tpos = nn.Parameter(conditioning.clone()) if config.long_term else None
        token, width = config.has_class_token, config.class_map_dim
        self.class_token = nn.Parameter(torch.randn(1, 1, c) * TOKEN_SCALE) if token else None
        self.class_projection = nn.Linear(c, d) if token else None
        self.class_map = ClassMap(c, width) if width else None
        self.class_reader = ClassReader(width, d) if width else None
        self.register_buffer("class_embeddings", F.normalize(torch.randn(k, d), dim=1) if d else None)

    def put_class_bank(self, bank: ClassBank) -> None:
        """Compare with these embeddings [K, D] from now on."""
        self.class_embeddings = bank.embeddings.detach().float().clone()

    def embedding(self, token: Tensor | None, class_map: Tensor | None, logits: Tensor) -> Tensor | None:
        """What N objects are, [N, D] of length 1; None for a network that knows no class.

        Args:
            token: [N, C] class token as it left the mask decoder, or None.
            class_map: [N or 1, D + heads, 2h, 2w] of the frame, or None.
            logits: [N, 4h, 4w] masks, of absent objects too.
        """
        if self.class_reader is not None:
            assert class_map is not None
            return self.class_reader(class_map, logits)
        if token is None or self.class_projection is None:
            return None
        return F.normalize(self.class_projection(token), dim=-1)
