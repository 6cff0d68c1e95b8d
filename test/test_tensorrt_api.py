"""The stand-ins have no name that the real libraries lack; so neither has the code that runs over them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import tensorrt_standin
from cuda_standin import Cuda, cudaError_t

ENUMS = [
    member
    for member in tensorrt_standin.API
    if issubclass(member, tensorrt_standin.Enum | tensorrt_standin.IntEnum)
]
CLASSES = [member for member in tensorrt_standin.API if member not in ENUMS]
PROPERTIES = {
    "IBuilderConfig": ["progress_monitor"],
    "IExecutionContext": ["active_optimization_profile"],
    "ILogger": ["ERROR", "INTERNAL_ERROR", "WARNING"],
    "IProgressMonitor": ["phase_start", "phase_finish", "step_complete"],
}
"""Members that the stand-in's classes set when they are made, or expect of what derives from them."""


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="install tensorrt-rtx-cu12, see requirements-dev.txt")


@pytest.mark.parametrize("member", CLASSES, ids=lambda member: member.__name__)
def test_every_method_of_tensorrt_that_is_used_exists(member: type, library: Any) -> None:
    real = getattr(library, member.__name__)
    names = [name for name in vars(member) if not name.startswith("_")] + PROPERTIES.get(member.__name__, [])
    assert [name for name in names if not hasattr(real, name)] == []


@pytest.mark.parametrize("member", CLASSES, ids=lambda member: member.__name__)
def test_every_method_takes_as_many_arguments_as_the_real_one(member: type, library: Any) -> None:
    """The bindings say their signatures in their docstrings."""
    for name, function in vars(member).items():
        if inspect.isfunction(function) and not name.startswith("_"):
            text = getattr(library, member.__name__).__dict__[name].__doc__ or ""
            calls = [line for line in text.splitlines() if f"{name}(self" in line]
            ours = len(inspect.signature(function).parameters)
            assert not calls or any(line.split(") ->")[0].count(": ") >= ours for line in calls), name


@pytest.mark.parametrize("member", ENUMS, ids=lambda member: member.__name__)
def test_every_constant_of_tensorrt_that_is_used_exists(member: type, library: Any) -> None:
    real = getattr(library, member.__name__)
    assert [name for name in member.__members__ if not hasattr(real, name)] == []


def test_a_name_that_tensorrt_lacks_would_be_seen(library: Any) -> None:
    assert not hasattr(library.IExecutionContext, "execute_async_v9")


def test_every_function_of_cuda_that_is_used_exists() -> None:
    runtime = pytest.importorskip(
        "cuda.bindings.runtime", reason="install cuda-bindings, requirements-dev.txt"
    )
    standin = Cuda().module()
    names = [name for name in vars(standin) if name.startswith("cuda")]
    assert len(names) > 15 and [name for name in names if not hasattr(runtime, name)] == []
    assert [error.name for error in cudaError_t if getattr(runtime.cudaError_t, error.name) != error] == []
    for group in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
        for name, value in vars(getattr(standin, group)).items():
            assert int(getattr(getattr(runtime, group), name)) == value
