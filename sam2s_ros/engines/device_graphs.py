"""The graphs as a GPU engine runs them: what outlives a call is a whole bank in device memory, read by number inside.

An input of `graphs.py` that an engine would gather from slots is here the bank of all slots, always at the same
address, with the numbers of the slots to read as one more input. So nothing but numbers travels to the device in a
frame, and a recorded sequence of kernels stays valid.

Other inputs and outputs go through by their names. In float16 `BANKS_IN_HALF` are float16, everything else float32.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sam2s_ros.engines.given_masks import GIVEN_LOGIT
from sam2s_ros.engines.graphs import (
    AttendGraph,
    DecodeGraph,
    EncodeGraph,
    Example,
    Graph,
    MemoriseGraph,
    PromptGraph,
    ReadGraph,
)
from sam2s_ros.engines.half_graphs import in_half
from sam2s_ros.network.mask_decoder import upsample_logits
from sam2s_ros.network.sam2 import Sam2Network

DEVICE_GRAPH_VERSION = 1
"""Raised when a graph of this file computes something else; files made before are then not used."""
BANK_DIMENSIONS = {"memory_bank": 2048, "pointer_bank": 2048, "feature_bank": 1024, "row_bank": 256}
"""Sizes of banks, all rows' slots together, and the most that each can be."""
BANKS_IN_HALF = ("attended", "projected", "memory")
"""Tensors that are float16 in device memory, if the graphs are."""


class DeviceGraph(Graph):
    """Wraps the graph of `base`, in float16 if asked. `forward` takes the inputs of `example()` in its order."""

    base: ClassVar[type[Graph]]
    outputs: tuple[str, ...]

    def __init__(self, network: Sam2Network, half: bool = False) -> None:
        super().__init__(network)
        graph = self.base(network).eval()
        self.inner = in_half(graph) if half else graph
        self.half_banks = half
        self.outputs = graph.outputs
        self.order = tuple(self.example())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = self.prepare(dict(zip(self.order, inputs, strict=True)))
        ordered = [given.pop(name) for name in self.inner.example()]
        found = self.inner(*ordered)
        named = dict(zip(self.inner.outputs, (found,) if isinstance(found, Tensor) else found, strict=True))
        named = self.finish(named)
        return tuple(self._stored(name, named[name]) for name in self.outputs)

    def prepare(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """This graph's inputs -> those of `base`."""
        return given

    def finish(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of `base` -> this graph's."""
        return found

    def bank(self, name: str, entries: Tensor) -> Tensor:
        """An example of a bank, as it is stored."""
        return self._stored(name, entries)

    def _stored(self, name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return tensor.half() if self.half_banks and name in BANKS_IN_HALF else tensor.float()


class DeviceEncode(DeviceGraph):
    """`EncodeGraph`, and of f2 what later calls take.

    Instead of f2: `tokens` [1, L, C], `unconditioned` [1, L, C]: the tokens of an object without memory, and `feature`
    [1, C * h * w]: f2 flattened and of length 1.
    """

    name, base = EncodeGraph.name, EncodeGraph
    no_memory: Tensor

    def __init__(self, network: Sam2Network, half: bool = False) -> None:
        super().__init__(network, half)
        self.register_buffer("no_memory", network.no_mem_embed.detach().clone().reshape(1, 1, -1))
        kept = [name for name in self.outputs if name != "f2"]
        self.outputs = (*kept, "tokens", "unconditioned", "feature")

    def example(self) -> Example:
        return self.inner.example()

    def prepare(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"image": given["image"].float()}  # TensorRT does nothing with bytes but this

    def finish(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        f2 = found.pop("f2").float()
        found["tokens"] = f2.flatten(2).transpose(1, 2)
        found["unconditioned"] = found["tokens"] + self.no_memory
        found["feature"] = F.normalize(f2.flatten(1), dim=1)
        return found


class DeviceAttend(DeviceGraph):
    """`AttendGraph` on banks `memory` [memory_bank, L, Cm] and `pointers` [pointer_bank, C].

    Entries are named by `slots` int64 [N, M] and `pointer_slots` int64 [N, P].
    """

    name, base = AttendGraph.name, AttendGraph

    def example(self) -> Example:
        inputs = self.inner.example()
        config = self.config
        area = config.feature_size**2
        memory = self.bank("memory", torch.zeros(4, area, config.memory_dim))
        inputs["attended"] = (self.bank("attended", inputs["attended"][0]), ())
        inputs["memory"] = (memory, ("memory_bank",))
        inputs["pointers"] = (torch.zeros(6, config.hidden_dim), ("pointer_bank",))
        inputs["slots"] = (torch.zeros(inputs["valid"][0].shape, dtype=torch.int64), ("n", "m"))
        inputs["pointer_slots"] = (
            torch.zeros(inputs["pointer_valid"][0].shape, dtype=torch.int64),
            ("n", "p"),
        )
        return inputs

    def prepare(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        given["memory"] = given["memory"][given.pop("slots")]
        given["pointers"] = given["pointers"][given.pop("pointer_slots")]
        if self.half_banks:
            for name, tensor in given.items():
                if tensor.is_floating_point() and name != "pointer_distance":
                    given[name] = tensor.half()
        return given


class DeviceDecode(DeviceGraph):
    """`DecodeGraph` of `conditioned` [row_bank, L, C] at `rows` int64 [N], with the dense prompt `dense` [N, L, C].

    A class token is taken from `class_token` [row_bank, 1, C].
    """

    name, base = DecodeGraph.name, DecodeGraph

    def example(self) -> Example:
        inputs = self.inner.example()
        image, sizes = inputs.pop("image")
        inputs["conditioned"] = (torch.zeros(3, *image.shape[1:]), ("row_bank",))
        inputs["rows"] = (torch.zeros(image.shape[0], dtype=torch.int64), sizes)
        inputs["dense"] = (image, sizes)
        if self.has_token:
            token, _ = inputs.pop("token")
            inputs["class_token"] = (torch.zeros(3, *token.shape[1:]), ("row_bank",))
        return inputs

    def prepare(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        rows = given.pop("rows")
        given["image"] = given.pop("conditioned")[rows] + given.pop("dense")
        if self.has_token:
            given["token"] = given.pop("class_token")[rows]
        return given


class DeviceMemorise(DeviceGraph):
    """`MemoriseGraph` of mask logits [row_bank, 4h, 4w] at `rows` int64 [N], which it brings to the input's size."""

    name, base = MemoriseGraph.name, MemoriseGraph

    def example(self) -> Example:
        inputs = self.inner.example()
        side = self.config.mask_size
        inputs["projected"] = (self.bank("projected", inputs["projected"][0]), ())
        inputs["logits"] = (torch.zeros(3, side, side), ("row_bank",))
        inputs["rows"] = (torch.zeros(2, dtype=torch.int64), ("n",))
        return inputs

    def prepare(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = given["logits"][given.pop("rows")]
        given["logits"] = upsample_logits(logits[:, None], self.config.image_size)[:, 0]
        return given


class DeviceMemoriseGiven(DeviceGraph):
    """`MemoriseGraph` of masks given as the answer: `masks` uint8 [N, S, S] of 0 and 1."""

    name, base = "memorise_given", MemoriseGraph

    def example(self) -> Example:
        inputs = self.inner.example()
        size = self.config.image_size
        inputs.pop("logits")
        inputs["projected"] = (self.bank("projected", inputs["projected"][0]), ())
        inputs["masks"] = (torch.zeros(2, size, size, dtype=torch.uint8), ("n",))
        return inputs

    def prepare(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        given["logits"] = given.pop("masks").float() * (2 * GIVEN_LOGIT) - GIVEN_LOGIT
        return given


class DevicePrompt(DeviceGraph):
    """`PromptGraph` as it is."""

    name, base = PromptGraph.name, PromptGraph

    def example(self) -> Example:
        return self.inner.example()


class DeviceRead(DeviceGraph):
    """`ReadGraph` of mask logits [row_bank, 4h, 4w] at `rows` int64 [N]."""

    name, base = ReadGraph.name, ReadGraph

    def example(self) -> Example:
        inputs = self.inner.example()
        logits, sizes = inputs["logits"]
        inputs["logits"] = (torch.zeros(3, *logits.shape[1:]), ("row_bank",))
        inputs["rows"] = (torch.zeros(logits.shape[0], dtype=torch.int64), sizes)
        return inputs

    def prepare(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        given["logits"] = given["logits"][given.pop("rows")]
        return given


class SimilarityGraph(Graph):
    """Cosines [N] of `feature` [1, C * h * w] with entries of `kept` [feature_bank, C * h * w].

    `feature_slots` int64 [N] names them.
    """

    name = "similarity"
    outputs = ("similarity",)

    def example(self) -> Example:
        length = self.config.hidden_dim * self.config.feature_size**2
        return {
            "kept": (torch.zeros(3, length), ("feature_bank",)),
            "feature_slots": (torch.zeros(2, dtype=torch.int64), ("n",)),
            "feature": (torch.zeros(1, length), ()),
        }

    def forward(self, kept: Tensor, feature_slots: Tensor, feature: Tensor) -> Tensor:
        return (kept[feature_slots] @ feature[0, :, None])[:, 0]


REDUCIBLE: tuple[type[DeviceGraph], ...] = (DeviceEncode, DeviceAttend, DeviceMemorise, DeviceMemoriseGiven)
"""Graphs that have a float16 form."""
FLOAT_GRAPHS: tuple[type[Graph], ...] = (DevicePrompt, DeviceDecode, SimilarityGraph)
"""Graphs that stay in float32 whatever the precision."""


def float_graphs_of(network: Sam2Network) -> tuple[type[Graph], ...]:
    """Those of `FLOAT_GRAPHS`, and the one that a class reader has besides."""
    return (*FLOAT_GRAPHS, DeviceRead) if network.config.class_reader else FLOAT_GRAPHS
