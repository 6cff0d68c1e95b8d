"""JSON files of data sets, read with what is wrong in them said in one line that names file and place."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, is cut off, holds NaN or infinity, or something other than an object.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON, or cut off: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} holds {_kind(raw)}; an object ({{...}}) is needed")
    return raw


def _refuse(constant: str) -> None:
    raise ValueError(f"it has the value {constant}")


def entry(holder: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """The entry `name` of an object, which is of `kind`; a whole number counts as float, true and false as none.

    ValueError says what is missing or of another kind, and where.
    """
    if not isinstance(holder, dict):
        raise ValueError(f"{where} is {_kind(holder)}; an object ({{...}}) is needed")
    if name not in holder:
        raise ValueError(f"{where} has no entry {name!r}")
    value = holder[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if float in kinds and type(value) is int and abs(value) < 1 << 53:
        value = float(value)
    infinite = isinstance(value, float) and not math.isfinite(value)  # as 1e999 is read
    if not isinstance(value, kinds) or infinite or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{where}: {name!r} is {_kind(value)}")
    return value


def require_unique(ids: Iterable[object], where: str) -> None:
    """ValueError: an id is there twice."""
    twice = [value for value, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: two have the id {twice[0]}; each needs its own")


def _kind(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
