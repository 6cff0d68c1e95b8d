"""Graphs on the CPU through OpenVINO, in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import openvino

from sam2s_ros.engines.export import GraphFile
from sam2s_ros.engines.runner import REDUCED_GRAPHS, GraphRunner

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoRunner(GraphRunner):
    """Every graph compiled for one object at a time: with all sizes known OpenVINO is up to twice as fast.

    `usual`: dimension -> the size that it mostly has. A graph all of whose varying dimensions are in it is compiled for
    these sizes; one with varying dimensions also for any size, which is slower.
    """

    name = "openvino"
    most_objects = 1

    def __init__(
        self, graphs: Mapping[str, GraphFile], threads: int, precision: str, usual: Mapping[str, int]
    ) -> None:
        self.precision, self.threads = precision, threads
        self.version = f"openvino {openvino.get_version().partition('-')[0]}"
        self._core = openvino.Core()
        self._graphs = {
            name: _CompiledGraph(self._core, graph, self._settings(name), usual)
            for name, graph in graphs.items()
        }

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return self._graphs[graph].run(inputs)

    def _settings(self, graph: str) -> dict[str, object]:
        """Nothing is left to OpenVINO's choice: it would take bf16 unasked where the CPU has it, and pin the threads of
        each graph to the same cores, though two graphs run at a time."""
        precision = self.precision if graph in REDUCED_GRAPHS else "fp32"
        return {
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(self.threads),
            "ENABLE_HYPER_THREADING": True,
            "ENABLE_CPU_PINNING": False,
        }


class _CompiledGraph:
    """A graph compiled for one object of any sizes, and for the usual sizes if it has some."""

    def __init__(
        self,
        core: openvino.Core,
        graph: GraphFile,
        settings: dict[str, object],
        usual: Mapping[str, int],
    ) -> None:
        model = core.read_model(graph.model)
        self._order = tuple(graph.inputs)
        self._usual: dict[str, tuple[int, ...]] = {}
        known = {"n": 1, **usual}
        sizes = {name: _sizes(shape, {"n": 1}) for name, shape in graph.inputs.items()}
        model.reshape(sizes)
        self._any = core.compile_model(model, "CPU", settings).create_infer_request()
        self._fast = self._any
        if any(-1 in shape for shape in sizes.values()):
            sizes = {name: _sizes(shape, known) for name, shape in graph.inputs.items()}
            if not any(-1 in shape for shape in sizes.values()):
                model.reshape(sizes)
                self._fast = core.compile_model(model, "CPU", settings).create_infer_request()
                self._usual = {name: tuple(shape) for name, shape in sizes.items()}

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        usual = all(inputs[name].shape == shape for name, shape in self._usual.items())
        request = self._fast if usual else self._any
        for index, name in enumerate(self._order):
            request.set_input_tensor(index, openvino.Tensor(inputs[name], shared_memory=True))
        request.infer()
        return [tensor.data for tensor in request.output_tensors]


def _sizes(shape: tuple[int | str, ...], known: Mapping[str, int]) -> list[int]:
    """A graph input's shape with the known dimensions filled in, -1 for the others."""
    return [known.get(size, -1) if isinstance(size, str) else size for size in shape]
