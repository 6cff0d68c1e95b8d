"""Whether a checkpoint is as it was written: it is a zip, whose parts carry checksums that torch does not look at."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

FIX = "put back a copy of it, or remove it to begin anew"


def require_checksums(path: Path) -> None:
    """Read a file of `torch.save` once, and compare its checksums.

    Raises:
        ValueError: it is no such file, is cut off, or a byte of it is not the one that was written.
        OSError: it cannot be read.
    """
    path.open("rb").close()  # beyond this, what the system refuses is a place in the file that cannot be
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            # Torch reads zeros for a part that is marked as a folder.
            wrong = (
                next((one.filename for one in listed if one.external_attr & 0x10), None) or archive.testzip()
            )
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no checkpoint of this program, or cut off ({error}); {FIX}") from None
    except (
        ValueError,
        OSError,
        RuntimeError,
        NotImplementedError,
        EOFError,
        struct.error,
        zlib.error,
    ) as error:
        raise ValueError(f"{path} is damaged ({error}); {FIX}") from None
    if wrong is not None or not listed:
        raise ValueError(f"{path} is damaged: the checksum of its part {wrong or 'list'} is wrong; {FIX}")
