"""Whether a PNG is as it was written: its parts carry checksums, which Pillow and OpenCV hardly look at.

A flipped byte in the pixels of a label image would otherwise pass as labels.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def require_whole(data: bytes, path: Path) -> None:
    """Pass over what is no PNG; `path` is named in errors.

    Raises:
        OSError: a chunk of the PNG `data` is cut off, or its checksum is wrong.
    """
    if not data.startswith(SIGNATURE):
        return
    view, place, name = memoryview(data), len(SIGNATURE), b""
    while name != b"IEND":
        if place + 12 > len(data):
            raise OSError(f"{path} is no image, or cut off: the PNG ends before its end mark; get it again")
        length, name = struct.unpack(">I4s", view[place : place + 8])
        end = place + 8 + length
        if end + 4 > len(data):
            raise OSError(f"{path} is no image, or cut off: the PNG ends in the middle; get it again")
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise OSError(
                f"{path} is damaged: the checksum of the PNG's part {name.decode('ascii', 'replace')} at byte {place} "
                "is wrong; get it again"
            )
        place = end + 4
