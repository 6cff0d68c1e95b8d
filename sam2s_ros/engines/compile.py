"""From a network to the engine of compiled graphs: export, then TensorRT, each out of the cache if possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sam2s_ros.engines.base import EngineCapacity, check_capacity
from sam2s_ros.engines.cuda_device import CudaDevice
from sam2s_ros.engines.device_graphs import REDUCIBLE
from sam2s_ros.engines.export import DEVICE_PRECISIONS, GraphFile, device_fingerprint, load_device_graphs
from sam2s_ros.engines.tensorrt_api import TensorRt
from sam2s_ros.engines.tensorrt_engine import TensorRtEngine
from sam2s_ros.engines.tensorrt_files import EngineFiles, Reads, Target
from sam2s_ros.network.sam2 import Sam2Network


def compiled_graphs(
    network: Sam2Network,
    capacity: EngineCapacity,
    precision: str,
    library: TensorRt,
    device: CudaDevice,
    cache: Path | None = None,
    progress: Callable[[str, str, float], None] | None = None,
) -> Iterator[tuple[GraphFile, Any]]:
    """Every graph of a network with its engine for this GPU.

    Raises:
        ImportError: what exports the graphs is not installed.
        DeviceError: TensorRT refused.
    """
    graphs = load_device_graphs(network, precision, cache)
    whole, half = device_fingerprint(network, False), device_fingerprint(network, True)
    reduced = {kind.name for kind in REDUCIBLE} if precision == "fp16" else set()
    files = EngineFiles(
        Target(library, device.name, device.compute_capability),
        Reads.of(capacity),
        lambda name: half if name in reduced else whole,
        cache,
        progress,
    )
    return files.load(graphs)


def make_tensorrt_engine(
    network: Sam2Network,
    capacity: EngineCapacity,
    precision: str,
    reason: str,
    progress: Callable[[str, str, float], None] | None = None,
) -> TensorRtEngine:
    """Find the network compiled for this GPU, or compile it, and allocate.

    Raises:
        ValueError: a precision that there is not.
        ImportError: TensorRT, or what exports the graphs, is not installed.
        DeviceError: no binding, no GPU, a driver that does not fit, no memory; the message names the fix.
    """
    if precision not in DEVICE_PRECISIONS:
        raise ValueError(f"precision {precision!r}: tensorrt runs {' or '.join(DEVICE_PRECISIONS)}")
    check_capacity(network.config, capacity)
    device = CudaDevice()
    try:
        library = TensorRt()
        loaded = list(compiled_graphs(network, capacity, precision, library, device, progress=progress))
        return TensorRtEngine(network, loaded, library, device, capacity, precision, reason)
    except Exception:
        device.free()
        raise
