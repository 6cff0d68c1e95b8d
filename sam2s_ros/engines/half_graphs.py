"""Graphs in float16: what they multiply. What they normalise, count and take as mask stays in float32.

The ONNX files carry the precision, so that a strongly typed TensorRT network does what they say and nothing else.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2s_ros.engines.graph_layers import MaskConvolution
from sam2s_ros.engines.graphs import AttendGraph, EncodeGraph, Graph, MemoriseGraph
from sam2s_ros.network.layers import LayerNorm2d

FLOAT_BUFFERS = ("scale", "offset")
"""Of `EncodeGraph`: they normalise pixels."""
FLOAT_INPUTS = ("image_encoder", "pointer_position")
"""Modules of graphs that get float32: normalised pixels, and sinusoids of distances."""


def in_half(graph: Graph) -> Graph:
    """A copy of an encode, attend or memorise graph with float16 weights.

    Attend takes float16 but for `pointer_distance`; memorise takes float16 `projected` and float32 masks and scores.
    All three give float16.

    Raises:
        ValueError: another graph: prompts and decoder need float32.
    """
    if not isinstance(graph, EncodeGraph | AttendGraph | MemoriseGraph):
        raise ValueError(f"graph {graph.name!r} has no float16 form: prompts and decoder stay in float32")
    kept = {name: getattr(graph, name).clone() for name in FLOAT_BUFFERS if hasattr(graph, name)}
    reduced = copy.deepcopy(graph).half()
    for name, buffer in kept.items():
        setattr(reduced, name, buffer)
    _replace(reduced)
    for name in FLOAT_INPUTS:
        if hasattr(reduced, name):
            setattr(reduced, name, HalfInput(getattr(reduced, name)))
    return reduced


class HalfInput(nn.Module):
    """A float16 module behind a cast of its input."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.half())


class FloatNorm2d(LayerNorm2d):
    """`LayerNorm2d` of float16 [B, C, H, W] in float32: its squares leave float16's range."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__(norm.weight.shape[0], norm.eps)
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.float().permute(0, 2, 3, 1), self.weight.shape, None, None, self.eps)
        return y.permute(0, 3, 1, 2).half() * self.weight[:, None, None] + self.bias[:, None, None]


class FloatMaskConvolution(MaskConvolution):
    """A float16 `MaskConvolution` of any input that scales in float32."""

    def __init__(self, layer: MaskConvolution) -> None:
        nn.Module.__init__(self)
        self.register_buffer("weight", layer.weight)
        self.register_buffer("bias", layer.bias)
        self.norm = layer.norm

    def forward(self, x: Tensor) -> Tensor:
        centred = F.conv2d(x.half(), self.weight, self.bias, stride=2, padding=1).float()
        scaled = (centred * torch.rsqrt((centred * centred).mean(1, keepdim=True) + self.norm.eps)).half()
        return F.gelu(scaled * self.norm.weight[:, None, None] + self.norm.bias[:, None, None])


def _replace(module: nn.Module) -> None:
    """Put the float32 forms of normalisations in the places of the others, all the way down."""
    for name, child in module.named_children():
        if isinstance(child, MaskConvolution):
            setattr(module, name, FloatMaskConvolution(child))
        elif isinstance(child, LayerNorm2d):
            setattr(module, name, FloatNorm2d(child))
        else:
            _replace(child)
