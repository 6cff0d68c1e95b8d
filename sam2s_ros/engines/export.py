"""The graphs of a network as ONNX files, kept on disk, so that a network is exported once on a machine.

A folder of the cache holds the graphs of one network and a manifest of what they were made from, with a checksum for
each file. Whatever is wrong with it, the graphs are made anew; where nothing can be written, they are made each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from sam2s_ros.engines.graphs import DIMENSIONS, GRAPH_VERSION, GRAPHS, Graph
from sam2s_ros.network.checkpoint import weights_sha256
from sam2s_ros.network.sam2 import Sam2Network

OPSET = 20
EXPORTERS = ("torch", "onnx", "onnxscript")
"""Packages that make the files; another version of one makes other files."""
MANIFEST = "manifest.json"

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
    made_from = fingerprint(network)
    folder = (cache or cache_folder()) / _key(made_from)
    found = _read(folder, made_from)
    if found is not None:
        return found
    graphs = {graph.name: export_graph(graph(network)) for graph in GRAPHS}
    try:
        _write(folder, graphs, made_from)
    except OSError as error:
        _log.warning(
            "the exported graphs cannot be kept in %s (%s): the next start exports them again; "
            "set SAM2S_CACHE to a folder that can be written",
            folder.parent,
            error,
        )
    return graphs


def cache_folder() -> Path:
    """Where graphs are kept: $SAM2S_CACHE, or sam2s in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("SAM2S_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sam2s"


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


def export_graph(graph: Graph) -> GraphFile:
    """Export one graph through torch.export."""
    example = graph.eval().example()
    varying = {name: Dim(name, min=1, max=most) for name, most in DIMENSIONS.items()}
    shapes = tuple({i: varying[size] for i, size in enumerate(sizes)} for _, sizes in example.values())
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


def _key(made_from: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


def _read(folder: Path, made_from: dict[str, Any]) -> dict[str, GraphFile] | None:
    """The graphs in a folder, or None where they are missing, damaged or made from something else."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["made_from"] != made_from or manifest["graphs"].keys() != {g.name for g in GRAPHS}:
            raise ValueError("they were made from something else")
        return {name: _read_graph(folder, name, entry) for name, entry in manifest["graphs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("the exported graphs in %s cannot be used: %s", folder, error)
        return None


def _read_graph(folder: Path, name: str, entry: dict[str, Any]) -> GraphFile:
    model = (folder / f"{name}.onnx").read_bytes()
    if hashlib.sha256(model).hexdigest() != entry["sha256"]:
        raise ValueError(f"{name}.onnx is damaged")
    inputs = {key: tuple(sizes) for key, sizes in entry["inputs"].items()}
    return GraphFile(name, model, inputs, tuple(entry["outputs"]))


def _write(folder: Path, graphs: dict[str, GraphFile], made_from: dict[str, Any]) -> None:
    """Write a folder beside its place, then rename it: whoever reads sees all of it or nothing.

    What is in its place was found unusable, or was put there meanwhile by a process that made the same.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        entries = {}
        for name, graph in graphs.items():
            (draft / f"{name}.onnx").write_bytes(graph.model)
            checksum = hashlib.sha256(graph.model).hexdigest()
            entries[name] = {"sha256": checksum, "inputs": graph.inputs, "outputs": graph.outputs}
        manifest = {"made_from": made_from, "graphs": entries}
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        draft.chmod(0o755)
        if folder.exists():
            if _read(folder, made_from) is not None:
                return
            folder.rename(draft / "replaced")
        with contextlib.suppress(FileExistsError):
            draft.rename(folder)
            shutil.rmtree(folder / "replaced", ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
