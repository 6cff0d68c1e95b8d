"""Engines run the network's graphs. `create_engine` picks one by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam2s_ros.engines.base import (
    DecodeResult,
    Engine,
    EngineCapacity,
    EngineDescription,
    MemoryKind,
    MemoryRead,
    PromptBatch,
)

if TYPE_CHECKING:
    from sam2s_ros.network.sam2 import Sam2Network

__all__ = [
    "ENGINE_NAMES",
    "DecodeResult",
    "Engine",
    "EngineCapacity",
    "EngineDescription",
    "MemoryKind",
    "MemoryRead",
    "PromptBatch",
    "create_engine",
]

ENGINE_NAMES = ("auto", "eager")


def create_engine(
    name: str, network: Sam2Network, capacity: EngineCapacity | None = None, threads: int = 0
) -> Engine:
    """An engine for a built network. `auto` takes the best that this machine has and says why
    (`describe().reason`).

    `threads` is the number of CPU threads, 0 to leave the process's setting alone. ValueError for an
    unknown name.
    """
    from sam2s_ros.engines.eager import EagerEngine

    capacity = capacity or EngineCapacity()
    if name == "auto":
        return EagerEngine(
            network, capacity, threads, "auto: eager PyTorch is the only engine of this version"
        )
    if name == "eager":
        return EagerEngine(network, capacity, threads, "asked for by name")
    raise ValueError(f"unknown engine {name!r}; choose one of {', '.join(ENGINE_NAMES)}")
