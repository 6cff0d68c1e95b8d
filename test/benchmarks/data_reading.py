"""Reading keeps ahead of training: the share of time that `sam2s train` waits for clips, and the memory that it takes.

    python test/benchmarks/data_reading.py [--data DATA] [--config FILE] [--clips 2000]
        [--out DIR] [--json FILE] [--quick]

Trains nano on clips of six frames with two objects, two batches of two clips a step, one process that reads, or what a
configuration says. Without DATA (the folder with train/) the clips are rendered surgery over drawn tissue. Memory is
the proportional share (PSS) of all processes of the run, once a second: its median over the last fifth of the run
beside that over the second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

CLIPS_A_STEP = 4
WARM_STEPS = 5
"""The first steps wait for the first clips, which nothing could have read ahead."""
SETTINGS = {
    "preset": "nano",
    "long_term": True,
    "batches": 2,
    "threads": 1,
    "workers": 1,
    "learning_rate": 1e-5,
    "bf16": "encoder",
    "validate_every_steps": 1_000_000,
    "prompts": {"mask": 0.5, "box": 0.15, "max_clicks": 3, "correction": 0.1, "drift": 0.4, "gap": 0.5},
    "loss": {"size": 64, "others": 0.3},
}


def main() -> None:
    """Train, measure, print, write JSON."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = args.config or write_config(folder, args)
        out = args.out or folder / "run"
        memory, status = train(config, args.data or folder, out)
        if status:
            sys.exit(f"the training ended with exit status {status}")
        results = summarise(out / "log.jsonl", memory)
    results["clips"] = results["steps"] * clips_a_step(config)
    report(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def write_config(folder: Path, args: argparse.Namespace) -> Path:
    """The configuration of the docstring; without data, of procedural clips alone."""
    steps = 20 if args.quick else max(WARM_STEPS + 1, round(args.clips / CLIPS_A_STEP))
    sources = (
        {"surgical": 0.6, "vocalfolds": 0.2, "davis": 0.1, "still_motion": 0.1}
        if args.data
        else {"procedural": 1.0}
    )
    stages = [{"steps": steps, "length": 6, "clips": 2, "objects": 2, "hybrid": 0.5}]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "sources": sources, "stages": stages}))
    return path


def train(config: Path, data: Path, out: Path) -> tuple[list[int], int]:
    """Run `sam2s train`; the bytes that it took once a second, and its exit status."""
    command = ("train", "--config", str(config), "--data", str(data), "--out", str(out))
    run = subprocess.Popen([sys.executable, "-m", "sam2s_ros.cli", *command])
    memory = []
    while run.poll() is None:
        memory.append(sum(map(resident_bytes, family(run.pid))))
        time.sleep(1.0)
    return memory, run.returncode


def family(pid: int) -> list[int]:
    """A process and all that it has begun."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def resident_bytes(pid: int) -> int:
    """Memory of a process; of pages shared by n processes, its nth."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def summarise(log: Path, memory: list[int]) -> dict:
    """Shares of time and medians of memory."""
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    counted = steps[WARM_STEPS:]
    seconds = sum(step["seconds"] for step in counted)
    fifth = max(1, len(memory) // 5)
    second, last = (statistics.median(memory[i * fifth : (i + 1) * fifth]) for i in (1, 4))
    return {
        "steps": len(steps),
        "seconds_a_step": round(seconds / len(counted), 3),
        "waited_percent": round(100 * sum(step["waited"] for step in counted) / seconds, 2),
        "memory_mib": round(second / 2**20, 1),
        "memory_at_end_mib": round(last / 2**20, 1),
        "memory_most_mib": round(max(memory) / 2**20, 1),
        "memory_growth_percent": round(100 * (last / second - 1), 2),
    }


def clips_a_step(config: Path) -> float:
    from sam2s_ros.training.config import read_train_config

    settings = read_train_config(config)
    return settings.total_clips / settings.total_steps


def report(results: dict) -> None:
    print(f"{results['steps']} steps, {results['clips']:.0f} clips, {results['seconds_a_step']} s a step")
    print(f"waited for clips: {results['waited_percent']} % of the time (goal < 5 %)")
    print(
        f"memory of all processes: {results['memory_mib']} MiB, at the end {results['memory_at_end_mib']} "
        f"({results['memory_growth_percent']:+.2f} %), at most {results['memory_most_mib']}"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with train/ (default: rendered clips alone)")
    parser.add_argument("--config", type=Path, help="of the training (default: that of the docstring)")
    parser.add_argument("--clips", type=int, default=2000, help="how many (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="of the training, to be kept (default: temporary)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="20 steps: a check, no measurement")
    parser.add_argument("--model", help="taken and not used: this benchmark trains nano")
    return parser.parse_args()


if __name__ == "__main__":
    main()
