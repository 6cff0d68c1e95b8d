"""The cache of compiled engines: used if whole and made for this machine, built anew otherwise, never a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cuda_standin import Cuda
from onnx import TensorProto, helper
from tensorrt_standin import Standin

from sam2s_ros.engines import EngineCapacity
from sam2s_ros.engines.export import GraphFile
from sam2s_ros.engines.tensorrt_api import TensorRt
from sam2s_ros.engines.tensorrt_files import EngineFiles, Reads, Target

HERE = Path(__file__).parent
Harm = Callable[[Path], None]


def a_graph() -> GraphFile:
    """y = x + x, which is quick to make."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert isinstance(model, onnx.ModelProto)
    return GraphFile("double", model.SerializeToString(), {"x": ("n", 2)}, ("y",))


def files(cache: Path, machine: Standin, version: int = 1, **options: Any) -> EngineFiles:
    target = Target(TensorRt(), machine.cuda.gpu, "8.9")
    return EngineFiles(
        target, Reads.of(EngineCapacity()), lambda name: {"version": version}, cache, **options
    )


def load(cache: Path, machine: Standin, **options: Any) -> Any:
    ((_, engine),) = files(cache, machine, **options).load({"double": a_graph()})
    return engine


def engine_folder(cache: Path) -> Path:
    (found,) = [path.parent for path in cache.glob("*/engine") if b"profiles" in path.read_bytes()]
    return found


def test_an_engine_is_built_once(standin_gpu: Standin, tmp_path: Path) -> None:
    engine = load(tmp_path, standin_gpu)
    given = {"x": np.ones((2, 2), np.float32)}
    assert engine.session.run(None, given)[0].tolist() == [[2, 2], [2, 2]]
    load(tmp_path, standin_gpu)
    assert standin_gpu.built == 1
    load(tmp_path, standin_gpu, version=2)
    assert standin_gpu.built == 2, "made from something else"


def truncate(folder: Path) -> None:
    (folder / "engine").write_bytes((folder / "engine").read_bytes()[:20])


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "engine").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "engine").write_bytes(content)


def lose_the_file(folder: Path) -> None:
    (folder / "engine").unlink()


def claim_another_version(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["made_from"]["tensorrt"] = "tensorrt 9"
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("harm", [truncate, flip_a_byte, lose_the_file, claim_another_version])
def test_a_damaged_or_stale_engine_is_built_anew(
    harm: Harm, standin_gpu: Standin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(tmp_path, standin_gpu)
    harm(engine_folder(tmp_path))
    load(tmp_path, standin_gpu)
    assert standin_gpu.built == 2 and "the engine of double in" in caplog.text
    load(tmp_path, standin_gpu)
    assert standin_gpu.built == 2, "it was repaired"


def test_another_gpu_gets_an_engine_of_its_own(standin_gpu: Standin, tmp_path: Path) -> None:
    for gpu, built in (("Test GPU", 1), ("Other GPU", 2), ("Test GPU", 2)):
        standin_gpu.cuda.gpu = gpu
        load(tmp_path, standin_gpu)
        assert standin_gpu.built == built


def test_a_whole_engine_that_does_not_load_is_built_anew_and_replaced(
    standin_gpu: Standin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As if the driver had changed under the same names: the library itself refuses it."""
    real = files(tmp_path, standin_gpu)
    standin_gpu.cuda.gpu = "Other GPU"
    real.build(a_graph())
    standin_gpu.cuda.gpu = "Test GPU"
    (_,) = real.load({"double": a_graph()})
    assert "is not used but built anew: the engine was built for another GPU" in caplog.text
    (_,) = real.load({"double": a_graph()})
    assert standin_gpu.built == 2


def test_a_cache_that_cannot_be_written_is_a_warning(
    standin_gpu: Standin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        load(tmp_path / "file", standin_gpu)
    assert standin_gpu.built == 2
    assert "set SAM2S_CACHE to a folder that can be written" in caplog.text


def test_kernel_timings_are_kept_for_the_next_build_and_ignored_when_damaged(
    standin_gpu: Standin, tmp_path: Path
) -> None:
    load(tmp_path, standin_gpu)
    (timings,) = [path for path in tmp_path.glob("*/engine") if path.read_bytes() == b"timings"]
    load(tmp_path, standin_gpu, version=2)
    timings.write_bytes(b"tim")
    load(tmp_path, standin_gpu, version=3)
    assert standin_gpu.built == 3 and timings.read_bytes() == b"timings"


def test_builds_say_how_far_they_are(standin_gpu: Standin, tmp_path: Path) -> None:
    told: list[tuple[str, str, float]] = []
    load(tmp_path, standin_gpu, progress=lambda *what: told.append(what))
    assert told == [("double", "Building", 0.5), ("double", "Building", 1.0)]


BUILD = """
import sys, types
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from cuda_standin import Cuda
from tensorrt_standin import Standin
machine = Standin(Cuda())
sys.modules["tensorrt"] = machine.module()
from test_tensorrt_files import load
print("ready", flush=True)
sys.stdin.readline()
for version in range(20):
    load(Path(sys.argv[2]), machine, version=version)
print("done", machine.built)
"""


def test_two_processes_that_build_at_once_leave_one_whole_cache(standin_gpu: Standin, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILD, str(HERE), str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=HERE.parent) for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert all(output.startswith("done") for output in outputs), outputs
    for version in range(20):
        load(tmp_path, standin_gpu, version=version)
    assert standin_gpu.built == 0, "all that they left is whole"
    assert not list(tmp_path.glob(".*")), "nor did they leave anything else"


def test_the_stand_in_refuses_what_tensorrt_would(standin_gpu: Standin, tmp_path: Path) -> None:
    """So a test that passes over it says something."""
    assert isinstance(standin_gpu.cuda, Cuda)
    engine, library = load(tmp_path, standin_gpu), TensorRt()
    context = library.context(engine)
    assert not context.set_input_shape("x", (2, 2)), "profile 0 is for one object"
    assert context.set_input_shape("x", (1, 2))
    assert not context.execute_async_v3(1), "nothing is bound"
