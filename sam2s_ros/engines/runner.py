"""What runs exported graphs: one interface, one implementation for each library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

import numpy as np

REDUCED_GRAPHS = ("encode", "attend", "memorise")
"""Graphs that bf16 concerns. Prompts and the decoder stay in float32: coordinates need it, and so does the choice among
hypotheses of almost the same predicted IoU."""


class GraphRunner(ABC):
    """Runs the graphs of one network on one device. Two threads may run at a time, but not the same graph."""

    name: str
    """Of the engine made with it."""
    precision: str
    threads: int
    version: str
    """Library and version, for reports."""
    most_objects: int
    """Objects N in one run from which on more are not faster than one run after another."""

    @abstractmethod
    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The graph's outputs in its order, valid until its next run. The inputs are C-contiguous and of the graph's
        dtypes, and are not changed."""

    def run_each(
        self, graph: str, count: int, inputs: Callable[[int], Mapping[str, np.ndarray]]
    ) -> Iterator[list[np.ndarray]]:
        """The outputs of `count` runs in order, each valid until the next is asked for; perhaps several at a time.

        `inputs` is asked for those of one run after another, each in its turn, and may use the same memory for all.
        """
        return (self.run(graph, inputs(number)) for number in range(count))
