"""TensorRT's Python API over ONNX Runtime: the names that the code uses, the rules that it must keep, CPU arithmetic.

A run is refused where TensorRT would refuse it or be undefined: no or short memory, a size outside the profile, an
address that is not device memory. `test_tensorrt_api.py` holds every name to the real module.
"""

from __future__ import annotations

import ctypes
import json
from enum import Enum, IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cuda_standin import Cuda

VERSION = "10.0.standin"
WORKSPACE = 4096
TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}
ONNX_TYPES = {1: "FLOAT", 10: "HALF", 7: "INT64", 6: "INT32", 2: "UINT8", 9: "BOOL"}


class DataType(Enum):
    FLOAT, HALF, INT64, INT32, UINT8, BOOL = range(6)


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


class ExecutionContextAllocationStrategy(Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    pass


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content or b"timings"


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: tuple, opt: tuple, max: tuple) -> None:  # noqa: A002
        self.shapes[input] = [min, opt, max]


class IBuilderConfig:
    def __init__(self) -> None:
        self.profiles: list[IOptimizationProfile] = []
        self.progress_monitor: Any = None
        self.timings = b""

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache.content not in (b"", b"timings"):
            return False
        self.timings = cache.content
        return True


class INetworkDefinition:
    def __init__(self) -> None:
        self.model = b""


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self.network, self.logger = network, logger

    def parse(self, model: bytes) -> bool:
        try:
            onnx.load_from_string(model)
        except Exception as error:
            self.logger.log(ILogger.ERROR, f"not a model: {error}")
            return False
        self.network.model = model
        return True


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        Standin.current.built += 1
        if Standin.current.refuse_builds:
            self.logger.log(ILogger.ERROR, "out of memory while building")
            return None
        if config.progress_monitor is not None:
            config.progress_monitor.phase_start("Building", None, 2)
            for step in range(2):
                config.progress_monitor.step_complete("Building", step)
            config.progress_monitor.phase_finish("Building")
        header = json.dumps(
            {"gpu": Standin.current.cuda.gpu, "profiles": [p.shapes for p in config.profiles]}
        )
        return header.encode() + b"\n" + network.model


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        header, _, model = serialized_engine.partition(b"\n")
        facts = json.loads(header)
        if facts["gpu"] != Standin.current.cuda.gpu:
            self.logger.log(ILogger.ERROR, f"this engine is for {facts['gpu']}")
            return None
        return ICudaEngine(facts["profiles"], model, self.logger)


class ICudaEngine:
    def __init__(self, profiles: list[dict[str, Any]], model: bytes, logger: ILogger) -> None:
        self.profiles, self.logger = profiles, logger
        graph = onnx.load_from_string(model).graph
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]
        values = [*graph.input, *graph.output]
        self.dtypes = {value.name: ONNX_TYPES[value.type.tensor_type.elem_type] for value in values}
        self.dimensions = {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in values
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self.dtypes)

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.dtypes[name]]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return WORKSPACE * (profile_index + 1)

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> IExecutionContext:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        Standin.current.contexts += 1
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self.active_optimization_profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.memory = (0, 0)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if profile_index >= len(self.engine.profiles):
            return False
        self.active_optimization_profile = profile_index
        self.shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.profiles[self.active_optimization_profile][name]
        if len(shape) != len(least) or not all(
            a <= b <= c for a, b, c in zip(least, shape, most, strict=True)
        ):
            self.engine.logger.log(ILogger.ERROR, f"{name} {shape} is not within {least} .. {most}")
            return False
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        known = {
            size: self.shapes[tensor][axis]
            for tensor in self.engine.inputs
            for axis, size in enumerate(self.engine.dimensions[tensor])
        }
        return tuple(
            size if isinstance(size, int) else int(eval(size, {}, known))  # such as k + 1
            for size in self.engine.dimensions[name]
        )

    def set_device_memory(self, memory: int, size: int) -> None:
        self.memory = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, cuda = self.engine, Standin.current.cuda
        needed = engine.get_device_memory_size_for_profile_v2(self.active_optimization_profile)
        if self.memory[1] < needed or not cuda.on_device(*self.memory):
            engine.logger.log(ILogger.ERROR, "no device memory")
            return False
        places = {}
        for name in [*engine.inputs, *engine.outputs]:
            dtype, shape = np.dtype(TYPES[engine.dtypes[name]]), self.get_tensor_shape(name)
            size = int(np.prod(shape)) * dtype.itemsize
            if not cuda.on_device(self.addresses.get(name, 0), size):
                engine.logger.log(ILogger.ERROR, f"{name} is not bound to {size} bytes of device memory")
                return False
            places[name] = (self.addresses[name], shape, dtype)
        Standin.current.runs += 1
        cuda.put(stream_handle, lambda: self._run(places))
        return True

    def _run(self, places: dict[str, Any]) -> None:
        given = {name: _view(*places[name]).copy() for name in self.engine.inputs}
        found = self.engine.session.run(self.engine.outputs, given)
        for name, values in zip(self.engine.outputs, found, strict=True):
            _view(*places[name])[...] = values


def _view(address: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape)) * dtype.itemsize
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(dtype).reshape(shape)


class Standin:
    """The machine that the stand-ins pretend to be, and what happened on it."""

    current: Standin

    def __init__(self, cuda: Cuda) -> None:
        Standin.current = self
        self.cuda = cuda
        self.built = self.contexts = self.runs = 0
        self.refuse_builds = False

    def module(self, name: str = "tensorrt") -> ModuleType:
        module = ModuleType(name)
        for member in API:
            setattr(module, member.__name__, member)
        module.__version__ = VERSION  # type: ignore[attr-defined]
        module.__spec__ = ModuleSpec(name, None)  # others look for it
        return module


API = (
    DataType,
    TensorIOMode,
    ExecutionContextAllocationStrategy,
    NetworkDefinitionCreationFlag,
    ILogger,
    IProgressMonitor,
    ITimingCache,
    IOptimizationProfile,
    IBuilderConfig,
    INetworkDefinition,
    OnnxParser,
    Builder,
    Runtime,
    ICudaEngine,
    IExecutionContext,
)
"""What the module has."""
