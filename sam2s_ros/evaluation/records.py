"""One record per frame and object: the file frames.parquet, from which everything else that is reported is computed.

Records are written in row groups while a video is evaluated, so that memory does not grow with its length, and read
again one object at a time. `docs/evaluation.md` lists the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FRAMES_FILE = "frames.parquet"
ROWS_PER_GROUP = 4096
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """What one tracker made of one object on one frame. Fractions are 0 .. 1, lengths are pixels of the image.

    What is not known is NaN in a float, None in another field, and empty in the file. Without ground truth (`present`
    is None) the measures against it are not known.
    """

    tracker: str
    sequence: str
    frame: int
    """Number of the frame in its sequence, from 0."""
    stamp_ns: int
    label: int
    """Value of the object in the label images."""
    object_id: int
    """The tracker's id of it."""
    name: str
    true_class: str
    """Class by the object's name in the ground truth (`classes.class_of`)."""
    height: int
    width: int
    prompted: bool
    """The object was prompted on this frame."""
    tracked: bool
    """The tracker saw this frame. False: it was dropped, and the mask is what a consumer then has."""
    state: str
    """`TrackState` by name; empty for a tracker without states."""
    presence: float
    """Probability that the object is in view, as the tracker says."""
    predicted_iou: float
    said_class: str
    """Class that the tracker gives the object; empty where it gives none."""
    long_term_insertions: int | None
    """Frames that have entered the object's long-term memory so far; None for a tracker that says nothing of it."""
    present: bool | None
    """The ground truth shows the object."""
    truth_crc32: int | None
    """CRC-32 of the true mask's bits, by which two runs are known to have the same ground truth."""
    predicted_px: int
    true_px: int | None
    intersection_px: int | None
    class_predicted_px: int
    """Of the union of the masks of all objects of its class on this frame; so are the two that follow."""
    class_true_px: int | None
    class_intersection_px: int | None
    j: float
    f: float
    dice: float
    nsd: float
    hd95_px: float
    asd_px: float
    centroid_error_px: float
    tip_error_px: float
    consistency: float
    """`consistency.FlowConsistency`; needs no ground truth."""
    latency_ms: float
    """Time that the tracker needed for this frame, prompts included; in real time, from the image's stamp to the
    publication of its masks. NaN for a dropped frame."""


_TEXT = pa.dictionary(pa.int32(), pa.string())
_TYPES: dict[str, pa.DataType] = {"str": _TEXT, "float": pa.float64(), "bool": pa.bool_(), "int": pa.int32()}
_WIDE = {"stamp_ns": pa.int64(), "truth_crc32": pa.uint32()}
SCHEMA = pa.schema(
    [
        pa.field(
            field.name,
            _WIDE.get(field.name, _TYPES[str(field.type).removesuffix(" | None")]),
            "None" in str(field.type),
        )
        for field in fields(FrameRecord)
    ]
)
"""Of frames.parquet: one column per field of `FrameRecord`. Floats have NaN for what is not known."""
_NAMES = SCHEMA.names


class RecordWriter:
    """Writes records to a Parquet file as they come; the file is there, whole, once the writer is left in good order.

    Until then it is `<name>.partial` beside it. Holds at most `ROWS_PER_GROUP` records.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._columns: dict[str, list[Any]] = {name: [] for name in _NAMES}
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> RecordWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._partial, SCHEMA, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer, self._writer = self._writer, None
        assert writer is not None, "RecordWriter is used in a with statement"
        try:
            self._flush(writer)
        finally:
            writer.close()
        if kind is None:
            self._partial.replace(self._path)

    def write(self, records: Iterable[FrameRecord]) -> None:
        """Append records, all objects of one frame together."""
        assert self._writer is not None, "RecordWriter is used in a with statement"
        for record in records:
            for name, column in self._columns.items():
                column.append(getattr(record, name))
        if len(self._columns["frame"]) >= ROWS_PER_GROUP:
            self._flush(self._writer)

    def _flush(self, writer: pq.ParquetWriter) -> None:
        if not self._columns["frame"]:
            return
        arrays = [pa.array(self._columns[field.name], field.type) for field in SCHEMA]
        writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), row_group_size=2 * ROWS_PER_GROUP)
        for column in self._columns.values():
            column.clear()


def join_records(parts: Iterable[Path], path: Path) -> None:
    """Write the records of several files into one, a row group at a time; it is there whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group), row_group_size=2 * ROWS_PER_GROUP)
    partial.replace(path)


@dataclass(frozen=True)
class RecordedObject:
    """Which object of which run: the key by which records are read again, in the order in which they were written."""

    tracker: str
    sequence: str
    label: int
    name: str
    first_frame: int


class RecordReader:
    """Reads frames.parquet. Memory holds the columns asked for, of one object or one sequence, never the whole file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no frames.parquet, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        path = path / FRAMES_FILE if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}: give the folder that `sam2s evaluate --out` wrote")
        try:
            self._file = pq.ParquetFile(path, read_dictionary=["tracker", "sequence", "name"])
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is no Parquet file: {error}") from None
        missing = [name for name in _NAMES if name not in self._file.schema_arrow.names]
        if missing:
            raise ValueError(
                f"{path} lacks the columns {', '.join(missing)}: write it again with `sam2s evaluate --out`"
            )
        self.path = path
        self._groups: dict[tuple[str, str], list[int]] = {}
        self.objects: tuple[RecordedObject, ...] = tuple(self._find_objects())

    @property
    def trackers(self) -> tuple[str, ...]:
        """Names in the order in which they were run."""
        return tuple(dict.fromkeys(item.tracker for item in self.objects))

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names in the order in which they were run."""
        return tuple(dict.fromkeys(item.sequence for item in self.objects))

    def objects_of(self, tracker: str, sequence: str | None = None) -> tuple[RecordedObject, ...]:
        """Objects that a tracker followed, of one sequence or of all; by sequence, then label."""
        found = [
            item for item in self.objects if item.tracker == tracker and sequence in (None, item.sequence)
        ]
        order = {name: place for place, name in enumerate(self.sequences)}
        return tuple(sorted(found, key=lambda item: (order[item.sequence], item.label)))

    def columns(self, item: RecordedObject, *names: str) -> dict[str, np.ndarray]:
        """Columns [T] of one object, by frame. Text is objects; whole numbers are float with NaN where unknown."""
        return self._read(item.tracker, item.sequence, names, pc.field("label") == item.label)

    def sequence_columns(self, tracker: str, sequence: str, *names: str) -> dict[str, np.ndarray]:
        """Columns of all objects of one sequence [rows], by frame."""
        return self._read(tracker, sequence, names, None)

    def _read(
        self, tracker: str, sequence: str, names: tuple[str, ...], which: pc.Expression | None
    ) -> dict[str, np.ndarray]:
        mine = (pc.field("tracker") == tracker) & (pc.field("sequence") == sequence)
        wanted = mine if which is None else mine & which
        needed = list(dict.fromkeys([*names, "tracker", "sequence", "label"]))
        parts = []
        for group in self._groups.get((tracker, sequence), []):
            table = self._file.read_row_group(group, columns=needed)
            parts.append(table.filter(wanted).select(list(names)))
        table = pa.concat_tables(parts) if parts else SCHEMA.empty_table().select(list(names))
        return {name: _to_numpy(table[name]) for name in names}

    def _find_objects(self) -> Iterator[RecordedObject]:
        seen: set[tuple[str, str, int]] = set()
        keys = ["tracker", "sequence", "label"]
        for group in range(self._file.num_row_groups):
            table = self._file.read_row_group(group, columns=[*keys, "name", "frame"])
            first = table.group_by([*keys, "name"], use_threads=False).aggregate([("frame", "min")])
            for row in first.to_pylist():
                key = (row["tracker"], row["sequence"], row["label"])
                groups = self._groups.setdefault(key[:2], [])
                if group not in groups[-1:]:
                    groups.append(group)
                if key not in seen:
                    seen.add(key)
                    yield RecordedObject(*key, row["name"], row["frame_min"])


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Text as objects; whole numbers and truth values as they are, as float with NaN where some are not known."""
    if pa.types.is_dictionary(column.type):
        return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False))
    if column.null_count:
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    return np.asarray(column.to_numpy(zero_copy_only=False))
