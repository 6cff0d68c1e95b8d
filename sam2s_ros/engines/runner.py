"""What runs exported graphs: one interface, one implementation for each library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REDUCED_GRAPHS = ("encode", "attend", "memorise")
"""Graphs that bf16 concerns. Prompts and the decoder stay in float32: coordinates need it, and so does the choice among
hypotheses of almost the same predicted IoU."""


@dataclass(frozen=True)
class Gathered:
    """Slots [n, M] of n rows out of a bank [rows, slots, ...], an input [n, M, ...] that is only put together in the
    memory where the runner wants it."""

    bank: NDArray[np.float32]
    rows: NDArray[np.int64]
    slots: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.slots.shape, *self.bank.shape[2:])

    def into(self, out: np.ndarray) -> None:
        """Write the input into `out` of its shape, C-contiguous."""
        index = (self.rows[:, None] * self.bank.shape[1] + self.slots).ravel()
        flat = self.bank.reshape(-1, *self.bank.shape[2:])
        np.take(flat, index, axis=0, out=out.reshape(len(index), *flat.shape[1:]), mode="clip")

    def array(self) -> NDArray[np.float32]:
        """The input in memory of its own."""
        out = np.empty(self.shape, dtype=np.float32)
        self.into(out)
        return out

    def of(self, number: int) -> Gathered:
        """That of one of the n rows."""
        return Gathered(self.bank, self.rows[number : number + 1], self.slots[number : number + 1])


Inputs = Mapping[str, np.ndarray | Gathered]
"""A graph's inputs by name."""


class GraphRunner(ABC):
    """Runs the graphs of one network on one device. Two threads may run at a time, but not the same graph."""

    name: str
    """Of the engine made with it."""
    precision: str
    threads: int
    version: str
    """Library and version, for reports."""
    batches: tuple[int, ...]
    """Numbers of objects that are best run together, the largest first."""
    runs_beside: bool = False
    """Whether graphs may also be started to run beside the caller, and gain time by it."""
    usual_reads: tuple[tuple[int, int], ...] = ()
    """Numbers of memory and pointer columns that are quick, in order: it is worth filling up to them with empty
    ones."""

    @abstractmethod
    def run(self, graph: str, inputs: Inputs) -> list[np.ndarray]:
        """The graph's outputs in its order, valid until its next run. Arrays among the inputs are C-contiguous and of
        the graph's dtypes, and are not changed."""

    def start(self, graph: str, inputs: Inputs) -> Callable[[], list[np.ndarray]]:
        """Begin a run beside the caller, for which what is returned waits and then gives the outputs. Until then other
        graphs may run, but not this one. Only where it `runs_beside`."""
        raise NotImplementedError(f"{self.name} does not run graphs beside the caller")

    def run_into(self, graph: str, inputs: Inputs, outputs: Sequence[np.ndarray]) -> None:
        """Run and write the outputs into these arrays, C-contiguous and of their shapes and dtypes."""
        for target, source in zip(outputs, self.run(graph, inputs), strict=True):
            np.copyto(target, source)

    def groups(self, count: int) -> list[slice]:
        """So many objects in groups to be run together."""
        groups, start = [], 0
        while start < count:
            size = next((size for size in self.batches if size <= count - start), count - start)
            groups.append(slice(start, start + size))
            start += size
        return groups
