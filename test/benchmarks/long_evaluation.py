"""`sam2s evaluate` on a long 30 Hz bag of 1280x720 JPEG: memory, speed beside the tracker's own, and after a SIGKILL.

    python test/benchmarks/long_evaluation.py [--minutes 20] [--folder DIR] [--json FILE] [--quick]

The bag of 20 minutes takes some GB in --folder, and each of the two and a half runs an hour at 10 steps a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from jpeg_bag import write_jpeg_bag

RATE_HZ = 30.0
OWN_STEPS = 120
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of video (default: %(default)g)")
    parser.add_argument("--folder", type=Path, help="where bag and outputs go, and stay (default: temporary)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="ten seconds of video")
    parser.add_argument("--model", default="nano", help="preset or weights file (default: %(default)s)")
    args = parser.parse_args()
    frames = round(RATE_HZ * (10 if args.quick else 60 * args.minutes))
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        bag = write_jpeg_bag(folder / "long.mcap", frames, RATE_HZ)
        short = write_jpeg_bag(folder / "short.mcap", 3, RATE_HZ)
        results: dict[str, Any] = {"frames": frames, "bag_mb": round(bag.stat().st_size / 1e6)}
        results["own_steps_per_s"] = own_speed(bag, args.model)
        start_s, _ = evaluate(short, folder / "short", args.model)
        whole_s, memory = evaluate(bag, folder / "whole", args.model)
        results["frames_per_s"] = round(frames / (whole_s - start_s), 2)
        results["share_of_own"] = round(results["frames_per_s"] / results["own_steps_per_s"], 3)
        results["rss_mib"] = rss_at(memory)
        evaluate(bag, folder / "killed", args.model, kill_after_s=start_s + (whole_s - start_s) / 3)
        evaluate(bag, folder / "killed", args.model)
        results["same_after_kill"] = summary(folder / "killed") == summary(folder / "whole")
    print(json.dumps(results, indent=2))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def own_speed(bag: Path, model: str) -> float:
    """Steps a second of the tracker alone, on decoded images of the bag, with one object."""
    from sam2s_ros import load_tracker
    from sam2s_ros.evaluation.bags import BagSequence

    frames = [one for one, _ in zip(BagSequence(bag).frames(), range(OWN_STEPS), strict=False)]
    tracker = load_tracker(model)
    tracker.step(frames[0].image)
    assert frames[0].labels is not None
    for label in sorted(set(frames[0].labels.ravel().tolist()) - {0}):
        tracker.add_object(None, mask=frames[0].labels == label)
    times = []
    for frame in frames[1:]:
        begun = time.perf_counter()
        _ = tracker.step(frame.image).masks  # painted when asked for
        times.append(time.perf_counter() - begun)
    return round(1 / statistics.median(times[len(times) // 3 :]), 2)


def evaluate(
    bag: Path, out: Path, model: str, kill_after_s: float | None = None
) -> tuple[float, list[float]]:
    """Run the command; its seconds, and its resident memory in MiB once a second."""
    if kill_after_s is not None:
        shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "sam2s_ros.cli", "evaluate", str(bag), "--model", model]
    begun = time.monotonic()
    process = subprocess.Popen(
        [*command, "--no-baselines", "--no-overlay", "--out", str(out)], stdout=subprocess.DEVNULL
    )
    memory: list[float] = []
    while process.poll() is None:
        time.sleep(min(1.0, kill_after_s or 1.0))
        try:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):  # it has just ended
            break
        memory.append(pages * PAGE / 2**20)
        if kill_after_s is not None and time.monotonic() - begun > kill_after_s:
            process.send_signal(signal.SIGKILL)
    status = process.wait()
    if status not in (0, -signal.SIGKILL) or (status != 0) != (kill_after_s is not None):
        raise RuntimeError(f"{' '.join(command)} ended with status {status}")
    return time.monotonic() - begun, memory


def rss_at(memory: list[float]) -> dict[str, float]:
    """Medians over a tenth of the run each: after a fifth of it, after the half, at its end before the summary."""
    tenth = max(1, len(memory) // 10)
    places = {
        "at_20_percent": len(memory) // 5,
        "at_50_percent": len(memory) // 2,
        "at_85_percent": 85 * len(memory) // 100,
    }
    return {name: round(statistics.median(memory[at : at + tenth]), 1) for name, at in places.items()}


def summary(folder: Path) -> dict[str, Any]:
    """summary.json without the timings."""
    document: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    del document["timings"]
    return document


if __name__ == "__main__":
    main()
