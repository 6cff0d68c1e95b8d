"""Graphs on the CPU through OpenVINO, in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import openvino

from sam2s_ros.engines.export import GraphFile
from sam2s_ros.engines.runner import REDUCED_GRAPHS, Gathered, GraphRunner, Inputs

PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}
BATCHES = (4, 2, 1)
"""Numbers of objects that are run together. Four take three quarters of the time that they take one by one."""


class OpenVinoRunner(GraphRunner):
    """Every graph compiled for fixed sizes, with which OpenVINO is up to twice as fast: for each number of objects in
    `batches`, and for each set of sizes that the varying dimensions mostly have (`usual`). One with varying dimensions
    is also compiled for any size of these and one object, which is slower; several objects are then run one by one.
    """

    name = "openvino"

    def __init__(
        self,
        graphs: Mapping[str, GraphFile],
        threads: int,
        precision: str,
        usual: Sequence[Mapping[str, int]],
        most_objects: int,
    ) -> None:
        self.batches = tuple(batch for batch in BATCHES if batch <= most_objects)
        self.precision, self.threads = precision, threads
        # With one thread, other threads have work for the other cores, and one that is woken takes the caller's.
        self.runs_beside = threads > 1
        self.version = f"openvino {openvino.get_version().partition('-')[0]}"
        self.usual_reads = tuple(sorted((one["m"], one["p"]) for one in usual if "m" in one))
        self._core = openvino.Core()
        self._graphs = {name: self._compiled(graph, usual) for name, graph in graphs.items()}

    def run(self, graph: str, inputs: Inputs) -> list[np.ndarray]:
        return self._graphs[graph].run(inputs)

    def start(self, graph: str, inputs: Inputs) -> Callable[[], list[np.ndarray]]:
        return self._graphs[graph].start(inputs)

    def run_into(self, graph: str, inputs: Inputs, outputs: Sequence[np.ndarray]) -> None:
        self._graphs[graph].run_into(inputs, outputs)

    def _compiled(self, graph: GraphFile, usual: Sequence[Mapping[str, int]]) -> _Graph:
        model = self._core.read_model(graph.model)
        settings = self._settings(graph.name)
        shapes = []
        for batch in self.batches:
            known = [_sizes(graph, {"n": batch, **sizes}) for sizes in ({}, *usual)]
            fixed = [one for one in known if not any(-1 in shape for shape in one.values())]
            shapes += fixed
        alone = _sizes(graph, {"n": 1})
        if any(-1 in shape for shape in alone.values()):
            shapes.append(alone)
        compiled = []
        for one in [one for number, one in enumerate(shapes) if one not in shapes[:number]]:
            model.reshape(one)
            compiled.append(self._core.compile_model(model, "CPU", settings))
        return _Graph(graph, compiled)

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


class _Graph:
    """One graph in the sizes that it is compiled for."""

    def __init__(self, graph: GraphFile, compiled: Sequence[openvino.CompiledModel]) -> None:
        self._order = tuple(graph.inputs)
        self._of_objects = {name for name, shape in graph.inputs.items() if shape and shape[0] == "n"}
        requests = [_Request(one, self._order) for one in compiled]
        self._fixed = {request.shapes: request for request in requests if request.shapes is not None}
        self._any = next((request for request in requests if request.shapes is None), None)

    def run(self, inputs: Inputs) -> list[np.ndarray]:
        """The outputs, valid until the next run."""
        if (request := self._fixed.get(self._shapes(inputs))) is not None:
            return request.run(inputs)
        objects = {inputs[name].shape[0] for name in self._of_objects}
        if self._any is None or len(objects) != 1:
            raise self._unfit(inputs)
        if objects == {1}:
            return self._any.run(inputs)
        found = [
            [
                one.copy()
                for one in self.run({name: self._of_one(name, inputs[name], number) for name in inputs})
            ]
            for number in range(*objects)
        ]
        return [np.concatenate(one) for one in zip(*found, strict=True)]

    def start(self, inputs: Inputs) -> Callable[[], list[np.ndarray]]:
        """Begin a run in the sizes that it is compiled for."""
        return self._fitting(inputs).start(inputs)

    def run_into(self, inputs: Inputs, outputs: Sequence[np.ndarray]) -> None:
        """Run in the sizes that it is compiled for, with the outputs in these arrays."""
        self._fitting(inputs).run_into(inputs, outputs)

    def _fitting(self, inputs: Inputs) -> _Request:
        """The request compiled for the inputs' sizes; ValueError where there is none."""
        if (request := self._fixed.get(self._shapes(inputs))) is None:
            raise self._unfit(inputs)
        return request

    def _shapes(self, inputs: Inputs) -> tuple[tuple[int, ...], ...]:
        return tuple(inputs[name].shape for name in self._order)

    def _unfit(self, inputs: Inputs) -> ValueError:
        known = ", ".join(map(str, self._fixed))
        return ValueError(f"inputs {self._order} of shapes {self._shapes(inputs)}: the graph takes {known}")

    def _of_one(self, name: str, value: np.ndarray | Gathered, number: int) -> np.ndarray | Gathered:
        if name not in self._of_objects:
            return value
        return value.of(number) if isinstance(value, Gathered) else value[number : number + 1]


class _Request:
    """A compiled graph with its tensors. `shapes` of the inputs in order where all are fixed, else None."""

    def __init__(self, compiled: openvino.CompiledModel, order: tuple[str, ...]) -> None:
        self._request, self._order = compiled.create_infer_request(), order
        self.shapes: tuple[tuple[int, ...], ...] | None = None
        self._inputs: list[np.ndarray] = []
        self._outputs: list[np.ndarray] = []
        self._own_outputs = False
        if not any(one.partial_shape.is_dynamic for one in compiled.inputs):
            self.shapes = tuple(tuple(one.shape) for one in compiled.inputs)
            self._inputs = [self._request.get_input_tensor(i).data for i in range(len(order))]
            self._outputs = [
                np.empty(tuple(one.shape), dtype=one.element_type.to_dtype()) for one in compiled.outputs
            ]

    def run(self, inputs: Inputs) -> list[np.ndarray]:
        """The outputs, valid until the next run."""
        self._prepare(inputs)
        self._request.infer()
        return self._found()

    def start(self, inputs: Inputs) -> Callable[[], list[np.ndarray]]:
        """Begin a run on threads of OpenVINO's; what is returned waits for it and gives the outputs."""
        self._prepare(inputs)
        self._request.start_async()

        def finish() -> list[np.ndarray]:
            self._request.wait()
            return self._found()

        return finish

    def run_into(self, inputs: Inputs, outputs: Sequence[np.ndarray]) -> None:
        """Of fixed shapes: run with the outputs in these arrays."""
        self._fill(inputs)
        self._write_into(outputs)
        self._own_outputs = False
        self._request.infer()

    def _prepare(self, inputs: Inputs) -> None:
        self._fill(inputs)
        if self.shapes is not None and not self._own_outputs:
            self._write_into(self._outputs)
            self._own_outputs = True

    def _found(self) -> list[np.ndarray]:
        if self.shapes is not None:
            return self._outputs
        return [one.data for one in self._request.output_tensors]

    def _write_into(self, outputs: Sequence[np.ndarray]) -> None:
        for index, array in enumerate(outputs):
            self._request.set_output_tensor(index, openvino.Tensor(array, shared_memory=True))

    def _fill(self, inputs: Inputs) -> None:
        """Copy the inputs into the request's own tensors: as fast as to hand out tensors around them, and those here
        are known to the compiled graph."""
        if self.shapes is None:
            for index, name in enumerate(self._order):
                value = inputs[name]
                array = value.array() if isinstance(value, Gathered) else value
                self._request.set_input_tensor(index, openvino.Tensor(array))
            return
        for target, name in zip(self._inputs, self._order, strict=True):
            value = inputs[name]
            if isinstance(value, Gathered):
                value.into(target)
            else:
                np.copyto(target, value)


def _sizes(graph: GraphFile, known: Mapping[str, int]) -> dict[str, list[int]]:
    """The shapes of a graph's inputs with the known dimensions filled in, -1 for the others."""
    return {
        name: [known.get(size, -1) if isinstance(size, str) else size for size in shape]
        for name, shape in graph.inputs.items()
    }
