"""The one file that imports TensorRT: `tensorrt` where it is installed, else `tensorrt_rtx`, which has the same API.

Networks are strongly typed: precisions are those of the ONNX file, and no builder flag changes them. Only what
TensorRT 10.3 to 11 and TensorRT-RTX have in common is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sam2s_ros.engines.cuda_device import DeviceError

Ranges = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input name -> its least, usual and largest shape."""
INSTALL = "pip install tensorrt-rtx-cu12 (RTX and data-centre GPUs), or tensorrt (Jetson: from its JetPack)"
CHATTER = "Int64 binding"
"""Part of a parser's warning that input numbers must be int64, as they are."""

_log = logging.getLogger(__name__)


class TensorRt:
    """The library, its log, and what is built and loaded with it.

    Raises:
        ImportError: neither package is installed, or the one that is cannot be loaded.
    """

    def __init__(self) -> None:
        self._api: Any = _import()
        self.name = str(self._api.__name__)
        self.version = f"{self.name} {self._api.__version__}"
        self.warnings: list[str] = []
        """What the library warned of since the last build or load began."""
        self._errors: list[str] = []
        self._logger = self._make_logger()

    @property
    def timed(self) -> bool:
        """Whether builds measure kernels, so that a timing cache is worth keeping; TensorRT-RTX compiles without."""
        return self.name == "tensorrt"

    def build(
        self,
        model: bytes,
        profiles: Sequence[Ranges],
        timings: bytes = b"",
        progress: Callable[[str, float], None] | None = None,
    ) -> tuple[bytes, bytes]:
        """Compile an ONNX file: (engine, timings for the next build; empty without `timed`).

        Args:
            model: the ONNX file.
            profiles: one optimisation profile each; the first that covers a shape is for it.
            timings: what an earlier build gave; unusable ones are ignored.
            progress: told the name of a phase and its share done, 0 .. 1, from any thread.

        Raises:
            DeviceError: TensorRT refused; the message is its own.
        """
        self._begin()
        api = self._api
        builder = api.Builder(self._logger)
        network = builder.create_network(1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = api.OnnxParser(network, self._logger)
        if not parser.parse(model):
            raise self._error("TensorRT cannot read the exported graph")
        config = builder.create_builder_config()
        if progress is not None:
            config.progress_monitor = self._make_monitor(progress)
        for ranges in profiles:
            profile = builder.create_optimization_profile()
            for name, shapes in ranges.items():
                profile.set_shape(name, *shapes)
            config.add_optimization_profile(profile)
        cache = self._set_timings(config, timings) if self.timed else None
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise self._error("TensorRT cannot build the engine")
        return bytes(engine), b"" if cache is None else bytes(cache.serialize())

    def load(self, engine: bytes) -> Any:
        """An `ICudaEngine`. DeviceError where this library or GPU cannot run what was built."""
        self._begin()
        loaded = self._api.Runtime(self._logger).deserialize_cuda_engine(engine)
        if loaded is None:
            raise self._error("the engine was built for another GPU or TensorRT")
        return loaded

    def context(self, engine: Any) -> Any:
        """An `IExecutionContext` without device memory of its own."""
        self._begin()
        strategy = self._api.ExecutionContextAllocationStrategy.USER_MANAGED
        context = engine.create_execution_context(strategy)
        if context is None:
            raise self._error("TensorRT cannot make an execution context; is the device memory used up?")
        return context

    def is_input(self, engine: Any, name: str) -> bool:
        """Whether a tensor of an engine is an input."""
        return bool(engine.get_tensor_mode(name) == self._api.TensorIOMode.INPUT)

    def refused(self, what: str) -> DeviceError:
        """The error to raise when a call of the library reports failure."""
        return self._error(what)

    def _set_timings(self, config: Any, timings: bytes) -> Any:
        cache = config.create_timing_cache(timings)
        if cache is None or not config.set_timing_cache(cache, False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache

    def _begin(self) -> None:
        self.warnings.clear()
        self._errors.clear()

    def _error(self, what: str) -> DeviceError:
        return DeviceError(f"{what}: {self._errors[-1]}" if self._errors else what)

    def _make_logger(self) -> Any:
        api, warnings, errors = self._api, self.warnings, self._errors

        class Logger(api.ILogger):  # type: ignore[name-defined]
            def __init__(self) -> None:
                api.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (api.ILogger.ERROR, api.ILogger.INTERNAL_ERROR):
                    errors.append(message)
                    _log.info("TensorRT: %s", message)
                elif severity == api.ILogger.WARNING and CHATTER not in message:
                    warnings.append(message)
                    _log.info("TensorRT: %s", message)

        return Logger()

    def _make_monitor(self, progress: Callable[[str, float], None]) -> Any:
        api = self._api

        class Monitor(api.IProgressMonitor):  # type: ignore[name-defined]
            def __init__(self) -> None:
                api.IProgressMonitor.__init__(self)
                self.steps: dict[str, int] = {}

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                self.steps[phase_name] = max(num_steps, 1)

            def phase_finish(self, phase_name: str) -> None:
                self.steps.pop(phase_name, None)

            def step_complete(self, phase_name: str, step: int) -> bool:
                progress(phase_name, min((step + 1) / self.steps.get(phase_name, 1), 1.0))
                return True

        return Monitor()


def _import() -> Any:
    try:
        import tensorrt

        return tensorrt
    except (ImportError, OSError, RuntimeError) as first:
        try:
            import tensorrt_rtx

            return tensorrt_rtx
        except (ImportError, OSError, RuntimeError) as second:
            raise ImportError(f"TensorRT cannot be loaded ({first}; {second}): {INSTALL}") from second
