"""All that a GPU engine allocates, once: what several graphs share, the graphs bound to it, and their own memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sam2s_ros.engines.base import EngineCapacity
from sam2s_ros.engines.cuda_device import CudaDevice
from sam2s_ros.engines.device_graphs import BANK_DIMENSIONS
from sam2s_ros.engines.device_runner import CompiledGraph, DeviceArray, Lane, largest_run
from sam2s_ros.engines.export import GraphFile
from sam2s_ros.engines.tensorrt_api import TensorRt
from sam2s_ros.engines.tensorrt_files import MAX_POINTS, NO_PROMPT_TOKENS, Reads
from sam2s_ros.network.config import NetworkConfig

Loaded = Sequence[tuple[GraphFile, Any]]
"""Graphs and their engines (`ICudaEngine`)."""
FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class DeviceParts:
    """`encode` runs in `encode_lane`, everything in `graphs` in `lane`."""

    lane: Lane
    encode_lane: Lane
    encode: CompiledGraph
    graphs: dict[str, CompiledGraph]
    frames: dict[str, DeviceArray]
    """What `encode` made of each kept frame: [frame_slots, ...] by its outputs' names."""
    staged: dict[str, DeviceArray]
    """The same of the frame that the graphs read: [1, ...]."""
    banks: dict[str, DeviceArray]
    """By the input that reads them: [slots of all rows, ...], or [rows, ...] for the rows' workspaces."""
    reads: Reads
    rows_at_once: int


def make_parts(
    config: NetworkConfig, capacity: EngineCapacity, loaded: Loaded, library: TensorRt, device: CudaDevice
) -> DeviceParts:
    """Allocate and bind.

    Raises:
        ValueError: a capacity that the compiled graphs do not have.
        DeviceError: not enough device memory.
    """
    lane, encode_lane = Lane(device), Lane(device)
    reads, most = Reads.of(capacity), largest_run(capacity.max_objects)
    engines = {graph.name: (graph, engine) for graph, engine in loaded}
    bank_sizes = _bank_sizes(capacity)
    sizes = _sizes(reads, most)

    encode = CompiledGraph(library, *engines["encode"], encode_lane, *sizes, {}, {})
    encode_lane.reserve(encode.scratch_bytes())
    encode.allocate_outputs()
    made = encode.outputs
    frames = {
        name: lane.array((capacity.frame_slots, *array.shape[1:]), array.dtype)
        for name, array in made.items()
    }
    staged = {name: lane.array(array.shape, array.dtype) for name, array in made.items()}
    banks = _make_banks(config, bank_sizes, lane, made["attended"].dtype)

    largest, usual = sizes
    graphs: dict[str, CompiledGraph] = {
        name: CompiledGraph(
            library, *engines[name], lane, largest | bank_sizes, usual, {**staged, **banks}, {}
        )
        for name in ("attend", "decode", "read", "memorise", "memorise_given", "similarity")
        if name in engines and (name != "similarity" or capacity.long_term_slots)
    }
    prompts = {name: graphs["decode"].inputs[name] for name in ("sparse", "dense")}
    graphs["prompt"] = CompiledGraph(library, *engines["prompt"], lane, *sizes, {}, prompts)
    lane.reserve(max(graph.scratch_bytes() for graph in graphs.values()))
    for graph in graphs.values():
        graph.allocate_outputs()
    return DeviceParts(lane, encode_lane, encode, graphs, frames, staged, banks, reads, most)


def _sizes(reads: Reads, rows_at_once: int) -> tuple[dict[str, int], Mapping[str, frozenset[int]]]:
    """Of every dimension that varies from call to call: the largest size, and the usual ones."""
    largest = {
        "n": rows_at_once,
        "m": reads.memory[1],
        "p": reads.pointers[1],
        "k": MAX_POINTS,
        "t": MAX_POINTS + 1,
    }
    usual = {
        "n": frozenset(range(1, rows_at_once + 1)),
        "m": frozenset(reads.memory),
        "p": frozenset(reads.pointers),
        "k": frozenset((1,)),
        "t": frozenset((NO_PROMPT_TOKENS,)),
    }
    return largest, usual


def _bank_sizes(capacity: EngineCapacity) -> dict[str, int]:
    rows = capacity.max_objects
    slots = {
        "memory_bank": rows * capacity.memory_slots,
        "pointer_bank": rows * capacity.pointer_slots,
        "feature_bank": max(rows * capacity.feature_slots, 1),
        "row_bank": rows,
    }
    for name, count in slots.items():
        if count > BANK_DIMENSIONS[name]:
            raise ValueError(
                f"engine capacity: {count} entries of the {name} are more than the {BANK_DIMENSIONS[name]} of the "
                "compiled graphs; lower max_objects, kept_frames or num_long_term"
            )
    return slots


def _make_banks(
    config: NetworkConfig, sizes: Mapping[str, int], lane: Lane, memory_dtype: np.dtype[Any]
) -> dict[str, DeviceArray]:
    rows, area, side = sizes["row_bank"], config.feature_size**2, config.mask_size
    return {
        "memory": lane.array((sizes["memory_bank"], area, config.memory_dim), memory_dtype),
        "pointers": lane.array((sizes["pointer_bank"], config.hidden_dim), FLOAT),
        "kept": lane.array((sizes["feature_bank"], config.hidden_dim * area), FLOAT),
        "conditioned": lane.array((rows, area, config.hidden_dim), FLOAT),
        "class_token": lane.array((rows, 1, config.hidden_dim), FLOAT),
        "logits": lane.array((rows, side, side), FLOAT),
        "pointer": lane.array((rows, config.hidden_dim), FLOAT),
        "given": lane.array((rows, config.image_size, config.image_size), np.dtype(np.uint8)),
    }
