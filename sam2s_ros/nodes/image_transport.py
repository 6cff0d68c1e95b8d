"""The environment in which a process can send or receive images over DDS without loss."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from sam2s_ros.nodes.shares import shipped_file

SHARED_MEMORY = Path("/dev/shm")
PARTICIPANTS = 3  # a tracker, a publisher and a recorder
SMALLEST_SEGMENT = 9 * 2**20  # three images of 1280x720
MALLOC_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
}
"""Keep glibc from returning each image's memory to the system, which costs a 1080p stream its latency."""


def profile_variable() -> str:
    """The environment variable that names the Fast DDS profile in this ROS distribution; newer ones warn of both."""
    name = "FASTRTPS" if os.environ.get("ROS_DISTRO") == "humble" else "FASTDDS"
    return f"{name}_DEFAULT_PROFILES_FILE"


def image_transport_environment(
    folder: Path, profile: Path | None = None, shared_memory: Path = SHARED_MEMORY
) -> dict[str, str]:
    """What a process needs to send or receive images without loss, set before it starts.

    A Fast DDS profile with room for images in shared memory, and an allocator that keeps the memory of one image for
    the next. Where there is too little shared memory (a container has 64 MiB by default) and Fast DDS would fall back
    to UDP, which loses images, a copy of the profile with smaller segments is written to `folder`, and its name used.

    Args:
        folder: made only when it is needed.
        profile: None: the shipped one.
        shared_memory: where shared memory is mounted.

    Raises:
        OSError: the profile cannot be read, or its copy cannot be written.
    """
    profile = profile or shipped_file("config/fastdds_profile.xml")
    text = profile.read_text()
    fitted = re.sub(
        r"(<segment_size>)(\d+)(<)",
        lambda found: f"{found[1]}{fitting_segment(int(found[2]), shared_memory)}{found[3]}",
        text,
    )
    if fitted != text:
        folder.mkdir(parents=True, exist_ok=True)
        profile = folder.resolve() / "fastdds_profile.xml"
        profile.write_text(fitted)
    return {profile_variable(): str(profile), **MALLOC_ENVIRONMENT}


def fitting_segment(wanted: int, shared_memory: Path) -> int:
    """Bytes of a participant's segment: `wanted`, or less where not all participants' segments fit the free space."""
    if not shared_memory.is_dir():
        return wanted
    share = shutil.disk_usage(shared_memory).free // (PARTICIPANTS + 1)  # and one for the ports' queues
    return min(wanted, max(share, SMALLEST_SEGMENT))
