"""Compiled engines, one a graph, kept on disk: TensorRT builds for minutes, and only for one GPU and version.

An engine is kept under everything that it depends on: the graph's weights, configuration and precision, its profiles,
the library's version and the GPU. Whatever is wrong with a kept one, it is built anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2s_ros.engines.base import EngineCapacity
from sam2s_ros.engines.cuda_device import DeviceError
from sam2s_ros.engines.device_graphs import BANK_DIMENSIONS
from sam2s_ros.engines.export import GraphFile
from sam2s_ros.engines.folder_cache import CachedFile, folder_for, read_folder, write_folder
from sam2s_ros.engines.tensorrt_api import Ranges, TensorRt

ENGINE_VERSION = 1
"""Raised when engines are built otherwise; those made before are then not used."""
OBJECT_PROFILES = (1, 4, 8, 32)
"""Objects N in one run; each has an optimisation profile from just above the one before."""
MAX_POINTS = 32
"""Points of one prompt."""
NO_PROMPT_TOKENS = 2
"""Tokens that stand for no prompt."""
FILE = "engine"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reads:
    """How much of its memory an object reads: `memory` entries M and `pointers` P, (usual, most) each."""

    memory: tuple[int, int]
    pointers: tuple[int, int]

    @classmethod
    def of(cls, capacity: EngineCapacity) -> Reads:
        """One conditioning frame and all recent ones are usual."""
        return cls(
            (capacity.recent_slots + 1, capacity.memory_reads),
            (capacity.recent_pointers + 1, capacity.pointer_reads),
        )

    def ranges(self) -> dict[str, tuple[int, int, int]]:
        """Least, usual and largest size of every dimension but N."""
        banks = {name: (1, most // 8, most) for name, most in BANK_DIMENSIONS.items()}
        return banks | {
            "m": (1, *self.memory),
            "p": (1, *self.pointers),
            "k": (1, 1, MAX_POINTS),
            "t": (NO_PROMPT_TOKENS, NO_PROMPT_TOKENS, MAX_POINTS + 1),
        }


def profiles(graph: GraphFile, reads: Reads) -> list[Ranges]:
    """The optimisation profiles of a graph: one for each of `OBJECT_PROFILES`, one alone if it has no objects."""
    if not any("n" in sizes for sizes in graph.inputs.values()):
        return [_shapes(graph, reads.ranges())]
    least = (1, *(size + 1 for size in OBJECT_PROFILES[:-1]))
    return [
        _shapes(graph, {**reads.ranges(), "n": (low, most, most)})
        for low, most in zip(least, OBJECT_PROFILES, strict=True)
    ]


def _shapes(graph: GraphFile, ranges: Mapping[str, tuple[int, int, int]]) -> Ranges:
    least, usual, most = ({name: sizes[i] for name, sizes in ranges.items()} for i in range(3))
    return {
        name: (shape_of(sizes, least), shape_of(sizes, usual), shape_of(sizes, most))
        for name, sizes in graph.inputs.items()
    }


def shape_of(sizes: tuple[int | str, ...], known: Mapping[str, int]) -> tuple[int, ...]:
    """An input's shape with its varying dimensions filled in."""
    return tuple(known[size] if isinstance(size, str) else size for size in sizes)


@dataclass(frozen=True)
class Target:
    """What engines are built with and for."""

    library: TensorRt
    gpu: str
    """Name of the GPU."""
    compute_capability: str


class EngineFiles:
    """The engines of one network's graphs, out of the cache or built.

    `made_from` says what a graph was made from (`export.device_fingerprint`, of its own precision). `cache` is the
    folder to use, `cache_folder()` if None. `progress` is told of every build: graph, phase and the phase's share done.
    """

    def __init__(
        self,
        target: Target,
        reads: Reads,
        made_from: Callable[[str], dict[str, Any]],
        cache: Path | None = None,
        progress: Callable[[str, str, float], None] | None = None,
    ) -> None:
        self._target, self._reads, self._made_from = target, reads, made_from
        self._cache, self._progress = cache, progress

    def load(self, graphs: Mapping[str, GraphFile]) -> Iterator[tuple[GraphFile, Any]]:
        """Every graph with its engine (`ICudaEngine`); one that is in the cache but does not load is built anew.

        Raises:
            DeviceError: an engine cannot be built, or not be loaded just after.
        """
        for graph in graphs.values():
            kept = self.find(graph)
            if kept is None:
                yield graph, self._target.library.load(self.build(graph))
                continue
            try:
                engine = self._target.library.load(kept)
            except DeviceError as error:
                _log.warning("the kept engine of %s is not used but built anew: %s", graph.name, error)
                engine = self._target.library.load(self.build(graph, replace=True))
            yield graph, engine

    def find(self, graph: GraphFile) -> bytes | None:
        """The engine in the cache, if there is one and it is whole."""
        made_from = self._key(graph)
        found = read_folder(folder_for(made_from, self._cache), made_from, f"the engine of {graph.name}")
        return None if found is None else found[FILE].content

    def build(self, graph: GraphFile, replace: bool = False) -> bytes:
        """Build an engine and put it into the cache; `replace`: even in the place of one that is whole."""
        _log.warning(
            "building the TensorRT engine of %s for %s, once; `sam2s build-engine` does it beforehand",
            graph.name,
            self._target.gpu,
        )
        progress = None
        if self._progress is not None:
            tell = self._progress
            progress = lambda phase, share: tell(graph.name, phase, share)  # noqa: E731
        library = self._target.library
        engine, timings = library.build(graph.model, profiles(graph, self._reads), self._timings(), progress)
        self._keep(self._key(graph), engine, replace)
        if timings:
            self._keep(self._timing_key(), timings, replace=True)
        return engine

    def _keep(self, made_from: dict[str, Any], content: bytes, replace: bool) -> None:
        folder = folder_for(made_from, self._cache)
        try:
            write_folder(folder, {FILE: CachedFile(content)}, made_from, "what TensorRT built", replace)
        except OSError as error:
            _log.warning(
                "what TensorRT built cannot be kept in %s (%s): the next start builds it again; "
                "set SAM2S_CACHE to a folder that can be written",
                folder.parent,
                error,
            )

    def _timings(self) -> bytes:
        if not self._target.library.timed:
            return b""
        key = self._timing_key()
        found = read_folder(folder_for(key, self._cache), key, "TensorRT's timings")
        return b"" if found is None else found[FILE].content

    def _timing_key(self) -> dict[str, Any]:
        return {
            "timings": ENGINE_VERSION,
            "tensorrt": self._target.library.version,
            "gpu": self._target.gpu,
            "compute_capability": self._target.compute_capability,
        }

    def _key(self, graph: GraphFile) -> dict[str, Any]:
        return {
            "graph": graph.name,
            "made_from": self._made_from(graph.name),
            "engine_version": ENGINE_VERSION,
            "profiles": [
                {name: [list(shape) for shape in shapes] for name, shapes in one.items()}
                for one in profiles(graph, self._reads)
            ],
            "tensorrt": self._target.library.version,
            "gpu": self._target.gpu,
            "compute_capability": self._target.compute_capability,
        }
