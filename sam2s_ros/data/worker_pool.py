"""Processes that work beside the one that starts them, and end with it, however it ends."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from concurrent.futures import ProcessPoolExecutor

import cv2


def worker_pool(jobs: int) -> ProcessPoolExecutor:
    """`jobs` processes, one thread each for OpenCV.

    They are started afresh, since a fork of a process with threads may hang. Those of a parent that was killed end too:
    nobody would take their results.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_start)


def _start() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
