"""TensorRT-RTX compiles the graphs, which it does without a GPU: what it accepts here, a GPU can be given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from sam2s_ros.engines import EngineCapacity
from sam2s_ros.engines.device_graphs import (
    FLOAT_GRAPHS,
    REDUCIBLE,
    DeviceAttend,
    DeviceEncode,
    DeviceGraph,
)
from sam2s_ros.engines.export import DEVICE_PRECISIONS, GraphFile, export_graph, load_device_graphs
from sam2s_ros.engines.tensorrt_api import TensorRt
from sam2s_ros.engines.tensorrt_files import OBJECT_PROFILES, Reads, profiles
from sam2s_ros.network import build_network, with_image_size
from sam2s_ros.tracking.loader import load_network

pytest.importorskip("tensorrt_rtx", reason="install tensorrt-rtx-cu12, see requirements-dev.txt")
pytestmark = pytest.mark.timeout(900)  # the first test exports nano twice
CAPACITY = EngineCapacity()


def compile_graph(graph: GraphFile, capacity: EngineCapacity = CAPACITY) -> list[str]:
    """What TensorRT warned of; all profiles of `attend`, of the others that for the fewest and the most objects."""
    library, wanted = TensorRt(), profiles(graph, Reads.of(capacity))
    engine, _ = library.build(graph.model, wanted if graph.name == "attend" else wanted[::3])
    assert len(engine) > 1000
    return library.warnings


@pytest.fixture(scope="module")
def nano(graph_folder: Path) -> dict[str, dict[str, GraphFile]]:
    """Precision -> the graphs of the bundled weights, by name."""
    network = load_network("nano")
    return {
        precision: load_device_graphs(network, precision, graph_folder) for precision in DEVICE_PRECISIONS
    }


@pytest.mark.parametrize("name", [kind.name for kind in (*REDUCIBLE, *FLOAT_GRAPHS)])
def test_every_graph_of_nano_compiles_in_float32(name: str, nano: dict[str, dict[str, GraphFile]]) -> None:
    assert compile_graph(nano["fp32"][name]) == []


@pytest.mark.parametrize("name", [kind.name for kind in REDUCIBLE])
def test_every_reducible_graph_of_nano_compiles_in_float16_without_a_warning(
    name: str, nano: dict[str, dict[str, GraphFile]]
) -> None:
    """TensorRT warns where a normalisation in float16 may overflow."""
    assert compile_graph(nano["fp16"][name]) == []
    assert len(nano["fp16"][name].model) < 0.75 * len(nano["fp32"][name].model), "it is reduced"


@pytest.mark.parametrize("kind", [DeviceEncode, DeviceAttend], ids=lambda kind: kind.name)
def test_hiera_tiny_at_512_pixels_compiles_in_float16(kind: type[DeviceGraph]) -> None:
    """Those of its graphs that another size and trunk make different from nano's."""
    torch.manual_seed(0)
    network = with_image_size(build_network("sam2.1_hiera_t"), 512)
    assert compile_graph(export_graph(kind(network, half=True))) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_hiera_b_plus_at_512_pixels_with_long_term_memory_compiles(half: bool) -> None:
    torch.manual_seed(0)
    network = with_image_size(build_network("sam2.1_hiera_b+", long_term=True), 512)
    capacity = dataclasses.replace(CAPACITY, long_term_slots=4)
    for kind in REDUCIBLE:
        assert compile_graph(export_graph(kind(network, half=half)), capacity) == [], kind.name
    for other in FLOAT_GRAPHS if not half else ():
        assert compile_graph(export_graph(other(network)), capacity) == [], other.name


def test_there_is_a_profile_for_each_number_of_objects(nano: dict[str, dict[str, GraphFile]]) -> None:
    found = profiles(nano["fp32"]["similarity"], Reads.of(CAPACITY))
    assert [shapes["feature_slots"][1] for shapes in found] == [(size,) for size in OBJECT_PROFILES]
    assert [shapes["feature_slots"][0] for shapes in found] == [(1,), (2,), (5,), (9,)]


def test_a_file_that_is_no_graph_is_refused_with_tensorrts_words() -> None:
    with pytest.raises(RuntimeError, match="TensorRT cannot read the exported graph: "):
        TensorRt().build(b"nonsense", [])
