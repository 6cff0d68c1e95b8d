"""How long after the set time a subscriber over DDS sees that it must not act on the objects, for each kind of fault.

    python test/benchmarks/watchdog.py [--rounds 10] [--faults stop,freeze]
        [--json FILE] [--quick]

A tracker with random weights follows a 15 Hz camera. The images stop, freeze or go back in time, and the engine sleeps:
seen by the status, `stale_after_s` after the newest array, the first image of a frozen camera, or the order to sleep
(stamps that go back: at once). The worker
holds the interpreter's lock, or the process is stopped: seen by liveliness, after its lease.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test"))

STALE_S, LEASE_S = 0.5, 2.0
RATE_HZ = 15.0
GOAL_MS = 50.0
PATIENCE_S = 60.0
FAULTS = ("stop", "freeze", "back", "sleep", "hold", "sigstop")


class Controller:
    """Subscribes ~/objects as docs/safety.md asks for, and keeps when it was told what."""

    def __init__(self, client: Any) -> None:
        from rclpy.duration import Duration
        from rclpy.event_handler import SubscriptionEventCallbacks
        from rclpy.qos import LivelinessPolicy, QoSProfile

        from sam2s_msgs.msg import TrackedObjectArray

        self.arrays: list[tuple[float, Any]] = []
        self.lost: list[float] = []
        qos = QoSProfile(
            depth=50,
            liveliness=LivelinessPolicy.MANUAL_BY_TOPIC,
            liveliness_lease_duration=Duration(seconds=LEASE_S),
        )
        client.node.create_subscription(
            TrackedObjectArray,
            "/tracker/objects",
            lambda array: self.arrays.append((time.monotonic(), array)),
            qos,
            event_callbacks=SubscriptionEventCallbacks(liveliness=self._on_liveliness),
        )

    def _on_liveliness(self, event: Any) -> None:
        if event.not_alive_count_change > 0:
            self.lost.append(time.monotonic())

    def well(self) -> bool:
        """The newest arrays came as they should, and are fresh."""
        newest = self.arrays[-8:]
        return (
            len(newest) == 8
            and newest[0][0] > time.monotonic() - 1.0
            and not any(a.status for _, a in newest)
        )

    def not_ok_after(self, since_s: float) -> float:
        """When the first array that is not OK came."""
        return wait(lambda: next((at for at, one in self.arrays if at > since_s and one.status), None))

    def silent_after(self, since_s: float) -> float:
        return wait(lambda: next((at for at in self.lost if at > since_s), None))


def wait(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError("the fault was not seen, or the stream did not come back")
        time.sleep(0.001)
    return value


def main() -> None:
    """Measure, print a table, write JSON."""
    args = parse_arguments()
    from node_harness import Camera, Client, NodeProcess, block_mask, isolated_ros, mask

    from sam2s_msgs.msg import Prompt

    order = Path(tempfile.mkdtemp()) / "order"
    parameters = {"autostart": True, "threads": 1, "stale_after_s": STALE_S, "liveliness_lease_s": LEASE_S}
    late_ms: dict[str, list[float]] = {}
    with isolated_ros(ROOT / "config" / "fastdds_profile.xml"):
        process = NodeProcess(parameters, program=(str(ROOT / "test" / "troubled_tracker.py"), str(order)))
        client = Client()
        client.connect()
        controller, camera = Controller(client), Camera(client, RATE_HZ)
        try:
            prompt = Prompt(**mask(block_mask()))
            wait(lambda: client.call("add_object", name="probe", prompt=prompt).success)
            for fault in args.faults:
                late_ms[fault] = []
                for _ in range(args.rounds):
                    wait(controller.well)
                    time.sleep(1.0 + random.random() / RATE_HZ)  # at any moment between two images
                    late_ms[fault].append(1000 * late_s(fault, controller, camera, process, order))
                report(fault, late_ms[fault])
        finally:
            camera.stop()
            client.close()
            process.end()
    if args.json:
        results = {
            "stale_after_s": STALE_S,
            "liveliness_lease_s": LEASE_S,
            "rate_hz": RATE_HZ,
            "late_ms": late_ms,
        }
        args.json.write_text(json.dumps({**results, "load_average": os.getloadavg()[0]}, indent=2) + "\n")


def late_s(fault: str, controller: Controller, camera: Any, process: Any, order: Path) -> float:
    """Cause a fault, wait until it is seen, end it; seconds after the set time."""
    if fault == "stop":
        camera.on.clear()
        time.sleep(2 / RATE_HZ)
        newest_s = controller.arrays[-1][0]
        late = controller.not_ok_after(newest_s) - newest_s - STALE_S
        camera.on.set()
    elif fault == "freeze":
        still, moving = camera.picture(7), camera.picture
        camera.picture = lambda _: still
        newest_s = camera.next_s()  # the first of them still shows something new
        late = controller.not_ok_after(newest_s) - newest_s - STALE_S
        camera.picture = moving
    elif fault == "back":
        camera.shift_s -= 50.0
        begun_s = camera.next_s()
        late = controller.not_ok_after(begun_s) - begun_s
    elif fault == "sigstop":
        begun_s = time.monotonic()
        os.kill(process.process.pid, signal.SIGSTOP)
        late = controller.silent_after(begun_s) - begun_s - LEASE_S
        os.kill(process.process.pid, signal.SIGCONT)
    else:
        order.write_text(f"{fault} {LEASE_S + STALE_S + 1}")
        wait(lambda: not order.exists())
        begun_s = time.monotonic()
        seen_s = (controller.not_ok_after if fault == "sleep" else controller.silent_after)(begun_s)
        late = seen_s - begun_s - (STALE_S if fault == "sleep" else LEASE_S)
        time.sleep(LEASE_S + STALE_S + 1)
    return late


def report(fault: str, late_ms: list[float]) -> None:
    print(
        f"{fault:>8}: seen {min(late_ms):6.0f} to {max(late_ms):4.0f} ms after the set time, "
        f"median {statistics.median(late_ms):4.0f}, of {len(late_ms)} (goal <= {GOAL_MS:g} ms)",
        flush=True,
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="of each fault (default: %(default)s)")
    parser.add_argument("--faults", default=",".join(FAULTS), help="which (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--quick", action="store_true", help="one round: a check, no measurement")
    parser.add_argument("--model", help="taken and not used: the weights are random")
    args = parser.parse_args()
    args.faults = args.faults.split(",")
    args.rounds = 1 if args.quick else args.rounds
    return args


if __name__ == "__main__":
    main()
