"""Whether an MCAP file is whole and can be checked, and the checksums that our own writer leaves out.

rosbags compares the checksum of each chunk that it reads where there is one, and writes none. Here they are added to
the files that we write (`seal`), and `check_mcap` does what a reader of messages does not: it walks over the records,
so that a file that was cut is found before it is scored, compares the checksum of the index, and says how much of the
file has no checksum at all. Format: https://mcap.dev/spec.
"""

from __future__ import annotations

import os
import struct
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from backports import zstd
from lz4.frame import decompress as lz4_decompress

MAGIC = b"\x89MCAP0\r\n"
FOOTER, MESSAGE, CHUNK = 0x02, 0x05, 0x06
RECORD_HEADER = struct.Struct("<BQ")  # opcode, length
FOOTER_FIELDS = struct.Struct("<QQI")  # start of the summary, start of its offsets, checksum of the summary
CHUNK_CRC_AT = 24  # bytes into a chunk: after the first and last time and the uncompressed size
DECOMPRESS = {"": bytes, "zstd": zstd.decompress, "lz4": lz4_decompress}


@dataclass(frozen=True)
class McapCheck:
    """How many records with messages a file has (chunks, or messages outside of one), and how many lack a checksum."""

    records: int
    unchecked: int


@dataclass(frozen=True)
class _Record:
    opcode: int
    start: int  # of its content
    length: int


def check_mcap(path: Path) -> McapCheck:
    """Walk over the records of a file without reading the messages.

    Raises:
        ValueError: the file is cut, or its index is damaged.
    """
    with path.open("rb") as file:
        records = unchecked = 0
        for record in _records(file, path):
            if record.opcode == MESSAGE:
                records, unchecked = records + 1, unchecked + 1
            elif record.opcode == CHUNK:
                records += 1
                unchecked += _read(file, record.start + CHUNK_CRC_AT, 4) == bytes(4)
            elif record.opcode == FOOTER:
                summary, _, checksum = FOOTER_FIELDS.unpack(_read(file, record.start, FOOTER_FIELDS.size))
                if checksum and summary and checksum != _summary_crc(file, summary, record):
                    raise ValueError(f"{path} is damaged: the checksum of its index is wrong")
    return McapCheck(records, unchecked)


def seal(path: Path) -> None:
    """Write the checksum of each chunk and of the index into a whole MCAP file that has none."""
    with path.open("r+b") as file:
        for record in _records(file, path):
            if record.opcode == CHUNK:
                checksum = struct.pack("<I", crc32(_uncompressed(_read(file, record.start, record.length))))
                file.seek(record.start + CHUNK_CRC_AT)
                file.write(checksum)
            elif record.opcode == FOOTER:
                (summary,) = struct.unpack("<Q", _read(file, record.start, 8))
                checksum = struct.pack("<I", _summary_crc(file, summary, record) if summary else 0)
                file.seek(record.start + FOOTER_FIELDS.size - 4)
                file.write(checksum)


def _records(file: BinaryIO, path: Path) -> Iterator[_Record]:
    """The records of the file in order, the footer last."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise ValueError(f"{path} is no readable ROS 2 bag: the file is empty")
    if _read(file, 0, len(MAGIC)) != MAGIC:
        raise ValueError(f"{path} is no readable ROS 2 bag: not an MCAP file")
    position = len(MAGIC)
    while position + RECORD_HEADER.size <= size:
        opcode, length = RECORD_HEADER.unpack(_read(file, position, RECORD_HEADER.size))
        start = position + RECORD_HEADER.size
        position = start + length
        if opcode == FOOTER and length == FOOTER_FIELDS.size and position + len(MAGIC) == size:
            yield _Record(opcode, start, length)
            return
        if position > size or opcode in (0, FOOTER):
            break
        yield _Record(opcode, start, length)
    raise ValueError(
        f"{path} was cut or damaged: its {size} bytes end without the index that closes an MCAP file; "
        "`mcap recover` saves what it holds"
    )


def _read(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


def _uncompressed(chunk: bytes) -> bytes:
    """The messages of a chunk's content: times, sizes and checksum, then the compression's name, then the bytes."""
    (name_length,) = struct.unpack_from("<I", chunk, CHUNK_CRC_AT + 4)
    name_at = CHUNK_CRC_AT + 8
    compression = chunk[name_at : name_at + name_length].decode()
    return DECOMPRESS[compression](chunk[name_at + name_length + 8 :])


def _summary_crc(file: BinaryIO, summary: int, footer: _Record) -> int:
    """Checksum of everything from the summary's start to the checksum in the footer."""
    return crc32(_read(file, summary, footer.start + FOOTER_FIELDS.size - 4 - summary))
