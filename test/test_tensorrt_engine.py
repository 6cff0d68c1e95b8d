"""The TensorRT engine over stand-ins of TensorRT and CUDA: what it moves, allocates, records, and how it fails."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import compare_with_eager
from tensorrt_standin import Standin
from tracking_cases import disc, moving_images, small_network

from sam2s_ros.data.sequences import render_sequence
from sam2s_ros.engines import EngineCapacity, PromptBatch, create_engine, cuda_device
from sam2s_ros.engines.cuda_device import DeviceError
from sam2s_ros.engines.device_runner import groups
from sam2s_ros.engines.graphs import EncodeGraph, PromptGraph
from sam2s_ros.engines.half_graphs import in_half
from sam2s_ros.engines.memory_reads import repeated_read, widest_columns
from sam2s_ros.tracking import StreamingTracker, TrackerConfig
from sam2s_ros.tracking.loader import load_network

pytestmark = pytest.mark.usefixtures("graph_cache")
CAPACITY = EngineCapacity(max_objects=3, frame_slots=4)


def tracker_on(machine: Standin, **settings: Any) -> StreamingTracker:
    """Two objects, warmed up, at a frame with all kinds of memory in use."""
    config = TrackerConfig(max_objects=4, **settings)
    engine = create_engine("tensorrt", small_network(), config.engine_capacity(), precision="fp32")
    engine.warm_up()
    tracker = StreamingTracker(engine, config)
    images = moving_images(4)
    tracker.add_object(images[0], mask=disc(60, 40, 20))
    tracker.add_object(None, points=[[100, 50]])
    for image in images[1:]:
        tracker.step(image)
    return tracker


def test_after_the_warm_up_nothing_is_allocated_and_every_launch_is_recorded(standin_gpu: Standin) -> None:
    tracker = tracker_on(standin_gpu)
    cuda = standin_gpu.cuda
    before = (cuda.allocations, standin_gpu.contexts, standin_gpu.runs)
    launches = cuda.launches
    for image in moving_images(12, seed=6):
        tracker.step(image)
    assert (cuda.allocations, standin_gpu.contexts, standin_gpu.runs) == before
    assert cuda.launches == launches + 12 * 4, "encode, attend, decode, memorise"


def test_a_launch_that_cannot_be_recorded_is_run_with_a_warning(
    standin_gpu: Standin, caplog: pytest.LogCaptureFixture
) -> None:
    standin_gpu.cuda.records = False
    tracker = tracker_on(standin_gpu)
    assert "the launch of decode cannot be recorded and stays slower" in caplog.text
    runs = standin_gpu.runs
    tracker.step(moving_images(1, seed=6)[0])
    assert (standin_gpu.runs, standin_gpu.cuda.launches) == (runs + 4, 0)


def test_only_numbers_go_up_and_only_masks_and_scores_come_down(standin_gpu: Standin) -> None:
    tracker = tracker_on(standin_gpu, drop_stray_components=False)
    cuda = standin_gpu.cuda
    up, down = cuda.bytes_up, cuda.bytes_down
    tracker.step(moving_images(1, seed=6)[0])
    image, mask = 3 * 128 * 128, 4 * 32 * 32
    assert cuda.bytes_down - down == 2 * (mask + 4 + 4)
    assert image < cuda.bytes_up - up < image + 4096


def test_freeing_gives_everything_back(standin_gpu: Standin) -> None:
    memory = standin_gpu.cuda.free_memory
    engine = create_engine("tensorrt", small_network(), CAPACITY)
    assert standin_gpu.cuda.free_memory < memory
    engine.free()
    cuda = standin_gpu.cuda
    assert cuda.free_memory == memory and not cuda.host_memory and not cuda.waiting and not cuda.recorded


def test_more_objects_than_a_run_takes_are_run_in_turn(standin_gpu: Standin) -> None:
    capacity = dataclasses.replace(CAPACITY, max_objects=10)
    engine = compare_with_eager((small_network(), small_network()), "tensorrt", "fp32", capacity)
    rows = np.array([9, 3, 0, 1, 2, 4, 5, 6, 7, 8])
    rng = np.random.default_rng(0)
    for slot, image in enumerate(moving_images(2)):
        engine.encode(image, slot)
    engine.decode_mask(rows, 0, (rng.random((10, 128, 128)) < 0.4).astype(np.float32))
    engine.memorise(rows, 0, np.zeros(10, int), np.zeros(10, int))
    engine.attend(rows, 1, repeated_read(10, 10, 19))
    engine.decode(rows, 1, PromptBatch())
    ours, theirs = engine.pairs[-1]
    assert np.ptp(ours.logits.mean(axis=(1, 2))) > 0, "the case shows something"
    assert np.abs(ours.logits - theirs.logits).max() < 1e-4 * np.ptp(ours.logits)


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [(1, 8, [1]), (2, 8, [4]), (3, 4, [4]), (5, 8, [8]), (8, 8, [8]), (9, 32, [8, 1]), (16, 32, [32])]
    + [(33, 32, [32, 1]), (20, 8, [8, 8, 4]), (0, 8, [])],
)
def test_objects_are_run_in_the_sizes_that_there_are(count: int, most: int, sizes: list[int]) -> None:
    found = list(groups(count, most))
    assert [size for _, size in found] == sizes
    assert [i for group, _ in found for i in range(count)[group]] == list(range(count))


def test_a_read_has_one_of_two_widths_and_loses_nothing_valid() -> None:
    read = repeated_read(2, 10, 19)
    valid = np.zeros_like(read.valid)
    valid[0, 9] = valid[1, 0] = True
    narrow = widest_columns(dataclasses.replace(read, valid=valid), 7, 16)
    assert (narrow.valid.shape, narrow.pointer_valid.shape) == ((2, 7), (2, 19))
    assert narrow.valid.sum() == 2
    assert widest_columns(read, 7, 16).valid.shape == (2, 10)


@pytest.mark.timeout(900)
def test_float16_follows_the_bundled_weights_masks(standin_gpu: Standin) -> None:
    """Free-running for 8 rendered frames, IoU with eager float32 of each object at the end."""
    frames = list(render_sequence(7, 9, (256, 320), 25.0, objects=2))
    masks = []
    for name, precision in (("eager", "fp32"), ("tensorrt", "fp16")):
        config = TrackerConfig(max_objects=2)
        engine = create_engine(name, load_network("nano"), config.engine_capacity(), precision=precision)
        tracker = StreamingTracker(engine, config)
        for index, mask in enumerate(frames[0][1]):
            tracker.add_object(frames[0][0] if index == 0 else None, mask=mask)
        for image, _ in frames[1:]:
            result = tracker.step(image)
        masks.append(result.masks)
    assert all(mask.any() for mask in masks[0]), "the case shows something"
    overlaps = [float((a & b).sum() / (a | b).sum()) for a, b in zip(*masks, strict=True)]
    print("IoU of fp16 with eager fp32:", [round(overlap, 4) for overlap in overlaps])
    assert min(overlaps) >= 0.99


@pytest.mark.parametrize("graph", [PromptGraph, EncodeGraph])
def test_only_what_tolerates_it_is_reduced_and_the_network_is_not_touched(graph: Any) -> None:
    network = small_network()
    if graph is PromptGraph:
        with pytest.raises(ValueError, match="graph 'prompt' has no float16 form"):
            in_half(graph(network))
    else:
        in_half(graph(network))
    assert {str(p.dtype) for p in network.parameters()} == {"torch.float32"}


def test_a_prompt_of_too_many_points_is_refused(standin_gpu: Standin) -> None:
    engine = create_engine("tensorrt", small_network(), CAPACITY, precision="fp32")
    engine.encode(moving_images(1)[0], 0)
    engine.attend(np.array([0]), 0, None)
    points, labels = np.zeros((1, 33, 2), np.float32), np.ones((1, 33), np.int32)
    with pytest.raises(ValueError, match="a prompt has 33 points; compiled graphs take 32"):
        engine.decode(np.array([0]), 0, PromptBatch(points, labels))


def test_more_memory_than_compiled_graphs_have_is_refused(standin_gpu: Standin) -> None:
    with pytest.raises(ValueError, match="lower max_objects, kept_frames or num_long_term"):
        create_engine("tensorrt", small_network(), EngineCapacity(max_objects=200))


def no_binding(machine: Standin, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "cuda.bindings", None)


def no_gpu(machine: Standin, patch: pytest.MonkeyPatch) -> None:
    machine.cuda.devices = 0


def no_driver(machine: Standin, patch: pytest.MonkeyPatch) -> None:
    machine.cuda.driver = False


def no_memory(machine: Standin, patch: pytest.MonkeyPatch) -> None:
    machine.cuda.free_memory = 2**18


def no_library(machine: Standin, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "tensorrt", None)
    patch.setitem(sys.modules, "tensorrt_rtx", None)


def no_build(machine: Standin, patch: pytest.MonkeyPatch) -> None:
    machine.refuse_builds = True


FAILURES = [
    (no_binding, DeviceError, "the CUDA binding is missing .* pip install cuda-bindings"),
    (no_gpu, DeviceError, "no NVIDIA GPU is visible: check nvidia-smi"),
    (no_driver, DeviceError, "older than the CUDA .* update the driver"),
    (no_memory, DeviceError, "out of device memory: lower max_objects .* MiB asked for"),
    (no_library, ImportError, "TensorRT cannot be loaded .* pip install tensorrt-rtx-cu12"),
    (no_build, DeviceError, "TensorRT cannot build the engine: out of memory while building"),
]
IDS = [failure[0].__name__ for failure in FAILURES]


@pytest.mark.parametrize(("harm", "kind", "message"), FAILURES, ids=IDS)
def test_asked_for_by_name_it_fails_with_the_fix(
    harm: Any,
    kind: type[Exception],
    message: str,
    standin_gpu: Standin,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if harm is no_build:
        standin_gpu.cuda.gpu = "A GPU that nothing is built for"
    harm(standin_gpu, monkeypatch)
    memory = standin_gpu.cuda.free_memory
    with pytest.raises(kind, match=message):
        create_engine("tensorrt", small_network(), CAPACITY, precision="fp32")
    assert standin_gpu.cuda.free_memory == memory, "nothing stays allocated"


@pytest.mark.parametrize(("harm", "kind", "message"), FAILURES[:5], ids=IDS[:5])
def test_auto_takes_the_next_engine_and_says_why(
    harm: Any,
    kind: type[Exception],
    message: str,
    standin_gpu: Standin,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cuda_device, "GPU_FILES", ("/dev/null",))
    harm(standin_gpu, monkeypatch)
    with caplog.at_level(logging.WARNING):
        described = create_engine("auto", small_network(), CAPACITY, precision="fp32").describe()
    assert described.name == "openvino"
    assert (
        described.reason.startswith("auto: OpenVINO") and f"no TensorRT ({kind.__name__}" in described.reason
    )
    assert "TensorRT cannot be used, the network runs on the CPU" in caplog.text


def test_auto_takes_tensorrt_where_there_is_a_gpu(standin_gpu: Standin) -> None:
    described = create_engine("auto", small_network(), CAPACITY).describe()
    assert (described.name, described.precision, described.device) == ("tensorrt", "fp16", "Test GPU")
    assert described.reason == "auto: TensorRT because there is an NVIDIA GPU, fp16"
    assert described.version == "tensorrt 10.0.standin"
    assert create_engine("auto", small_network(), CAPACITY, precision="bf16").describe().name == "openvino"


def test_without_a_driver_auto_is_quiet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cuda_device, "GPU_FILES", ("/no/such/file",))
    monkeypatch.setitem(sys.modules, "cuda", None)
    described = create_engine("auto", small_network(), CAPACITY, precision="fp32").describe()
    assert described.reason.endswith("no TensorRT (no driver of an NVIDIA GPU on this machine)")
    assert "TensorRT" not in caplog.text


def test_tensorrt_has_no_bfloat16(standin_gpu: Standin) -> None:
    with pytest.raises(ValueError, match="precision 'bf16': tensorrt runs fp32 or fp16"):
        create_engine("tensorrt", small_network(), CAPACITY, precision="bf16")
