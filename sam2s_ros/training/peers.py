"""The other processes of a run: which of them ended, by what, and how the run goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies.launchers import subprocess_script

from sam2s_ros.training.processes import sum_over_processes

LOST_PEER = ("gloo", "nccl", "closed by peer", "connection reset", "timed out")
"""Parts of what torch's collectives say when another process does not answer any more, in lower case."""
PATIENCE_S = 5.0
"""How long is waited for a process that does not answer to be seen to have ended, or for this one to notice."""


class Peers:
    """The processes of a run as one of them knows them. Made before they are launched.

    Args:
        resume: how the run goes on, for errors.
    """

    def __init__(self, fabric: Fabric, resume: str) -> None:
        self._fabric, self._resume = fabric, resume
        self._children: Sequence[subprocess.Popen] = ()
        self._pids: dict[int, int] = {}
        self._over = False

    def launch(self) -> None:
        """Begin them, and let them tell one another their process ids. Every process of the run calls this.

        Fabric's own watch over its children would kill this process before it has said what happened; `_watch` takes
        its place.
        """
        theirs = subprocess_script._launch_process_observer
        subprocess_script._launch_process_observer = self._watch
        try:
            self._fabric.launch()
        finally:
            subprocess_script._launch_process_observer = theirs
        if self._fabric.world_size > 1:
            host = zlib.crc32(socket.gethostname().encode())
            rows = torch.zeros(self._fabric.world_size, 2, dtype=torch.int64, device=self._fabric.device)
            rows[self._fabric.global_rank] = torch.tensor([os.getpid(), host])
            rows = sum_over_processes(self._fabric, rows)
            self._pids = {rank: pid for rank, (pid, where) in enumerate(rows.tolist()) if where == host}

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn what torch raises when another process is gone into a `ConnectionError` that says which, and why.

        After any error the processes that this one began are ended, as they would only wait for it.
        """
        try:
            yield
        except BaseException as error:
            said = self._lost(error)
            self._end_children()
            if not said:
                raise
            raise ConnectionError(f"{said}; {self._resume}") from error

    def _lost(self, error: BaseException) -> str:
        """Which process is gone, where an error of torch says that one is; empty: it is another error."""
        text = str(error)
        known = isinstance(error, dist.DistError) or any(part in text.lower() for part in LOST_PEER)
        if not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError) or not known:
            return ""
        if self._fabric.world_size == 1:
            return ""
        return self._ended(PATIENCE_S) or (
            f"process {self._fabric.global_rank} of {self._fabric.world_size} waits in vain for another, which hangs "
            f"or ended ({' '.join(text.splitlines()[0].split())})"
        )

    def _watch(self, child_processes: list[subprocess.Popen]) -> None:
        """Follow the processes that this one began, on a thread that ends with it."""
        self._children = child_processes
        threading.Thread(target=self._end_with_them, name="children-watch", daemon=True).start()

    def _end_with_them(self) -> None:
        """End this process some time after one of its children failed, in case it waits for that one for ever."""
        while any(child.poll() is None for child in self._children):
            if any(child.poll() for child in self._children):
                break
            time.sleep(0.5)
        said = self._ended(0.0)
        time.sleep(2 * PATIENCE_S)
        if said and not self._over:
            print(f"sam2s: error: {said}; {self._resume}", file=sys.stderr, flush=True)
            self._end_children()
            os._exit(2)

    def _end_children(self) -> None:
        self._over = True
        for child in self._children:
            if child.poll() is None:
                child.kill()

    def _ended(self, patience_s: float) -> str:
        """Which process ended and by what, as far as it is seen within that time; empty: none is seen to."""
        deadline = time.monotonic() + patience_s
        while True:
            said = self._failed_child() or self._missing_peer()
            if said or time.monotonic() >= deadline:
                return said
            time.sleep(0.05)

    def _failed_child(self) -> str:
        for index, child in enumerate(self._children, start=1):
            code = child.poll()
            if code:
                rank = int(os.environ.get("NODE_RANK", 0)) * (len(self._children) + 1) + index
                return f"process {rank} of {os.environ['WORLD_SIZE']} (pid {child.pid}) {how_it_ended(code)}"
        return ""

    def _missing_peer(self) -> str:
        """A process on this machine that is gone, where it is no child of this one: by what, is not known."""
        children = {child.pid for child in self._children}
        for rank, pid in self._pids.items():
            if pid not in children and not is_running(pid):
                return f"process {rank} of {self._fabric.world_size} (pid {pid}) ended"
        return ""


def how_it_ended(code: int) -> str:
    """What `subprocess.Popen.returncode` says, in words."""
    if code >= 0:
        return f"ended with exit status {code}, its own error is above"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    memory = ", as the system does where memory runs out" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{memory}"


def is_running(pid: int) -> bool:
    """Whether a process of this machine is there, and more than an entry that nobody has taken note of."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
