"""Who hears whom: a ROS domain of one's own, for a demo or tests, and what to do where nobody is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HOLD = """
import os, sys
try:
    from rmw_test_fixture_implementation import RMWTestIsolator
except ImportError:
    sys.exit()
with RMWTestIsolator():
    print(os.environ["ROS_DOMAIN_ID"], flush=True)
    sys.stdin.read()
"""
DISCOVERY_VARIABLES = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")
SAFE_DOMAINS = 100
"""Domains 1 to 100 are safe on every system."""


def how_to_be_found() -> str:
    """What to do where no tracker node is found; with the variables that decide who finds whom, as they are here."""
    found = {name: os.environ.get(name) or "not set" for name in DISCOVERY_VARIABLES}
    here = ", ".join(f"{name} is {value}" for name, value in found.items())
    return (
        "start it (`tracker --ros-args -p autostart:=true`, or `ros2 launch sam2s_ros tracker.launch.py`), or name "
        f"another one; the node needs the same discovery settings as this program, where {here}"
    )


@contextmanager
def own_domain() -> Iterator[int]:
    """Set ROS_DOMAIN_ID here and for child processes.

    A reserved one where the RMW's test fixture is installed, else the caller's, else one made from the process id.

    Another process holds the reservation: RMWTestIsolator starts a second Python interpreter inside its process, after
    which torch's backward pass refuses to run there ("called while holding the GIL").
    """
    before = os.environ.get("ROS_DOMAIN_ID")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        reserved = holder.stdout.readline().strip()
        domain = reserved or before or str(1 + os.getpid() % SAFE_DOMAINS)
        os.environ["ROS_DOMAIN_ID"] = domain
        try:
            yield int(domain)
        finally:
            holder.stdin.close()
            if before is None:
                os.environ.pop("ROS_DOMAIN_ID", None)
            else:
                os.environ["ROS_DOMAIN_ID"] = before
