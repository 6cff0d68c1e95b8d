"""A ROS domain of one's own, for tests that talk over DDS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

HOLD = """
import os, sys
from rmw_test_fixture_implementation import RMWTestIsolator
with RMWTestIsolator():
    print(os.environ["ROS_DOMAIN_ID"], flush=True)
    sys.stdin.read()
"""


@contextmanager
def isolated_domain() -> Iterator[int]:
    """Reserve a ROS_DOMAIN_ID that no other test on this machine uses; it is set here and for child processes.

    Another process holds the reservation: RMWTestIsolator starts a second Python interpreter inside its process, after
    which torch's backward pass refuses to run there ("called while holding the GIL").
    """
    before = os.environ.get("ROS_DOMAIN_ID")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        domain = holder.stdout.readline().strip()
        if not domain:
            raise RuntimeError("no ROS domain could be reserved: is requirements-dev.txt installed?")
        os.environ["ROS_DOMAIN_ID"] = domain
        try:
            yield int(domain)
        finally:
            if before is None:
                del os.environ["ROS_DOMAIN_ID"]
            else:
                os.environ["ROS_DOMAIN_ID"] = before
            holder.stdin.close()
