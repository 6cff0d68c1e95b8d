"""Parts of a `MemoryRead`, which an engine need not run in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines.base import MemoryRead


def without_empty_columns(read: MemoryRead) -> MemoryRead:
    """The same read without the columns that are valid for no object; the first of each kind always stays."""
    memory = np.asarray(read.valid.any(axis=0))
    pointers = np.asarray(read.pointer_valid.any(axis=0))
    memory[0] = pointers[0] = True
    return MemoryRead(
        slots=read.slots[:, memory],
        kind=read.kind[:, memory],
        temporal_index=read.temporal_index[:, memory],
        valid=read.valid[:, memory],
        pointer_slots=read.pointer_slots[:, pointers],
        pointer_distance=read.pointer_distance[:, pointers],
        pointer_valid=read.pointer_valid[:, pointers],
    )


def widest_columns(read: MemoryRead, memory: int, pointers: int) -> MemoryRead:
    """The same read cut down to so many memory and pointer columns where no others are valid, else left whole.

    A read thus has one of two widths of each kind, whatever is valid in it.
    """
    columns, pointer_columns = _first(read.valid, memory), _first(read.pointer_valid, pointers)
    return MemoryRead(
        slots=read.slots[:, columns],
        kind=read.kind[:, columns],
        temporal_index=read.temporal_index[:, columns],
        valid=read.valid[:, columns],
        pointer_slots=read.pointer_slots[:, pointer_columns],
        pointer_distance=read.pointer_distance[:, pointer_columns],
        pointer_valid=read.pointer_valid[:, pointer_columns],
    )


def quickest_columns(read: MemoryRead, usual: Sequence[tuple[int, int]]) -> MemoryRead:
    """The same read cut down to the first of the usual numbers of memory and pointer columns that hold all valid ones,
    or to the valid ones where none does."""
    memory, pointers = (int(valid.any(axis=0).sum()) for valid in (read.valid, read.pointer_valid))
    for columns, pointer_columns in usual:
        if (
            memory <= columns <= read.valid.shape[1]
            and pointers <= pointer_columns <= read.pointer_valid.shape[1]
        ):
            return widest_columns(read, columns, pointer_columns)
    return without_empty_columns(read)


def _first(valid: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Numbers of `count` columns among which are all that are valid for some object, or of all columns."""
    used = np.asarray(valid.any(axis=0))
    if used.sum() > count:
        return np.arange(len(used))
    return np.sort(np.argsort(~used, kind="stable")[:count])


def rows_of(read: MemoryRead, rows: slice) -> MemoryRead:
    """The part of the read that concerns some of its objects."""
    return MemoryRead(**{field.name: getattr(read, field.name)[rows] for field in fields(read)})


def repeated_read(rows: int, memory: int, pointers: int) -> MemoryRead:
    """Every object reads its first slot, so many times."""
    return MemoryRead(
        slots=np.zeros((rows, memory), dtype=np.int64),
        kind=np.zeros((rows, memory), dtype=np.int8),
        temporal_index=np.zeros((rows, memory), dtype=np.int64),
        valid=np.ones((rows, memory), dtype=np.bool_),
        pointer_slots=np.zeros((rows, pointers), dtype=np.int64),
        pointer_distance=np.ones((rows, pointers), dtype=np.float32),
        pointer_valid=np.ones((rows, pointers), dtype=np.bool_),
    )
