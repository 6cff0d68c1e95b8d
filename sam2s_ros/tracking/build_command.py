"""`sam2s build-engine`: a model is compiled for this machine's GPU, before the tracker needs it."""

from __future__ import annotations

import argparse
import sys
import time

from sam2s_ros.engines.base import EngineCapacity
from sam2s_ros.engines.compile import compiled_graphs
from sam2s_ros.engines.cuda_device import CudaDevice, DeviceError
from sam2s_ros.engines.folder_cache import cache_folder
from sam2s_ros.engines.tensorrt_api import TensorRt
from sam2s_ros.network import Sam2Network
from sam2s_ros.tracking.config import TrackerConfig
from sam2s_ros.tracking.export_command import add_model_arguments
from sam2s_ros.tracking.loader import load_network

HELP = "compile a model with TensorRT for this machine's NVIDIA GPU, into the cache that the tracker uses"


def configure(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser)
    defaults = TrackerConfig()
    for name in ("max_conditioning", "num_long_term"):
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            default=getattr(defaults, name),
            metavar="N",
            help="as the tracker will have it (default: %(default)s)",
        )


def run(args: argparse.Namespace) -> int:
    """Compile what is not compiled yet, and print each graph's time.

    Raises:
        ValueError: a model, size or setting that cannot be.
        OSError: no GPU, driver or library that fits; the message says what to do.
    """
    network = load_network(args.model, args.checkpoint, args.size)
    settings = TrackerConfig(max_conditioning=args.max_conditioning, num_long_term=args.num_long_term)
    reads = network.config
    capacity = settings.engine_capacity(reads.num_maskmem - 1, reads.max_pointers - 1)
    try:
        device = CudaDevice()
        library = TensorRt()
        print(f"{library.version} for {device.name} ({device.compute_capability}), in {cache_folder()}")
        _compile(network, capacity, args.precision, library, device)
    except (DeviceError, ImportError) as error:
        raise OSError(str(error)) from error
    return 0


def _compile(
    network: Sam2Network, capacity: EngineCapacity, precision: str, library: TensorRt, device: CudaDevice
) -> None:
    show = _Progress()
    started = time.monotonic()
    for graph, _ in compiled_graphs(network, capacity, precision, library, device, progress=show):
        seconds = time.monotonic() - started
        print(f"\r{graph.name}: {'built in' if show.told else 'found in'} {seconds:.1f} s".ljust(70))
        show.told, started = False, time.monotonic()


class _Progress:
    """One line, on a terminal; `told`: something was built since it was last set to False."""

    def __init__(self) -> None:
        self.told = False

    def __call__(self, graph: str, phase: str, share: float) -> None:
        self.told = True
        if sys.stdout.isatty():
            print(f"\r{graph}: {phase} {share:4.0%}".ljust(70), end="", flush=True)
