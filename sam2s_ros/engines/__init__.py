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
    "PRECISIONS",
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
PRECISIONS = ("auto", "fp32", "bf16")


def create_engine(
    name: str,
    network: Sam2Network,
    capacity: EngineCapacity | None = None,
    threads: int = 0,
    precision: str = "auto",
) -> Engine:
    """An engine for a built network, which it takes over. `describe().reason` says why this one.

    Args:
        name: "auto" takes the best that this machine has.
        threads: CPU threads, 0 to leave the process's setting alone.
        precision: "fp32", "bf16", or "auto": for the engine "auto" bf16 where the CPU has it, else fp32.

    Raises:
        ValueError: unknown name, or a precision that the engine does not have.
    """
    from sam2s_ros.engines.eager import EagerEngine, multiplies_bfloat16

    capacity = capacity or EngineCapacity()
    if name not in ENGINE_NAMES:
        raise ValueError(f"unknown engine {name!r}; choose one of {', '.join(ENGINE_NAMES)}")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if name == "eager":
        precision = "fp32" if precision == "auto" else precision
        return EagerEngine(network, capacity, threads, precision, "asked for by name")
    reason = "auto: eager PyTorch is the only engine of this version"
    if precision == "auto":
        fast = multiplies_bfloat16()
        precision = "bf16" if fast else "fp32"
        reason += f", {precision} because the CPU {'has' if fast else 'lacks'} bfloat16 arithmetic"
    return EagerEngine(network, capacity, threads, precision, reason)
