"""What all tests share: a ROS environment that stays on this machine, and the real data if at hand."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sam2s_ros.nodes.ros_domain import own_domain

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports rclpy: no packet leaves this machine, and no log file lands in the home directory.
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_LOG_DIR", tempfile.mkdtemp(prefix="sam2s_ros_log_"))

ALONE = {
    "test_demo_run.py",
    "test_fastdds_profile.py",
    "test_image_transport.py",
    "test_node_fuzz.py",
    "test_node_late_prompts.py",
    "test_node_safety.py",
    "test_node_services.py",
    "test_node_snapshot_kill.py",
    "test_node_stream.py",
}
"""Files whose tests must not share the CPUs: they count images that arrive, or seconds until something is seen."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the files that are to run alone."""
    for item in items:
        if item.path.name in ALONE:
            item.add_marker("alone")


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The root of the source tree, with package.xml in it."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real training and test data: $SAM2S_SHARED_DATA, or ../shared/data beside the repository."""
    path = Path(os.environ.get("SAM2S_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (path / "test").is_dir():
        pytest.skip(f"no real data at {path}; set SAM2S_SHARED_DATA to the folder with test/ and train/")
    return path


@pytest.fixture
def ros() -> Iterator[None]:
    """rclpy, initialised in a ROS domain that no other test here uses (child processes inherit it)."""
    rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
    pytest.importorskip("rmw_test_fixture_implementation", reason="install requirements-dev.txt")
    with own_domain():
        rclpy.init()
        try:
            yield
        finally:
            rclpy.try_shutdown()


@pytest.fixture(scope="session")
def graph_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of exported graphs, empty at first, the same for all tests that use `graph_cache`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphs"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def graph_cache(graph_folder: Path) -> Iterator[None]:
    """Networks are exported once a session, not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM2S_CACHE", str(graph_folder))
        yield


@pytest.fixture
def standin_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with a GPU and TensorRT, as far as the code can tell (`tensorrt_standin.Standin`)."""
    from cuda_standin import Cuda
    from tensorrt_standin import Standin

    machine = Standin(Cuda())
    binding = ModuleType("cuda.bindings")
    binding.runtime = machine.cuda.module()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", binding)
    monkeypatch.setitem(sys.modules, "tensorrt", machine.module())
    return machine


@pytest.fixture
def gpu_for_tensorrt(request: pytest.FixtureRequest) -> None:
    """`standin_gpu` for the cases of a test that name the engine tensorrt."""
    if "tensorrt" in getattr(request.node, "callspec", SimpleNamespace(params={})).params.values():
        request.getfixturevalue("standin_gpu")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums over another number of threads are not the same bit for bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
