"""Engines run the network's graphs. `create_engine` picks one by name."""

from __future__ import annotations

import logging
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

ENGINE_NAMES = ("auto", "eager", "openvino", "onnxruntime", "tensorrt")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
BY_NAME = "asked for by name"
OPENVINO_MOST_PIXELS = 512
"""Largest side of a network's input for which "auto" takes OpenVINO."""

_log = logging.getLogger(__name__)


def create_engine(
    name: str,
    network: Sam2Network,
    capacity: EngineCapacity | None = None,
    threads: int = 0,
    precision: str = "auto",
) -> Engine:
    """An engine for a built network, which it takes over. `describe().reason` says why this one.

    Args:
        name: "auto" takes TensorRT where there is an NVIDIA GPU; without one OpenVINO, and eager PyTorch where that is
            missing, fails, or is no gain.
        threads: CPU threads, 0 to leave the process's setting alone.
        precision: "fp32", "bf16" (CPU), "fp16" (TensorRT), or "auto": fp16 for TensorRT; on the CPU, for the engine
            "auto" bf16 where the CPU has it, else fp32.

    Raises:
        ValueError: unknown name, or a precision that the engine does not have.
        ImportError: the engine asked for by name is not installed.
        RuntimeError: the GPU cannot be used by the engine asked for by name; the message says what to do.
    """
    capacity = capacity or EngineCapacity()
    if name not in ENGINE_NAMES:
        raise ValueError(f"unknown engine {name!r}; choose one of {', '.join(ENGINE_NAMES)}")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if threads < 0:
        raise ValueError(f"threads is {threads}; use 0 for the default or a positive number")
    if name == "auto":
        return _best_engine(network, capacity, threads, precision)
    if precision == "auto":
        precision = "fp16" if name == "tensorrt" else "fp32"
    return _make(name, network, capacity, threads, precision, BY_NAME)


def _best_engine(network: Sam2Network, capacity: EngineCapacity, threads: int, precision: str) -> Engine:
    """TensorRT if there is a GPU for it, else the best on the CPU."""
    if precision == "bf16":
        return _best_on_cpu(network, capacity, threads, precision, "no TensorRT since it has no bf16")
    arithmetic = "fp16" if precision == "auto" else precision
    reason = f"auto: TensorRT because there is an NVIDIA GPU, {arithmetic}"
    try:
        return _make("tensorrt", network, capacity, threads, arithmetic, reason)
    except Exception as error:
        if precision == "fp16":
            raise
        from sam2s_ros.engines.cuda_device import gpu_expected

        problem = f"{type(error).__name__}: {error}".partition("\n")[0]
        if gpu_expected():
            _log.warning("TensorRT cannot be used, the network runs on the CPU (%s)", problem)
        else:
            _log.info("TensorRT cannot be used (%s)", problem)
            problem = "no driver of an NVIDIA GPU on this machine"
    return _best_on_cpu(network, capacity, threads, precision, f"no TensorRT ({problem})")


def _best_on_cpu(
    network: Sam2Network, capacity: EngineCapacity, threads: int, precision: str, rest: str
) -> Engine:
    """OpenVINO if it works and pays, else eager PyTorch. `rest` ends the reason."""
    from sam2s_ros.engines.eager import multiplies_bfloat16

    arithmetic = precision
    if precision == "auto":
        fast = multiplies_bfloat16()
        precision = "bf16" if fast else "fp32"
        arithmetic = f"{precision} because the CPU {'has' if fast else 'lacks'} bfloat16 arithmetic"
    if network.config.image_size > OPENVINO_MOST_PIXELS:
        reason = f"auto: eager PyTorch, since OpenVINO is no gain with images of {network.config.image_size} pixels"
        return _make("eager", network, capacity, threads, precision, f"{reason}, {arithmetic}; {rest}")
    try:
        reason = f"auto: OpenVINO is the fastest here, {arithmetic}; {rest}"
        return _make("openvino", network, capacity, threads, precision, reason)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".partition("\n")[0]
        _log.warning("OpenVINO cannot be used, the slower eager engine is (%s)", problem)
        reason = f"auto: eager PyTorch because OpenVINO cannot be used ({problem}), {arithmetic}; {rest}"
    return _make("eager", network, capacity, threads, precision, reason)


def _make(
    name: str, network: Sam2Network, capacity: EngineCapacity, threads: int, precision: str, reason: str
) -> Engine:
    if name == "eager":
        from sam2s_ros.engines.eager import EagerEngine

        return EagerEngine(network, capacity, threads, precision, reason)
    if name == "onnxruntime" and precision != "fp32":
        raise ValueError(f"precision {precision!r}: onnxruntime runs fp32")
    if name == "openvino" and precision == "fp16":
        raise ValueError("precision 'fp16': openvino runs fp32 or bf16")
    if name == "tensorrt":
        from sam2s_ros.engines.compile import make_tensorrt_engine

        return make_tensorrt_engine(network, capacity, precision, reason)
    try:
        from sam2s_ros.engines.graph_engine import make_graph_engine

        return make_graph_engine(name, network, capacity, threads, precision, reason)
    except ImportError as error:
        raise ImportError(f"engine {name!r} lacks a package of requirements.txt: {error}") from error
