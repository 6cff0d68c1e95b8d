"""The network as graphs that export: the same numbers as its modules, to the rounding of float32.

Every graph is a module over plain tensors, of which the example inputs say the shapes. Sizes are fixed but for those
named in `DIMENSIONS`: objects N, memory entries M and pointers P that each reads, points K and prompt tokens T of each.
L = h * w.

What differs from the network's modules, none of it in the result:

- rotations are real-valued: a turned projection times the sine is added to the projection times the cosine;
- attention averages the memory's few channels, and both projections of values come after;
- what does not depend on the object happens once, in `encode`: the first self-attention over the frame's features, the
  memory encoder's projection of them, and f0 and f1 in the order in which the decoder's upscaling makes its pixels;
- of the mask hypotheses only the chosen one becomes a mask.

Of a network with a class token, `encode`, `attend` and `decode` hand it on: each has one more output, the last two one
more input. Of one with a class reader, `encode` gives the normalised image, and
there is one more graph, `read`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sam2s_ros.engines.graph_layers import (
    CrossAttention,
    Fusion,
    MaskConvolution,
    Phases,
    SelfAttention,
    TokenCrossAttention,
    TokenSelfAttention,
    Upscaling,
)
from sam2s_ros.network.layers import LayerNorm2d
from sam2s_ros.network.memory_attention import MemoryAttentionLayer
from sam2s_ros.network.memory_encoder import FuserBlock
from sam2s_ros.network.position import sine_encoding_1d
from sam2s_ros.network.sam2 import INVALID_BIAS, NO_OBJECT_LOGIT, Sam2Network

GRAPH_VERSION = 2
"""Raised when a graph computes something else, or has other inputs or outputs; files made before are then not used."""
DIMENSIONS = {"n": 256, "m": 64, "p": 64, "k": 1024, "t": 1025}
"""Dimensions that vary from call to call, and the most that each can be."""

Example = dict[str, tuple[Tensor, tuple[str, ...]]]
"""Input name -> an example, and the names in `DIMENSIONS` of its leading dimensions."""


class Graph(nn.Module):
    """One graph: `forward` takes the tensors of `example()` in its order and gives those named in `outputs`."""

    name: ClassVar[str]
    outputs: tuple[str, ...]
    """A graph of a network that knows classes may have more than its class says."""

    def __init__(self, network: Sam2Network) -> None:
        super().__init__()
        self.config = network.config
        self.has_token = network.config.has_class_token
        self.has_reader = network.config.class_reader

    def example(self) -> Example:
        """Inputs by name; N = 2, M = 3, P = 5, K = 4, T = 3 where they occur."""
        raise NotImplementedError


class EncodeGraph(Graph):
    """A frame's features, and all of the later graphs' work on them that no object has a part in.

    Gives f0 [1, L, 16, C/8] and f1 [1, L, 4, C/4] (by stride-16 cell, then in the order of upscaling), f2 [1, C, h, w],
    `attended` [1, L, C]: f2 after the first self-attention of memory attention, and `projected` [1, C, h, w]: f2 as the
    memory encoder adds it to the mask; also `token` [1, 1, C], the class token after that self-attention, or
    the normalised image `pixels` [1, 3, S, S].
    """

    name = "encode"
    outputs: tuple[str, ...] = ("f0", "f1", "f2", "attended", "projected")

    scale: Tensor
    offset: Tensor
    position: Tensor
    class_token: Tensor

    def __init__(self, network: Sam2Network) -> None:
        super().__init__(network)
        mean, std = torch.tensor(network.config.image_mean), torch.tensor(network.config.image_std)
        self.register_buffer("scale", (1 / (255 * std))[:, None, None])
        self.register_buffer("offset", (-mean / std)[:, None, None])
        self.register_buffer("position", 0.1 * network.feature_position)
        self.image_encoder = network.image_encoder
        self.conv_s0 = network.sam_mask_decoder.conv_s0
        self.conv_s1 = network.sam_mask_decoder.conv_s1
        self.phases = Phases(network.memory_attention.rotation)
        self.self_attention = SelfAttention(_layers(network)[0])
        self.projection = network.memory_encoder.pix_feat_proj
        if self.has_token:
            self.outputs = (*self.outputs, "token")
            self.token_attention = TokenSelfAttention(_layers(network)[0])
            self.register_buffer("class_token", _class_token(network))
        if self.has_reader:
            self.outputs = (*self.outputs, "pixels")

    def example(self) -> Example:
        size = self.config.image_size
        return {"image": (torch.zeros(size, size, 3, dtype=torch.uint8), ())}

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = image.permute(2, 0, 1).float()[None]
        pixels = pixels * self.scale + self.offset
        f0, f1, f2 = self.image_encoder(pixels)
        x = f2.flatten(2).transpose(1, 2) + self.position
        attended = self.self_attention(x, self.phases())
        f0, f1 = self._by_cell(self.conv_s0(f0), 2), self._by_cell(self.conv_s1(f1), 1)
        token = (self.token_attention(self.class_token, x),) if self.has_token else ()
        return f0, f1, f2, attended, self.projection(f2), *token, *((pixels,) if self.has_reader else ())

    def _by_cell(self, x: Tensor, doublings: int) -> Tensor:
        """[1, D, h * 2^d, w * 2^d] -> [1, L, 4^d, D]: by cell, then by quarter of the cell, then by quarter of that."""
        side, channels = self.config.feature_size, x.shape[1]
        x = x.reshape(1, channels, side, *(2,) * doublings, side, *(2,) * doublings)
        rows, columns = range(2, 3 + doublings), range(3 + doublings, 4 + 2 * doublings)
        order = [axis for pair in zip(rows, columns, strict=True) for axis in pair]
        return x.permute(0, *order, 1).reshape(1, side * side, 4**doublings, channels)


class AttendGraph(Graph):
    """Condition a frame's features on each object's memory -> [N, L, C]; also the class token -> [N, 1, C].

    `memory` [N, M, L, Cm], `pointers` [N, P, C]; temporal index and distance as in `MemoryRead`; validity is 1 or 0.
    `attended` and `token` are those of `EncodeGraph`.
    """

    name = "attend"
    outputs: tuple[str, ...] = ("conditioned",)

    memory_position: Tensor
    temporal: Tensor

    def __init__(self, network: Sam2Network) -> None:
        super().__init__(network)
        layers = _layers(network)
        self.self_attentions = nn.ModuleList(SelfAttention(layer) for layer in layers[1:])
        self.cross_attentions = nn.ModuleList(CrossAttention(layer) for layer in layers)
        self.norm = network.memory_attention.norm
        self.phases = Phases(network.memory_attention.rotation)
        self.register_buffer("memory_position", network.memory_position.clone())
        self.register_buffer("temporal", network.temporal_embeddings().detach().flatten(1))
        self.pointer_position = network.obj_ptr_tpos_proj
        if self.has_token:
            self.outputs = (*self.outputs, "conditioned_token")
            self.token_self_attentions = nn.ModuleList(TokenSelfAttention(layer) for layer in layers[1:])
            self.token_cross_attentions = nn.ModuleList(TokenCrossAttention(layer) for layer in layers)

    def example(self) -> Example:
        config = self.config
        area, n, m, p = config.feature_size**2, 2, 3, 5
        token: Example = {"token": (torch.randn(1, 1, config.hidden_dim), ())} if self.has_token else {}
        return {
            "attended": (torch.randn(1, area, config.hidden_dim), ()),
            "memory": (torch.randn(n, m, area, config.memory_dim), ("n", "m")),
            "temporal_index": (torch.zeros(n, m, dtype=torch.int64), ("n", "m")),
            "valid": (torch.ones(n, m), ("n", "m")),
            "pointers": (torch.randn(n, p, config.hidden_dim), ("n", "p")),
            "pointer_distance": (torch.ones(n, p), ("n", "p")),
            "pointer_valid": (torch.ones(n, p), ("n", "p")),
            **token,
        }

    def forward(
        self,
        attended: Tensor,
        memory: Tensor,
        temporal_index: Tensor,
        valid: Tensor,
        pointers: Tensor,
        pointer_distance: Tensor,
        pointer_valid: Tensor,
        token: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        n, m, area, cm = memory.shape
        split = self.config.hidden_dim // cm
        tails = pointers.shape[1] * split
        position = self.memory_position + self.temporal[temporal_index][:, :, None]
        distance = sine_encoding_1d(pointer_distance / (self.config.max_pointers - 1), self.config.hidden_dim)
        pointer_position = self.pointer_position(distance)[:, :, None].expand(-1, -1, split, -1)
        tail = pointers.reshape(n, tails, cm)
        values = torch.cat((memory.reshape(n, m * area, cm), tail), dim=1)
        keys = torch.cat(
            ((memory + position).reshape(n, m * area, cm), tail + pointer_position.reshape(n, tails, cm)),
            dim=1,
        )
        usable = torch.cat(
            (
                valid[:, :, None].expand(-1, -1, area).reshape(n, m * area),
                pointer_valid[:, :, None].expand(-1, -1, split).reshape(n, tails),
            ),
            dim=1,
        )
        bias = ((1 - usable) * INVALID_BIAS)[:, None]
        phase, key_phase = self.phases(), self.phases.of_memory(m, tails)
        x = attended
        for number, cross_attention in enumerate(self.cross_attentions):
            if token is not None:
                if number > 0:
                    token = self.token_self_attentions[number - 1](token, x)
                token = self.token_cross_attentions[number](token, keys, values, bias)
            if number > 0:
                x = self.self_attentions[number - 1](x, phase)
            x = cross_attention(x, keys, values, phase, key_phase, bias)
        return self.norm(x) if token is None else (self.norm(x), self.norm(token))


class PromptGraph(Graph):
    """Prompts of N objects as the decoder takes them: `sparse` [N, K + 1, C] and `dense` [N, L, C].

    Points [N, K, 2] and labels int64 [N, K] as in `PromptBatch`, at least one (which may be none: -1). `mask`
    [N, 4h, 4w] is the dense prompt where `has_mask` [1] is 1, and does not matter where it is 0.
    """

    name = "prompt"
    outputs: tuple[str, ...] = ("sparse", "dense")

    def __init__(self, network: Sam2Network) -> None:
        super().__init__(network)
        self.prompts = network.sam_prompt_encoder

    def example(self) -> Example:
        size, n, k = self.config.mask_size, 2, 4
        return {
            "points": (torch.ones(n, k, 2), ("n", "k")),
            "labels": (torch.ones(n, k, dtype=torch.int64), ("n", "k")),
            "mask": (torch.randn(n, size, size), ("n",)),
            "has_mask": (torch.ones(1), ()),
        }

    def forward(
        self, points: Tensor, labels: Tensor, mask: Tensor, has_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        dense = self.prompts.dense(mask[:, None]).flatten(2).transpose(1, 2)
        absence = self.prompts.no_mask_embed.weight * (1 - has_mask)
        return self.prompts.sparse(points, labels), dense * has_mask + absence


class DecodeGraph(Graph):
    """Masks of N objects.

    `image` [N, L, C]: conditioned features with the dense prompt added; `sparse` [N, T, C]; `multimask` int64 [1]: 1 to
    choose among the ambiguous hypotheses, 0 to take the single one. Gives logits [N, 4h, 4w], iou [N], object_score
    [N, 1] and pointer [N, C], as the network's `Decoded`; from the class `token` [N, 1, C] also `embedding` [N, D].
    """

    name = "decode"
    outputs: tuple[str, ...] = ("logits", "iou", "object_score", "pointer")

    position: Tensor
    output_tokens: Tensor

    def __init__(self, network: Sam2Network) -> None:
        super().__init__(network)
        decoder = network.sam_mask_decoder
        self.decoder = decoder
        self.upscaling = Upscaling(decoder)
        self.pointer_projection, self.no_pointer = network.obj_ptr_proj, network.no_obj_ptr
        tokens = (decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight)
        position = network.sam_prompt_encoder.image_position().flatten(2).transpose(1, 2)
        self.register_buffer("position", position.detach().contiguous())
        self.register_buffer("output_tokens", torch.cat(tokens)[None].detach())
        self.parts = network.sam2s
        if self.has_token:
            self.outputs = (*self.outputs, "embedding")

    def example(self) -> Example:
        c, area = self.config.hidden_dim, self.config.feature_size**2
        token: Example = {"token": (torch.randn(2, 1, c), ("n",))} if self.has_token else {}
        return {
            "image": (torch.randn(2, area, c), ("n",)),
            "sparse": (torch.randn(2, 3, c), ("n", "t")),
            "f0": (torch.randn(1, area, 16, c // 8), ()),
            "f1": (torch.randn(1, area, 4, c // 4), ()),
            "multimask": (torch.ones(1, dtype=torch.int64), ()),
            **token,
        }

    def forward(
        self,
        image: Tensor,
        sparse: Tensor,
        f0: Tensor,
        f1: Tensor,
        multimask: Tensor,
        token: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        n, _, channels = image.shape
        decoder, side = self.decoder, self.config.feature_size
        given = (sparse,) if token is None else (token, sparse)
        tokens = torch.cat((self.output_tokens.expand(n, -1, -1), *given), dim=1)
        tokens, image = decoder.transformer(image, self.position, tokens)
        hypotheses = tokens[:, 2 : 2 + decoder.num_masks]
        object_score = decoder.pred_obj_score_head(tokens[:, 0])
        iou = decoder.iou_prediction_head(tokens[:, 1])
        best = (iou[:, 1:].argmax(dim=1, keepdim=True) + 1) * multimask
        heads = decoder.output_hypernetworks_mlps
        weights = torch.stack([head(hypotheses[:, i]) for i, head in enumerate(heads)], dim=1)
        weights = torch.gather(weights, 1, best[:, :, None].expand(-1, -1, channels // 8))
        chosen = torch.gather(hypotheses, 1, best[:, :, None].expand(-1, -1, channels))[:, 0]
        pixels = self.upscaling(image, f0, f1) @ weights.transpose(1, 2)
        logits = pixels.reshape(n, side, side, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
        appearing = object_score > 0
        logits = torch.where(appearing[:, :, None], logits.reshape(n, 4 * side, 4 * side), NO_OBJECT_LOGIT)
        pointer = torch.where(appearing, self.pointer_projection(chosen), self.no_pointer)
        said = self.parts.embedding(None if token is None else tokens[:, 2 + decoder.num_masks])
        embedding = () if said is None else (said,)
        return logits, torch.gather(iou, 1, best)[:, 0], object_score, pointer, *embedding


class MemoriseGraph(Graph):
    """Memory entries [N, L, Cm] from `projected` features, mask logits [N, S, S] and object scores [N, 1].

    A network that binarises the masks of prompted frames has one more input, `binarise` [1], 1 to do so.
    """

    name = "memorise"
    outputs: tuple[str, ...] = ("memory",)

    absence: Tensor

    def __init__(self, network: Sam2Network) -> None:
        super().__init__(network)
        encoder = network.memory_encoder
        layers = list(encoder.mask_downsampler.encoder)
        strided = (layer for layer in layers[:-1] if isinstance(layer, nn.Conv2d))
        norms = (layer for layer in layers if isinstance(layer, LayerNorm2d))
        self.convolutions = nn.Sequential(*map(MaskConvolution, strided, norms))
        self.last = layers[-1]
        blocks = (block for block in encoder.fuser.layers if isinstance(block, FuserBlock))
        self.fusions = nn.Sequential(*map(Fusion, blocks))
        self.out = encoder.out_proj
        self.register_buffer("absence", network.no_obj_embed_spatial.detach())

    def example(self) -> Example:
        side, size = self.config.feature_size, self.config.image_size
        inputs: Example = {
            "projected": (torch.randn(1, self.config.hidden_dim, side, side), ()),
            "logits": (torch.randn(2, size, size), ("n",)),
            "object_score": (torch.ones(2, 1), ("n",)),
        }
        if self.config.binarize_mask_from_points:
            inputs["binarise"] = (torch.ones(1), ())
        return inputs

    def forward(
        self, projected: Tensor, logits: Tensor, object_score: Tensor, binarise: Tensor | None = None
    ) -> Tensor:
        mask = torch.sigmoid(logits)
        if binarise is not None:
            mask = torch.where(binarise > 0, (logits > 0).to(mask.dtype), mask)
        mask = mask * self.config.mask_sigmoid_scale + self.config.mask_sigmoid_bias
        n = mask.shape[0]
        x = self.last(self.convolutions(mask[:, None])) + projected.expand(n, -1, -1, -1)
        memory = self.out(self.fusions(x)).flatten(2).transpose(1, 2)
        absent = object_score.le(0).to(memory.dtype)[:, :, None]
        return memory + absent * self.absence


class ReadGraph(Graph):
    """What a class reader says of N objects: `embedding` [N, D] from `pixels` and mask logits [N, 4h, 4w]."""

    name = "read"
    outputs: tuple[str, ...] = ("embedding",)

    def __init__(self, network: Sam2Network) -> None:
        super().__init__(network)
        assert network.sam2s.class_reader is not None
        self.reader = network.sam2s.class_reader

    def example(self) -> Example:
        size, side = self.config.image_size, self.config.mask_size
        return {
            "pixels": (torch.randn(1, 3, size, size), ()),
            "logits": (torch.randn(2, side, side), ("n",)),
        }

    def forward(self, pixels: Tensor, logits: Tensor) -> Tensor:
        return self.reader(pixels, logits)


GRAPHS: tuple[type[Graph], ...] = (EncodeGraph, AttendGraph, PromptGraph, DecodeGraph, MemoriseGraph)
"""Those of every network."""


def graphs_of(network: Sam2Network) -> tuple[type[Graph], ...]:
    """The graphs of this network."""
    return (*GRAPHS, ReadGraph) if network.config.class_reader else GRAPHS


def _class_token(network: Sam2Network) -> Tensor:
    assert network.sam2s.class_token is not None
    return network.sam2s.class_token.detach().clone()


def _layers(network: Sam2Network) -> list[MemoryAttentionLayer]:
    return [layer for layer in network.memory_attention.layers if isinstance(layer, MemoryAttentionLayer)]
