"""Arithmetic of a step by stage, what share of the processor's peak each engine reaches, and an estimate for GPUs.

    python test/benchmarks/roofline.py [--objects 1 4] [--threads 2] [--json FILE] [--quick]

Floating-point operations (a multiplication and an addition are two) are counted in the network as eager PyTorch
runs it, all memory in use; what an engine saves or adds is left out. The peak is what a product of two square
matrices reaches here. The estimate takes the longer of two times for each stage, operations at a share of the
GPU's published peak and bytes at its published bandwidth: every operator's tensors in float16, as if none were
fused. Launches and waits are left out, so small networks take longer. Nothing of it was run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peers import WARM_UP_STEPS, first_masks
from tracking_cases import moving_images, perturb

from sam2s_ros.engines import Engine, create_engine
from sam2s_ros.network import PRESETS, Sam2Network, with_image_size
from sam2s_ros.tracking import StreamingTracker, TrackerConfig

STAGES = ("encode", "attend", "decode", "memorise")
MODELS = (("nano", 256), ("sam2.1_hiera_t", 512), ("sam2.1_hiera_b+", 512))
TIMED = {"nano": (("eager", "fp32"), ("eager", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"))}
TIMED["sam2.1_hiera_t"] = TIMED["nano"]
STEPS = 20
MATRIX = 2048
GPUS = {  # dense float16 TFLOP/s with float32 sums, GB/s: the makers' data sheets
    "Jetson AGX Orin 64 GB": (42.5, 204.8),
    "GeForce RTX 4090": (165.2, 1008.0),
    "H200 SXM": (989.0, 4800.0),
}
REACHED = 0.3
"""Share of a GPU's peak that the estimate grants: products as small as these fill no large GPU."""


def main() -> None:
    """Measure, print tables, write JSON."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    peaks = {name: peak_gflops(kind, 2 if args.quick else 8) for name, kind in KINDS.items()}
    print("peak: " + ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in peaks.items()), flush=True)
    results: dict[str, Any] = {"threads": args.threads, "peak_gflops": peaks, "models": {}}
    for preset, size in MODELS[: 1 if args.quick else None]:
        for count in args.objects:
            work = count_work(preset, size, count)
            row: dict[str, Any] = {"image_size": size, "work": work, "engines": {}}
            for engine, precision in TIMED.get(preset, ()):
                tracker = follow(preset, size, count, engine, precision, args.threads)
                times = stage_ms(tracker, size, 3 if args.quick else STEPS)
                row["engines"][f"{engine} {precision}"] = {
                    stage: {
                        "ms": round(times[stage], 2),
                        "share_of_peak": round(
                            work[stage]["gflop"] / times[stage] * 1000 / peaks[precision], 3
                        ),
                    }
                    for stage in STAGES
                }
            row["gpu_estimate_ms"] = {name: estimate_ms(work, *facts) for name, facts in GPUS.items()}
            results["models"][f"{preset} {size}, {count} object{'s' * (count > 1)}"] = row
            report(preset, size, count, row)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def peak_gflops(kind: torch.dtype, rounds: int) -> float:
    """The fastest of some products of two square matrices."""
    a, b = (torch.randn(MATRIX, MATRIX).to(kind) for _ in range(2))
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - begun)
    return round(2 * MATRIX**3 / best / 1e9, 1)


class Traffic(TorchDispatchMode):
    """Counts the elements that operators read and write; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = torch.utils._pytree.tree_leaves((args, kwargs, out))
            self.elements += sum(one.numel() for one in tensors if isinstance(one, torch.Tensor))
        return out


class Counted:
    """An engine whose calls are counted, by stage."""

    def __init__(self, engine: Engine) -> None:
        self.work = {stage: {"gflop": 0.0, "melements": 0.0} for stage in STAGES}
        for stage in STAGES:
            setattr(engine, stage, self._counting(stage, getattr(engine, stage)))

    def _counting(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            counter, traffic = FlopCounterMode(display=False), Traffic()
            with sdpa_kernel(SDPBackend.MATH), counter, traffic:
                out = call(*args, **kwargs)
            self.work[stage]["gflop"] += counter.get_total_flops() / 1e9
            self.work[stage]["melements"] += traffic.elements / 1e6
            return out

        return counted


def count_work(preset: str, size: int, count: int) -> dict[str, dict[str, float]]:
    """Operations and elements moved of one step by stage, with so many objects and all memory in use."""
    tracker = follow(preset, size, count, "eager", "fp32", 0)
    counted = Counted(tracker.engine)
    tracker.step(moving_images(1, (size, size))[0])
    return {
        stage: {key: round(value, 3) for key, value in work.items()} for stage, work in counted.work.items()
    }


def follow(preset: str, size: int, count: int, engine: str, precision: str, threads: int) -> StreamingTracker:
    """A tracker with random weights and so many objects, its memory full."""
    torch.manual_seed(2)
    network = Sam2Network(PRESETS[preset]).eval()
    perturb(network)
    network = with_image_size(network, size).requires_grad_(False)
    config = TrackerConfig.sam2()
    runner = create_engine(engine, network, config.engine_capacity(), threads, precision)
    tracker = StreamingTracker(runner, config)
    images = moving_images(WARM_UP_STEPS + 1, (size, size))
    tracker.step(images[0])
    for mask in first_masks(count, size):
        tracker.add_object(None, mask=mask)
    for image in images[1:]:
        tracker.step(image)
    return tracker


def stage_ms(tracker: StreamingTracker, size: int, steps: int) -> dict[str, float]:
    """Median milliseconds of each stage, what an engine writes beside other work included."""
    engine, memorise = tracker.engine, tracker.engine.memorise

    def memorise_at_once(*args: Any, **kwargs: Any) -> None:
        memorise(*args, **kwargs)
        engine.settle()

    setattr(engine, "memorise", memorise_at_once)  # noqa: B010  # mypy refuses to assign a method
    images = moving_images(steps, (size, size), seed=7)
    found = [tracker.step(image).timings_ms for image in images]
    return {stage: statistics.median(one[stage] for one in found) for stage in STAGES}


def estimate_ms(work: dict[str, dict[str, float]], tflops: float, gb_per_s: float) -> float:
    """Sum over the stages of the longer of both times."""
    return round(
        sum(max(one["gflop"] / (REACHED * tflops), 2 * one["melements"] / gb_per_s) for one in work.values()),
        2,
    )


def report(preset: str, size: int, count: int, row: dict[str, Any]) -> None:
    print(f"\n{preset} {size}, {count} object{'s' * (count > 1)}")
    print(f"{'':>16}" + "".join(f"{stage:>20}" for stage in STAGES))
    print(f"{'GFLOP':>16}" + "".join(f"{row['work'][stage]['gflop']:>20.2f}" for stage in STAGES))
    for name, stages in row["engines"].items():
        cells = [f"{stages[one]['ms']:.1f} ms {stages[one]['share_of_peak']:>4.0%}" for one in STAGES]
        print(f"{name:>16}" + "".join(f"{cell:>20}" for cell in cells))
    estimates = ", ".join(f"{name} {value:g} ms" for name, value in row["gpu_estimate_ms"].items())
    print(f"estimate, not run, float16: {estimates}", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4], help="how many to track")
    parser.add_argument("--threads", type=int, default=2, help="of each engine (default: %(default)s)")
    parser.add_argument("--model", help="not used: presets with random weights are measured")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="nano, a few steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
