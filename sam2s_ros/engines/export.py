"""The graphs of a network as ONNX files, kept on disk, so that a network is exported once on a machine.

The files are in `folder_cache`, with what they were made from. Whatever is wrong with them, the graphs are made anew;
where nothing can be written, they are made each time.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from sam2s_ros.engines.device_graphs import (
    BANK_DIMENSIONS,
    DEVICE_GRAPH_VERSION,
    REDUCIBLE,
    DeviceGraph,
    float_graphs_of,
)
from sam2s_ros.engines.folder_cache import CachedFile, folder_for, read_folder, write_folder
from sam2s_ros.engines.graphs import DIMENSIONS, GRAPH_VERSION, Graph, graphs_of
from sam2s_ros.network.checkpoint import weights_sha256
from sam2s_ros.network.sam2 import Sam2Network

OPSET = 20
EXPORTERS = ("torch", "onnx", "onnxscript")
"""Packages that make the files; another version of one makes other files."""
DEVICE_PRECISIONS = ("fp32", "fp16")
"""Of the graphs for a GPU."""
WHAT = "the exported graphs"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphFile:
    """One exported graph. `inputs`: name -> sizes, of which those that vary are names in `DIMENSIONS`."""

    name: str
    model: bytes
    """The ONNX file, weights included."""
    inputs: dict[str, tuple[int | str, ...]]
    outputs: tuple[str, ...]


def load_graphs(network: Sam2Network, cache: Path | None = None) -> dict[str, GraphFile]:
    """The network's graphs by name, out of the cache if they are there; else they are exported and put there.

    `cache` is the folder to use, `cache_folder()` if None. Raises ImportError where the packages in `EXPORTERS` are
    missing. Nothing that is wrong with the cache raises: a warning is logged.
    """
    return _load(fingerprint(network), network, graphs_of(network), {}, cache)


def load_device_graphs(
    network: Sam2Network, precision: str, cache: Path | None = None
) -> dict[str, GraphFile]:
    """The graphs of `device_graphs` by name, as `load_graphs`; "fp16" reduces those in `REDUCIBLE`."""
    graphs: dict[str, GraphFile] = {}
    for kinds, half in ((REDUCIBLE, precision == "fp16"), (float_graphs_of(network), False)):
        made_from = device_fingerprint(network, half) | {"graphs": [kind.__name__ for kind in kinds]}
        graphs |= _load(made_from, network, kinds, {"half": True} if half else {}, cache)
    return graphs


def fingerprint(network: Sam2Network) -> dict[str, Any]:
    """Everything that the files depend on, as JSON keeps it."""
    made_from = {
        "weights_sha256": weights_sha256(network.state_dict()),
        "config": asdict(network.config),
        "graph_version": GRAPH_VERSION,
        "opset": OPSET,
        "packages": {name: importlib.metadata.version(name) for name in EXPORTERS},
    }
    return dict(json.loads(json.dumps(made_from)))


def device_fingerprint(network: Sam2Network, half: bool) -> dict[str, Any]:
    """`fingerprint` of graphs for a GPU."""
    precision = "fp16" if half else "fp32"
    return fingerprint(network) | {"device_graph_version": DEVICE_GRAPH_VERSION, "precision": precision}


def _load(
    made_from: dict[str, Any],
    network: Sam2Network,
    kinds: Sequence[type[Graph]],
    options: dict[str, Any],
    cache: Path | None,
) -> dict[str, GraphFile]:
    folder = folder_for(made_from, cache)
    found = read_folder(folder, made_from, WHAT)
    if found is not None:
        return {graph.name: graph for graph in map(_from_file, found.values())}
    graphs = {}
    for kind in kinds:
        graph = kind(network, **options)
        graphs[graph.name] = export_graph(graph)
    try:
        write_folder(folder, graph_files(graphs), made_from, WHAT)
    except OSError as error:
        _log.warning(
            "the exported graphs cannot be kept in %s (%s): the next start exports them again; "
            "set SAM2S_CACHE to a folder that can be written",
            folder.parent,
            error,
        )
    return graphs


def graph_files(graphs: dict[str, GraphFile]) -> dict[str, CachedFile]:
    """The graphs as files of a folder, by file name."""
    return {
        f"{name}.onnx": CachedFile(
            graph.model, {"graph": name, "inputs": graph.inputs, "outputs": graph.outputs}
        )
        for name, graph in graphs.items()
    }


def _from_file(file: CachedFile) -> GraphFile:
    inputs = {name: tuple(sizes) for name, sizes in file.facts["inputs"].items()}
    return GraphFile(file.facts["graph"], file.content, inputs, tuple(file.facts["outputs"]))


def export_graph(graph: Graph) -> GraphFile:
    """Export one graph through torch.export."""
    example = graph.eval().example()
    varying = {name: Dim(name, min=1, max=most) for name, most in (DIMENSIONS | BANK_DIMENSIONS).items()}
    shapes: tuple[Any, ...] = tuple(
        {i: varying[size] for i, size in enumerate(sizes)} for _, sizes in example.values()
    )
    if isinstance(graph, DeviceGraph):
        shapes = (shapes,)  # those of its one parameter
    with torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            graph,
            tuple(tensor for tensor, _ in example.values()),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            dynamic_shapes=shapes,
            input_names=list(example),
            output_names=list(graph.outputs),
            verbose=False,
        )
    assert program is not None  # with dynamo
    inputs = {name: (*sizes, *tensor.shape[len(sizes) :]) for name, (tensor, sizes) in example.items()}
    return GraphFile(graph.name, program.model_proto.SerializeToString(), inputs, graph.outputs)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without what the exporter says of its own future and of optional packages."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
