"""Graphs on the CPU through ONNX Runtime, in float32."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime

from sam2s_ros.engines.export import GraphFile
from sam2s_ros.engines.runner import Gathered, GraphRunner, Inputs


class OnnxRuntimeRunner(GraphRunner):
    """One session for each graph; its threads do not spin while they wait, since several sessions share the cores."""

    name = "onnxruntime"
    precision = "fp32"
    batches = (256,)

    def __init__(self, graphs: Mapping[str, GraphFile], threads: int) -> None:
        self.threads = threads
        self.version = f"onnxruntime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions = {
            name: onnxruntime.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
            for name, graph in graphs.items()
        }

    def run(self, graph: str, inputs: Inputs) -> list[np.ndarray]:
        arrays = {
            name: value.array() if isinstance(value, Gathered) else value for name, value in inputs.items()
        }
        return list(self._sessions[graph].run(None, arrays))
