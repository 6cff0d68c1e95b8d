"""The one place that touches CUDA: device memory, pinned host memory, copies, streams and recorded launches.

The binding is NVIDIA's `cuda.bindings` (package cuda-bindings, or cuda-python). CUDA's current device is used, the
first of those in CUDA_VISIBLE_DEVICES. Addresses and streams are plain integers, as TensorRT takes them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu", "/dev/dxg")
"""One of them exists where the driver of an NVIDIA GPU (a Jetson's, WSL's) is loaded."""
INSTALL_BINDING = "pip install cuda-bindings, of the major version of the CUDA that the driver has"
FIXES = {
    "cudaErrorNoDevice": "no NVIDIA GPU is visible: check nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, "
    "--gpus all",
    "cudaErrorInsufficientDriver": "there is no NVIDIA driver, or it is older than the CUDA of the installed "
    "cuda-bindings: update the driver, or install the cuda-bindings of its CUDA version (nvidia-smi shows it)",
    "cudaErrorMemoryAllocation": "out of device memory: lower max_objects or kept_frames, take a smaller input size or "
    "model, or end what else uses the GPU",
}
"""CUDA's name of an error -> what to do."""


class DeviceError(RuntimeError):
    """The GPU cannot do what it was asked; the message says what to do."""


def gpu_expected() -> bool:
    """Whether the machine has an NVIDIA driver, so that not using the GPU is worth a warning."""
    return any(Path(file).exists() for file in GPU_FILES)


class CudaDevice:
    """The current CUDA device, and everything allocated on it.

    Raises:
        DeviceError: no binding, no GPU, or no driver that fits; the message names the fix.
    """

    name: str
    compute_capability: str
    """Such as "8.9"."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise DeviceError(f"the CUDA binding is missing ({error}): {INSTALL_BINDING}") from error
        self._runtime: Any = runtime
        self._device: list[int] = []
        self._host: list[int] = []
        self._streams: list[Any] = []
        self._recorded: list[Any] = []
        if self._call("cudaGetDeviceCount") < 1:
            raise DeviceError(FIXES["cudaErrorNoDevice"])
        properties = self._call("cudaGetDeviceProperties", self._call("cudaGetDevice"))
        self.name = properties.name.split(b"\0")[0].decode()
        self.compute_capability = f"{properties.major}.{properties.minor}"

    def allocate(self, size: int) -> int:
        """The address of so many bytes of device memory, all 0, aligned to 256."""
        address = int(self._call("cudaMalloc", max(size, 1), hint=f"{size / 2**20:.0f} MiB asked for"))
        self._device.append(address)
        self._call("cudaMemset", address, 0, max(size, 1))
        return address

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A zeroed host array that copies need not be staged for. It must not outlive `free`."""
        size = max(int(np.prod(shape)) * dtype.itemsize, 1)
        address = int(self._call("cudaMallocHost", size))
        self._host.append(address)
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        raw[:] = 0
        return raw[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)

    def stream(self) -> int:
        """A new stream; what is put on it runs in order."""
        stream = self._call("cudaStreamCreate")
        self._streams.append(stream)
        return int(stream)

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Copy a C-contiguous host array to the device. A pinned one must not change until the stream is done."""
        self._copy(address, array.ctypes.data, array.nbytes, "HostToDevice", stream)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Fill a C-contiguous host array from the device, when the stream comes to it."""
        self._copy(array.ctypes.data, address, array.nbytes, "DeviceToHost", stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy bytes within the device."""
        self._copy(target, source, size, "DeviceToDevice", stream)

    def clear(self, address: int, size: int, stream: int) -> None:
        """Zero bytes of device memory."""
        if size:
            self._call("cudaMemsetAsync", address, 0, size, stream)

    def synchronise(self, stream: int) -> None:
        """Wait until all of a stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def record(self, work: Callable[[], None], stream: int) -> Any:
        """What `work` puts on the stream, not run but kept for `launch` (a CUDA graph)."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        finally:
            graph = self._call("cudaStreamEndCapture", stream)
        recorded = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        self._recorded.append(recorded)
        return recorded

    def launch(self, recorded: Any, stream: int) -> None:
        """Run what was recorded."""
        self._call("cudaGraphLaunch", recorded, stream)

    def free(self) -> None:
        """Give back everything. Arrays from `pinned` are invalid afterwards."""
        for call, handles in (
            ("cudaGraphExecDestroy", self._recorded),
            ("cudaStreamDestroy", self._streams),
            ("cudaFree", self._device),
            ("cudaFreeHost", self._host),
        ):
            while handles:
                self._call(call, handles.pop())

    def _copy(self, target: int, source: int, size: int, kind: str, stream: int) -> None:
        if size:
            direction = getattr(self._runtime.cudaMemcpyKind, f"cudaMemcpy{kind}")
            self._call("cudaMemcpyAsync", target, source, size, direction, stream)

    def _call(self, name: str, *arguments: Any, hint: str = "") -> Any:
        """The function's result, if it has one. DeviceError where CUDA reports an error."""
        error, *results = getattr(self._runtime, name)(*arguments)
        if int(error) != 0:
            fix = FIXES.get(error.name, f"CUDA says {error.name} in {name}")
            raise DeviceError(f"{fix} ({hint or name})" if error.name in FIXES else fix)
        return results[0] if results else None
