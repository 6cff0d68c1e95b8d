"""The tracker node with an engine that gets into trouble when told to: `troubled_tracker.py FILE --ros-args ...`.

Once FILE exists its two words are read and it is removed: what the next step is to do, and for how many seconds.
`sleep` waits as a device would; `hold` waits with the interpreter's lock held, so that no Python thread runs.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

from sam2s_ros.nodes import tracker_node
from sam2s_ros.tracking import StreamingTracker


def main() -> int:
    order = Path(sys.argv.pop(1))
    load_tracker = tracker_node.load_tracker

    def load(*arguments: Any) -> StreamingTracker:
        tracker = load_tracker(*arguments)
        step = tracker.step

        def troubled_step(*arguments: Any, **options: Any) -> Any:
            if order.exists():
                what, seconds = order.read_text().split()
                order.unlink()
                if what == "sleep":
                    time.sleep(float(seconds))
                else:
                    ctypes.PyDLL(None).usleep(round(1e6 * float(seconds)))  # PyDLL keeps the lock
            return step(*arguments, **options)

        tracker.step = troubled_step  # type: ignore[method-assign]
        return tracker

    tracker_node.load_tracker = load
    return tracker_node.main()


if __name__ == "__main__":
    sys.exit(main())
