"""Compiled graphs on the GPU: fixed addresses, no allocation after the start, recorded launches for usual sizes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.cuda_device import CudaDevice, DeviceError
from sam2s_ros.engines.export import GraphFile
from sam2s_ros.engines.tensorrt_api import TensorRt
from sam2s_ros.engines.tensorrt_files import OBJECT_PROFILES, shape_of

DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "INT64": np.dtype(np.int64),
    "INT32": np.dtype(np.int32),
    "UINT8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""TensorRT's name of a data type -> numpy's."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceArray:
    """Device memory of a shape; `address` points to its first element, rows follow each other."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def entry_bytes(self) -> int:
        """Bytes of one entry along the first axis."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return math.prod(self.shape) * self.dtype.itemsize

    def entry(self, index: int) -> int:
        """Address of an entry."""
        return self.address + int(index) * self.entry_bytes


def groups(count: int, most: int) -> Iterator[tuple[slice, int]]:
    """`count` objects in runs: which of them, and the size in `OBJECT_PROFILES`, up to `most`, to which to fill up.

    A run is filled up where at least half of it is real, otherwise the largest full one is taken.
    """
    sizes = [size for size in OBJECT_PROFILES if size <= most]
    start = 0
    while start < count:
        left = count - start
        size = next((size for size in sizes if left <= size <= 2 * left), None)
        size = size or max(size for size in sizes if size <= left)
        yield slice(start, min(start + size, count)), size
        start += size


def largest_run(rows: int) -> int:
    """The largest of `OBJECT_PROFILES` that a tracker of so many rows needs."""
    return next((size for size in OBJECT_PROFILES if size >= rows), OBJECT_PROFILES[-1])


class Lane:
    """A stream, and the host and device memory of what runs on it, one thing after another."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.stream = device.stream()
        self.workspace = 0
        self.workspace_bytes = 0
        self._staging: dict[int, NDArray[Any]] = {}
        self._waiting: set[int] = set()
        """Arrays whose pinned staging the stream may still have to read."""

    def reserve(self, size: int) -> None:
        """Make the one scratch memory that all contexts of this lane share."""
        self.workspace, self.workspace_bytes = self.device.allocate(size), size

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        """Zeroed device memory."""
        size = math.prod(shape) * dtype.itemsize
        return DeviceArray(self.device.allocate(size), shape, dtype)

    def put(self, target: DeviceArray, values: NDArray[Any]) -> None:
        """Fill the beginning of device memory by way of pinned memory, which the first call makes."""
        staging = self._staging_of(target)
        if target.address in self._waiting:
            self.wait()
        flat = staging[: values.size]
        np.copyto(flat.reshape(values.shape), values, casting="same_kind")
        self.device.upload(target.address, flat, self.stream)
        self._waiting.add(target.address)

    def get(self, source: DeviceArray, shape: tuple[int, ...]) -> NDArray[Any]:
        """What the beginning of device memory will hold, in pinned memory: valid from `wait` to the next `get`."""
        flat = self._staging_of(source)[: math.prod(shape)]
        self.device.download(flat, source.address, self.stream)
        return flat.reshape(shape)

    def put_entries(self, target: DeviceArray, indices: Sequence[int], values: NDArray[Any]) -> None:
        """Write host values [n, ...] to entries; waits, for use now and then."""
        contiguous = np.ascontiguousarray(values, dtype=target.dtype)
        for index, value in zip(indices, contiguous, strict=True):
            self.device.upload(target.entry(index), value, self.stream)
        self.wait()

    def put_all(self, target: DeviceArray, first: int, values: NDArray[Any]) -> None:
        """Write host values [n, ...] to consecutive entries; waits, for use now and then."""
        self.device.upload(target.entry(first), np.ascontiguousarray(values, dtype=target.dtype), self.stream)
        self.wait()

    def get_entries(self, source: DeviceArray, first: int, count: int) -> NDArray[Any]:
        """Host copies of consecutive entries [count, ...]; waits, for use now and then."""
        values = np.empty((count, *source.shape[1:]), dtype=source.dtype)
        self.device.download(values, source.entry(first), self.stream)
        self.wait()
        return values

    def move(
        self,
        target: DeviceArray,
        to: Sequence[int] | NDArray[np.int64],
        source: DeviceArray,
        of: Sequence[int] | NDArray[np.int64],
    ) -> None:
        """Copy entries within the device, neighbours that stay neighbours in one go."""
        size = target.entry_bytes
        assert size == source.entry_bytes and target.dtype == source.dtype
        start = 0
        for end in range(1, len(to) + 1):
            if end < len(to) and to[end] - to[end - 1] == 1 and of[end] - of[end - 1] == 1:
                continue
            there, here = target.entry(to[start]), source.entry(of[start])
            if there != here:
                self.device.copy(there, here, size * (end - start), self.stream)
            start = end

    def clear(self, array: DeviceArray) -> None:
        """Zero device memory."""
        self.device.clear(array.address, array.nbytes, self.stream)

    def wait(self) -> None:
        """Until all that was asked for is done."""
        self.device.synchronise(self.stream)
        self._waiting.clear()

    def _staging_of(self, array: DeviceArray) -> NDArray[Any]:
        if array.address not in self._staging:
            self._staging[array.address] = self.device.pinned((math.prod(array.shape),), array.dtype)
        return self._staging[array.address]


class CompiledGraph:
    """One compiled graph, its tensors bound to device memory for good.

    Sizes that are usual have an execution context and a recorded launch of their own; other sizes share a context.
    `inputs` and `outputs` hold the memory by tensor name: what is given for it, else new memory of the largest shape.
    """

    def __init__(
        self,
        library: TensorRt,
        graph: GraphFile,
        engine: Any,
        lane: Lane,
        largest: Mapping[str, int],
        usual: Mapping[str, frozenset[int]],
        inputs: Mapping[str, DeviceArray],
        outputs: Mapping[str, DeviceArray],
    ) -> None:
        self.name = graph.name
        self._library, self._engine, self._graph, self._lane = library, engine, graph, lane
        self._largest, self._usual = dict(largest), usual
        sizes = (size for shape in graph.inputs.values() for size in shape)
        self._varying = list(dict.fromkeys(size for size in sizes if isinstance(size, str)))
        self._contexts: dict[tuple[int, ...], _Context] = {}
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        declared = {name for name in names if library.is_input(engine, name)}
        if declared != graph.inputs.keys() or set(names) - declared != set(graph.outputs):
            raise DeviceError(
                f"the engine of {graph.name} has other tensors than its graph; delete it from the cache"
            )
        self.inputs = {name: inputs.get(name) or self._input(name) for name in graph.inputs}
        self.outputs = dict(outputs)

    def scratch_bytes(self) -> int:
        """Device memory that a run of the largest size needs beside its tensors."""
        last = self._profile(self._largest.get("n", 1))
        return max(int(self._engine.get_device_memory_size_for_profile_v2(i)) for i in range(last + 1))

    def allocate_outputs(self) -> None:
        """Make the memory of outputs that are not bound. The lane's scratch memory must be there."""
        context = self._library.context(self._engine)
        self._set_sizes(context, self._largest, self._profile(self._largest.get("n", 1)))
        for name in self._graph.outputs:
            if name not in self.outputs:
                shape = tuple(int(size) for size in context.get_tensor_shape(name))
                self.outputs[name] = self._lane.array(shape, self._dtype(name))

    def run(self, **sizes: int) -> None:
        """Put a run on the lane's stream, for these sizes of the dimensions that vary from call to call."""
        known = {**self._largest, **sizes}
        usual = all(known[name] in self._usual.get(name, {known[name]}) for name in self._varying)
        profile = self._profile(known.get("n", 1))
        key = tuple(known[name] for name in self._varying) if usual else (-1, profile)
        entry = self._contexts.get(key)
        if entry is None:
            entry = self._contexts[key] = _Context(self._library.context(self._engine))
            self._set_sizes(entry.context, known, profile)
            self._bind(entry.context)
            self._enqueue(entry.context)
            if usual:
                self._record(entry)
            return
        if entry.recorded is not None:
            self._lane.device.launch(entry.recorded, self._lane.stream)
            return
        if not usual:
            self._set_sizes(entry.context, known, profile)
        self._enqueue(entry.context)

    def _record(self, entry: _Context) -> None:
        """After a first run, which does what cannot be recorded."""
        self._lane.wait()
        try:
            entry.recorded = self._lane.device.record(lambda: self._enqueue(entry.context), self._lane.stream)
        except DeviceError as error:
            _log.warning("the launch of %s cannot be recorded and stays slower: %s", self.name, error)

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._lane.stream):
            raise self._library.refused(f"TensorRT cannot run {self.name}")

    def _set_sizes(self, context: Any, sizes: Mapping[str, int], profile: int) -> None:
        if context.active_optimization_profile != profile:
            if not context.set_optimization_profile_async(profile, self._lane.stream):
                raise self._library.refused(f"TensorRT has no profile {profile} of {self.name}")
            self._lane.wait()
        for name, shape in self._graph.inputs.items():
            if not context.set_input_shape(name, shape_of(shape, sizes)):
                raise self._library.refused(f"{self.name} takes no {name} of {shape_of(shape, sizes)}")
        context.set_device_memory(self._lane.workspace, self._lane.workspace_bytes)

    def _bind(self, context: Any) -> None:
        for name, array in {**self.inputs, **self.outputs}.items():
            if not context.set_tensor_address(name, array.address):
                raise self._library.refused(f"TensorRT cannot bind {name} of {self.name}")

    def _profile(self, objects: int) -> int:
        if "n" not in self._varying:
            return 0
        return next(i for i, most in enumerate(OBJECT_PROFILES) if objects <= most)

    def _input(self, name: str) -> DeviceArray:
        return self._lane.array(shape_of(self._graph.inputs[name], self._largest), self._dtype(name))

    def _dtype(self, name: str) -> np.dtype[Any]:
        return DTYPES[self._engine.get_tensor_dtype(name).name]


@dataclass
class _Context:
    """An execution context, and its recorded launch if there is one."""

    context: Any
    recorded: Any = None
