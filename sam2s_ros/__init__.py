"""Streaming segmentation of surgical video: SAM 2.1 and SAM2S, from the network to a ROS 2 node.

One folder per room, with arrows one way: `network` (the model) <- `engines` (runs it) <- `tracking` (objects
over time) <- `evaluation` and `nodes` (the only room that knows ROS). `training` and `data` know `network` alone.
Importing this package loads neither torch nor ROS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sam2s_ros.tracking import load_tracker

__version__ = "0.1.0"
__all__ = ["__version__", "load_tracker"]


def __getattr__(name: str) -> Any:
    """Load `load_tracker`, and with it torch, when it is first asked for (PEP 562)."""
    if name == "load_tracker":
        from sam2s_ros.tracking import load_tracker

        return load_tracker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
