"""Graphs on the CPU through OpenVINO, in float32 or bfloat16."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import openvino

from sam2s_ros.engines.export import GraphFile
from sam2s_ros.engines.runner import REDUCED_GRAPHS, GraphRunner

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}
ONE_OF_A_FRAME = ("encode",)
"""Graphs that nothing of an object goes into: of these there is one run at a time."""
AT_A_TIME = 2
"""Objects of which a graph is run at a time."""


class OpenVinoRunner(GraphRunner):
    """Every graph compiled for one object at a time: with all sizes known OpenVINO is up to twice as fast.

    One object has all threads. Of several, two are run at a time, each on half of the threads: the work of an object is
    too small to be shared well. What is left over of an odd number has all threads again.

    `usual`: sets of sizes that the varying dimensions mostly have. A graph is compiled for each set that names all of
    its varying dimensions; one with varying dimensions also for any size, which is slower.
    """

    name = "openvino"
    most_objects = 1

    def __init__(
        self,
        graphs: Mapping[str, GraphFile],
        threads: int,
        precision: str,
        usual: Sequence[Mapping[str, int]],
    ) -> None:
        self.precision, self.threads = precision, threads
        self.version = f"openvino {openvino.get_version().partition('-')[0]}"
        self._core = openvino.Core()
        self._alone = {name: self._compiled(graph, 1, usual)[0] for name, graph in graphs.items()}
        self._lanes = {
            name: self._compiled(graph, AT_A_TIME, usual)
            for name, graph in graphs.items()
            if name not in ONE_OF_A_FRAME and threads >= AT_A_TIME
        }

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return self._alone[graph].run(inputs)

    def run_each(
        self, graph: str, count: int, inputs: Callable[[int], Mapping[str, np.ndarray]]
    ) -> Iterator[list[np.ndarray]]:
        lanes = self._lanes.get(graph, ())
        together = count - count % AT_A_TIME if lanes else 0
        for number, lane in enumerate(lanes[:together]):
            lane.start(inputs(number))
        for number in range(together):
            lane = lanes[number % AT_A_TIME]
            yield lane.outputs()
            if number + AT_A_TIME < together:
                lane.start(inputs(number + AT_A_TIME))
        for number in range(together, count):
            yield self.run(graph, inputs(number))

    def _compiled(self, graph: GraphFile, lanes: int, usual: Sequence[Mapping[str, int]]) -> list[_Lane]:
        """The graph for so many runs at a time, which share the threads; each with tensors of its own."""
        model = self._core.read_model(graph.model)
        settings = self._settings(graph.name, lanes)
        shapes = [_sizes(graph, {"n": 1})]
        if any(-1 in shape for shape in shapes[0].values()):
            known = [_sizes(graph, {"n": 1, **sizes}) for sizes in usual]
            shapes += [one for one in known if not any(-1 in shape for shape in one.values())]
        compiled = []
        for one in shapes:
            model.reshape(one)
            compiled.append(self._core.compile_model(model, "CPU", settings))
        return [_Lane(compiled, tuple(graph.inputs)) for _ in range(lanes)]

    def _settings(self, graph: str, lanes: int) -> dict[str, object]:
        """Nothing is left to OpenVINO's choice: it would take bf16 unasked where the CPU has it, and pin the threads of
        each graph to the same cores, though two graphs run at a time."""
        precision = self.precision if graph in REDUCED_GRAPHS else "fp32"
        return {
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY" if lanes == 1 else "THROUGHPUT",
            "NUM_STREAMS": str(lanes),
            "INFERENCE_NUM_THREADS": str(self.threads),
            "ENABLE_HYPER_THREADING": True,
            "ENABLE_CPU_PINNING": False,
        }


class _Lane:
    """One graph in the sizes that it is compiled for, with tensors of its own for one run at a time."""

    def __init__(self, compiled: Sequence[openvino.CompiledModel], order: tuple[str, ...]) -> None:
        self._order = order
        requests = [_Request(one, order) for one in compiled]
        self._any = requests[0]
        self._fixed = {request.shapes: request for request in requests if request.shapes is not None}
        self._running = self._any

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs, valid until the next run."""
        request = self._request_for(inputs)
        request.request.infer()
        return request.outputs()

    def start(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Begin a run, once the one before has ended, should its outputs not have been wanted; the inputs may change as
        soon as this returns."""
        with contextlib.suppress(RuntimeError):
            self._running.request.wait()
        self._running = self._request_for(inputs)
        self._running.request.start_async()

    def outputs(self) -> list[np.ndarray]:
        """Those of the run that was begun, once it has ended; valid until the next run."""
        self._running.request.wait()
        return self._running.outputs()

    def _request_for(self, inputs: Mapping[str, np.ndarray]) -> _Request:
        """The request of these inputs' sizes, with the inputs in it."""
        shapes = tuple(inputs[name].shape for name in self._order)
        request = self._fixed.get(shapes, self._any)
        if request.shapes not in (None, shapes):
            raise ValueError(f"inputs {self._order} of shapes {shapes}: the graph takes {request.shapes}")
        request.fill(inputs)
        return request


class _Request:
    """A compiled graph with its tensors. `shapes` of the inputs in order where all are fixed, else None."""

    def __init__(self, compiled: openvino.CompiledModel, order: tuple[str, ...]) -> None:
        self.request, self._order = compiled.create_infer_request(), order
        self.shapes: tuple[tuple[int, ...], ...] | None = None
        self._inputs: list[np.ndarray] = []
        if not any(one.partial_shape.is_dynamic for one in compiled.inputs):
            self.shapes = tuple(tuple(one.shape) for one in compiled.inputs)
            self._inputs = [self.request.get_input_tensor(i).data for i in range(len(order))]

    def fill(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Copy the inputs into the request's own tensors: as fast as to hand out tensors around them, and those here
        are known to the compiled graph."""
        if self.shapes is None:
            for index, name in enumerate(self._order):
                self.request.set_input_tensor(index, openvino.Tensor(inputs[name]))
        else:
            for target, name in zip(self._inputs, self._order, strict=True):
                np.copyto(target, inputs[name])

    def outputs(self) -> list[np.ndarray]:
        return [tensor.data for tensor in self.request.output_tensors]


def _sizes(graph: GraphFile, known: Mapping[str, int]) -> dict[str, list[int]]:
    """The shapes of a graph's inputs with the known dimensions filled in, -1 for the others."""
    return {
        name: [known.get(size, -1) if isinstance(size, str) else size for size in shape]
        for name, shape in graph.inputs.items()
    }
