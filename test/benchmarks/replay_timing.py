"""How late our bag player publishes 30 Hz of 1280x720 JPEG, with a raw label image beside each, by the recorded times.

python test/benchmarks/replay_timing.py [--json FILE] [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from jpeg_bag import write_jpeg_bag

RATE_HZ = 30.0
GOAL_MS = 2.0


def main() -> None:
    """Write a bag, play it at its pace in each way, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="5 s instead of 60")
    parser.add_argument("--model", help="not used")
    args = parser.parse_args()
    from sam2s_ros.nodes.demo_stage import isolated_domain
    from sam2s_ros.nodes.image_transport import image_transport_environment

    results = {}
    with tempfile.TemporaryDirectory() as folder:
        bag = write_jpeg_bag(Path(folder) / "bag.mcap", round(RATE_HZ * (5 if args.quick else 60)), RATE_HZ)
        os.environ.update(image_transport_environment(Path(folder)))
        with isolated_domain(Path(folder) / "logs"):
            for name, options in (("stamps of now", []), ("--clock", ["--clock"])):
                command = [sys.executable, "-m", "sam2s_ros.nodes.replay", str(bag), *options]
                lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                results[name] = json.loads(lines.splitlines()[-1])["late_ms"]
    print(f"{'':>14} {'messages':>9} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}   goal: p99 <= {GOAL_MS:g} ms")
    for name, row in results.items():
        print(f"{name:>14} {row['messages']:>9} {row['p50']:>8.2f} {row['p99']:>8.2f} {row['max']:>8.2f}")
    if args.json:
        args.json.write_text(json.dumps({"rate_hz": RATE_HZ, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
