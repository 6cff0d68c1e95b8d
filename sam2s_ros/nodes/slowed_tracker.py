"""The tracker node with a tracker that takes at least so long for each step and prompt, as slower hardware would.

    python -m sam2s_ros.nodes.slowed_tracker SECONDS --ros-args ...

For `sam2s evaluate --mode live --step-time`: what a machine with less speed makes of a stream.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from sam2s_ros.nodes import tracker_node
from sam2s_ros.tracking import StreamingTracker

SLOWED = ("step", "add_object", "refine_object")


def at_least(seconds: float, run: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which returns no sooner than `seconds` after it was called; others may run meanwhile."""

    @wraps(run)
    def slowed(*arguments: Any, **options: Any) -> Any:
        begun_s = time.monotonic()
        answer = run(*arguments, **options)
        time.sleep(max(0.0, begun_s + seconds - time.monotonic()))
        return answer

    return slowed


def main() -> int:
    """Run the node as `tracker_node.main` does; the first argument is the time in seconds."""
    seconds = float(sys.argv.pop(1))
    load_tracker = tracker_node.load_tracker

    def load(*arguments: Any, **options: Any) -> StreamingTracker:
        tracker = load_tracker(*arguments, **options)
        for name in SLOWED:
            setattr(tracker, name, at_least(seconds, getattr(tracker, name)))
        quick_advance, slow_advance = tracker.advance, at_least(seconds, tracker.advance)

        def advance(frames: int) -> int:
            behind = quick_advance(0)
            for _ in range(min(frames, behind)):
                behind = slow_advance(1)
            return behind

        tracker.advance = advance  # type: ignore[method-assign]
        return tracker

    tracker_node.load_tracker = load
    return tracker_node.main()


if __name__ == "__main__":
    sys.exit(main())
