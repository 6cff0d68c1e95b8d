"""The cache of exported graphs: what is in it is used if it is whole and fits, and never trusted otherwise."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tracking_cases import small_network

from sam2s_ros.engines import export
from sam2s_ros.engines.export import GraphFile, load_graphs
from sam2s_ros.engines.folder_cache import cache_folder
from sam2s_ros.engines.graphs import GRAPHS, Graph


class CountingExporter:
    """Stands in for the exporter, which takes seconds a graph."""

    def __init__(self) -> None:
        self.exported: list[str] = []
        self.meanwhile: Callable[[], object] | None = None

    def __call__(self, graph: Graph) -> GraphFile:
        self.exported.append(graph.name)
        if self.meanwhile is not None:
            do, self.meanwhile = self.meanwhile, None
            do()
        inputs = {name: (*sizes, 7) for name, (_, sizes) in graph.example().items()}
        return GraphFile(graph.name, 100 * graph.name.encode(), inputs, graph.outputs)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> CountingExporter:
    counting = CountingExporter()
    monkeypatch.setattr(export, "export_graph", counting)
    return counting


def only_folder(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    return folder


def test_a_network_is_exported_once(exporter: CountingExporter, tmp_path: Path) -> None:
    first = load_graphs(small_network(), tmp_path)
    assert exporter.exported == [graph.name for graph in GRAPHS]
    assert load_graphs(small_network(), tmp_path) == first
    assert len(exporter.exported) == len(GRAPHS)
    load_graphs(small_network(seed=1), tmp_path)
    assert len(exporter.exported) == 2 * len(GRAPHS), "other weights"


def truncate(folder: Path) -> None:
    file = folder / "attend.onnx"
    file.write_bytes(file.read_bytes()[:50])


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "decode.onnx").read_bytes())
    content[20] ^= 1
    (folder / "decode.onnx").write_bytes(content)


def lose_a_file(folder: Path) -> None:
    (folder / "encode.onnx").unlink()


def claim_another_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["made_from"]["graph_version"] += 1
    (folder / "manifest.json").write_text(json.dumps(manifest))


def garble_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"made_from": ')


def empty_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[]")


@pytest.mark.parametrize(
    "harm",
    [
        truncate,
        flip_a_byte,
        lose_a_file,
        claim_another_version,
        garble_the_manifest,
        empty_the_manifest,
    ],
)
def test_a_damaged_or_stale_entry_is_made_anew(
    harm: Callable[[Path], None],
    exporter: CountingExporter,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = load_graphs(small_network(), tmp_path)
    harm(only_folder(tmp_path))
    assert load_graphs(small_network(), tmp_path) == first
    assert len(exporter.exported) == 2 * len(GRAPHS)
    assert "cannot be used" in caplog.text
    assert load_graphs(small_network(), tmp_path) == first
    assert len(exporter.exported) == 2 * len(GRAPHS), "it was repaired"
    assert [path.name[0] != "." for path in tmp_path.iterdir()] == [True], "nothing else is left"


@pytest.mark.parametrize("what", ["GRAPH_VERSION", "OPSET"])
def test_other_graph_code_makes_other_files(
    what: str, exporter: CountingExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_graphs(small_network(), tmp_path)
    monkeypatch.setattr(export, what, 99)
    load_graphs(small_network(), tmp_path)
    assert len(exporter.exported) == 2 * len(GRAPHS)


def test_a_cache_that_cannot_be_written_is_a_warning(
    exporter: CountingExporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert load_graphs(small_network(), tmp_path / "file").keys() == {graph.name for graph in GRAPHS}
    assert len(exporter.exported) == 2 * len(GRAPHS)
    assert "set SAM2S_CACHE to a folder that can be written" in caplog.text


def test_who_comes_second_uses_what_the_first_has_put_there(
    exporter: CountingExporter, tmp_path: Path
) -> None:
    """Another process exports the same network and is done before this one."""
    exporter.meanwhile = lambda: load_graphs(small_network(), tmp_path)
    graphs = load_graphs(small_network(), tmp_path)
    assert len(exporter.exported) == 2 * len(GRAPHS)
    assert load_graphs(small_network(), tmp_path) == graphs
    assert len(list(tmp_path.iterdir())) == 1


def test_two_that_write_at_once_do_not_disturb_each_other(
    exporter: CountingExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, real = threading.Barrier(2), export.write_folder

    def write_together(*arguments: object) -> None:
        both.wait(10)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "write_folder", write_together)
    results: list[dict[str, GraphFile]] = []
    networks = [small_network(), small_network()]
    threads = [
        threading.Thread(target=lambda network=network: results.append(load_graphs(network, tmp_path)))
        for network in networks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2 and results[0] == results[1]
    assert load_graphs(small_network(), tmp_path) == results[0]
    assert len(exporter.exported) == 2 * len(GRAPHS) and len(list(tmp_path.iterdir())) == 1


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM2S_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("SAM2S_CACHE")
    assert cache_folder() == Path("/b/sam2s")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/c/.cache/sam2s")
