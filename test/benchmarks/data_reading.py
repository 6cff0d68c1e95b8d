"""Reading keeps ahead of training: the share of time that `sam2s train` waits for clips, and the memory that it takes.

    python test/benchmarks/data_reading.py [--data DATA] [--videos FOLDER] [--config FILE] [--clips 2000] [--length 6]
        [--read-only] [--out DIR] [--json FILE] [--quick]

Trains nano on clips of one length with two objects, two batches of two clips a step, one process that reads, or what a
configuration says. Without DATA (the folder with train/) the clips are rendered surgery over drawn tissue; with FOLDER
in DATA they are of its converted videos. Memory is measured once a second: resident (RSS) of the process that trains
and of those that read, and the proportional share (PSS) of all of them, in which pages that are shared count once.
Medians over 100 clips from clip 200 on and over the last 100 are compared, which says something where all clips have
one length; the validation after the last step is left out. With --read-only the clips are read and thrown away.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

CLIPS_A_STEP = 4
WARM_STEPS = 5
"""The first steps wait for the first clips, which nothing could have read ahead."""
EARLY, WINDOW = 200, 100
"""Clips after which memory is taken first, and over how many."""
SETTINGS = {
    "preset": "nano",
    "long_term": True,
    "batches": 2,
    "threads": 1,
    "workers": 1,
    "learning_rate": 1e-5,
    "final_learning_rate": 1e-6,
    "bf16": "encoder",
    "validate_every_steps": 1_000_000,
    "prompts": {"mask": 0.5, "box": 0.15, "max_clicks": 3, "correction": 0.1, "drift": 0.4, "gap": 0.5},
    "loss": {"size": 64, "others": 0.3},
}


def main() -> None:
    """Train, measure, print, write JSON."""
    args = parse_arguments()
    if args.only_read:
        read_alone(args.config, args.data, args.out)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = args.config or write_config(folder, args)
        out = args.out or folder / "run"
        samples, status = train(config, args.data or folder, out, args.read_only)
        if status:
            sys.exit(f"the training ended with exit status {status}")
        results = summarise(out / "log.jsonl", samples, clips_a_step(config))
    report(results, args.read_only)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def write_config(folder: Path, args: argparse.Namespace) -> Path:
    """The configuration of the docstring; without data, of procedural clips alone."""
    steps = 20 if args.quick else max(WARM_STEPS + 1, round(args.clips / CLIPS_A_STEP))
    sources = {"procedural": 1.0}
    if args.videos:
        sources = {f"videos:{args.videos}": 1.0}
    elif args.data:
        sources = {"surgical": 0.6, "vocalfolds": 0.2, "davis": 0.1, "still_motion": 0.1}
    hybrid = 0.5 if args.length >= 5 else 0.0
    stages = [{"steps": steps, "length": args.length, "clips": 2, "objects": 2, "hybrid": hybrid}]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "sources": sources, "stages": stages}))
    return path


@dataclass(frozen=True)
class Sample:
    """The memory of a run at one moment, bytes."""

    steps: int
    """Taken by then."""
    trainer: int
    """Resident, of the process that trains."""
    readers: int
    """Resident, of those that read, together."""
    all: int
    """Proportional share of all of them."""


def train(config: Path, data: Path, out: Path, read_only: bool = False) -> tuple[list[Sample], int]:
    """Run `sam2s train`, or what reads for it alone; the memory that it took once a second, and its exit status."""
    command = ["--config", str(config), "--data", str(data), "--out", str(out)]
    program = [__file__, "--only-read"] if read_only else ["-m", "sam2s_ros.cli", "train"]
    run = subprocess.Popen([sys.executable, *program, *command])
    samples, log = [], out / "log.jsonl"
    while run.poll() is None:
        pids = family(run.pid)
        shares, resident = ([memory_of(pid, kind) for pid in pids] for kind in ("Pss:", "Rss:"))
        steps = log.read_text().count("\n") if log.exists() else 0
        samples.append(Sample(steps, resident[0], sum(resident[1:]), sum(shares)))
        time.sleep(1.0)
    return samples, run.returncode


def read_alone(config_path: Path, data: Path, out: Path) -> None:
    """Read the clips of a training, as it does, and throw them away; a line of its log for each step."""
    import cv2
    import torch

    from sam2s_ros.data.clips import make_mixture
    from sam2s_ros.training.batches import Batches, BatchOrder, read_batches
    from sam2s_ros.training.config import read_train_config

    config = read_train_config(config_path)
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(0)
    source = make_mixture(data, config.side, config.sources)
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with (out / "log.jsonl").open("w", encoding="utf-8", buffering=1) as log:
        for batch in read_batches(Batches(config, source, source), BatchOrder(config), config.workers):
            if batch.number.index == config.batches - 1:
                now = time.perf_counter()
                log.write(json.dumps({"seconds": now - began, "waited": now - began}) + "\n")
                began = now


def family(pid: int) -> list[int]:
    """A process and all that it has begun."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in family(int(child)))]


def memory_of(pid: int, kind: str) -> int:
    """Memory of a process in bytes: `Rss:`, or `Pss:`, in which of pages shared by n processes its nth counts."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(kind)), 0)


def summarise(log: Path, samples: list[Sample], clips_a_step: float) -> dict:
    """Shares of time and medians of memory."""
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    counted = steps[WARM_STEPS:]
    seconds = sum(step["seconds"] for step in counted)
    clips = len(steps) * clips_a_step
    early, late = min(EARLY, clips / 2), clips - min(WINDOW, clips / 4)
    results = {
        "steps": len(steps),
        "clips": clips,
        "seconds_a_step": round(seconds / len(counted), 3),
        "waited_percent": round(100 * sum(step["waited"] for step in counted) / seconds, 2),
        "clip_early": round(early),
        "memory_most_mib": round(max(one.all for one in samples) / 2**20, 1),
    }
    for name in ("all", "trainer", "readers"):
        first, last = (
            statistics.median(
                [getattr(one, name) for one in samples if begin <= one.steps * clips_a_step < end] or [0]
            )
            for begin, end in ((early, early + WINDOW), (late, clips))
        )
        results[f"{name}_early_mib"] = round(first / 2**20, 1)
        results[f"{name}_late_mib"] = round(last / 2**20, 1)
    return results


def clips_a_step(config: Path) -> float:
    from sam2s_ros.training.config import read_train_config

    settings = read_train_config(config)
    return settings.total_clips / settings.total_steps


def report(results: dict, read_only: bool) -> None:
    print(f"{results['steps']} steps, {results['clips']:.0f} clips, {results['seconds_a_step']} s a step")
    if not read_only:
        print(f"waited for clips: {results['waited_percent']} % of the time (goal < 5 %)")
    print(f"memory, MiB: at clip {results['clip_early']:,}, at clip {results['clips']:,.0f}, growth")
    what = {
        "all": "all processes (PSS)",
        "trainer": "the one that trains (RSS)",
        "readers": "those that read (RSS)",
    }
    for name, text in what.items():
        first, last = results[f"{name}_early_mib"], results[f"{name}_late_mib"]
        growth = f"{100 * (last / first - 1):+.1f} %" if first else "-"
        print(f"  {text:28}{first:>10,.1f}{last:>10,.1f}{growth:>10}")
    print(f"  all processes, at most      {results['memory_most_mib']:>10,.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with train/ (default: rendered clips alone)")
    parser.add_argument("--videos", help="train on the converted videos of this folder in DATA")
    parser.add_argument("--length", type=int, default=6, help="frames of every clip (default: %(default)s)")
    parser.add_argument("--config", type=Path, help="of the training (default: that of the docstring)")
    parser.add_argument("--clips", type=int, default=2000, help="how many (default: %(default)s)")
    parser.add_argument(
        "--read-only", action="store_true", help="read the clips, train nothing: memory of reading alone"
    )
    parser.add_argument("--only-read", action="store_true", help=argparse.SUPPRESS)  # what is measured then
    parser.add_argument("--out", type=Path, help="of the training, to be kept (default: temporary)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="20 steps: a check, no measurement")
    parser.add_argument("--model", help="taken and not used: this benchmark trains nano")
    return parser.parse_args()


if __name__ == "__main__":
    main()
