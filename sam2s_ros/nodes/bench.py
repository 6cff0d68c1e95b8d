"""`sam2s bench`: run the benchmarks of the source tree one after another and keep their numbers.

Each benchmark is a command of its own in test/benchmarks, which prints a table and writes JSON. They measure;
they never fail because a machine is slow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

HELP = __doc__.splitlines()[0]

BENCHMARKS = {
    "tracker_steps": "tracker steps per second with 1, 4 and 8 objects",
    "engines": "tracker steps of all engines in turn with 1, 3, 4 and 8 objects",
    "peers": "SAM 2.1 tiny by the public reference, Hugging Face and each of our engines",
    "roofline": "arithmetic by stage, share of the processor's peak, and an estimate for GPUs",
    "node_overhead": "what the node adds to the engine's step, at 720p and 1080p",
    "image_transport": "images per second that reach a subscriber, with and without the Fast DDS profile",
    "service_load": "what 160 service calls a second over 8 clients cost a 15 Hz stream",
    "late_prompts": "a prompt on an older image against the same in time and a stream without it",
    "watchdog": "how long after the set time a subscriber sees a fault",
    "flatness": "memory and step time over 10,000 frames",
    "data_reading": "how far reading keeps ahead of training, and its memory",
    "replay_timing": "how late the bag player publishes",
    "geometry_coverage": "how often published uncertainties cover the true error, in pixels and metres",
}
FOLDER = Path(__file__).resolve().parents[2] / "test" / "benchmarks"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `sam2s bench`."""
    described = "; ".join(f"{name}: {text}" for name, text in BENCHMARKS.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to run (default: all). {described}")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="results (default: %(default)s)")
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and frames: a check, no measurement"
    )
    parser.add_argument("--model", default="nano", help="preset or weights file (default: %(default)s)")
    parser.add_argument(
        "--engine", default="auto", help="engine that tracker_steps measures (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the benchmarks and collect their JSON in `bench.json`; 1 if one of them failed."""
    from sam2s_ros.nodes.machine import describe_run

    names = args.names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            raise ValueError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    if not FOLDER.is_dir():
        raise FileNotFoundError(f"{FOLDER} is missing: benchmarks run from a source tree only")
    args.out.mkdir(parents=True, exist_ok=True)
    results = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **describe_run(), "benchmarks": {}}
    print(json.dumps(results["machine"], indent=2), flush=True)
    failed = [name for name in names if not _run_one(name, args, results["benchmarks"])]
    (args.out / "bench.json").write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")
    print(f"\nnumbers in {args.out / 'bench.json'}")
    if failed:
        print(f"sam2s bench: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run_one(name: str, args: argparse.Namespace, results: dict[str, object]) -> bool:
    """Run one benchmark as a process of its own, so that none inherits the memory or threads of another."""
    out = args.out / f"{name}.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--json", str(out), "--model", args.model]
    if name == "tracker_steps":
        command += ["--engine", args.engine]
    if args.quick:
        command.append("--quick")
    print(f"\n{name}: {BENCHMARKS[name]}", flush=True)
    status = subprocess.run(command, check=False).returncode
    if status == 0 and out.is_file():
        results[name] = json.loads(out.read_text())
        return True
    return False
