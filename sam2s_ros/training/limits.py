"""What a setting may be: declared beside its definition, as `Annotated[type, limits]`, and checked when it is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from reprlib import Repr
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


class Limits(Protocol):
    """Which values of the right type a setting may have."""

    def allow(self, value: Any) -> bool:
        """Whether it may have this one."""


@dataclass(frozen=True)
class Within:
    """A number from `low` to `high`."""

    low: float
    high: float
    above_low: bool = False
    """The number is above `low`, not `low` itself."""
    below_high: bool = False
    or_zero: bool = False
    """0 is allowed besides."""
    multiple_of: int = 1

    def allow(self, value: Any) -> bool:
        """Whether a number lies within; NaN and infinity do not."""
        if self.or_zero and value == 0:
            return True
        if not self.low <= value <= self.high or (self.multiple_of > 1 and value % self.multiple_of):
            return False
        return not (self.above_low and value == self.low or self.below_high and value == self.high)

    def __str__(self) -> str:
        low, high = _number(self.low), _number(self.high)
        said = f"from {low} to {high}"
        if self.above_low or self.below_high:
            first, last = "above" if self.above_low else "at least", "below" if self.below_high else "at most"
            said = f"{first} {low} and {last} {high}"
        multiple = f", a multiple of {self.multiple_of}" if self.multiple_of > 1 else ""
        return f"{said}{multiple}{', or 0' if self.or_zero else ''}"


@dataclass(frozen=True)
class OneOf:
    """One of these texts."""

    choices: tuple[str, ...]

    def allow(self, value: Any) -> bool:
        """Whether a text is one of them."""
        return value in self.choices

    def __str__(self) -> str:
        return "one of " + ", ".join(self.choices)


@dataclass(frozen=True)
class NotEmpty:
    """Something, if only one entry or letter."""

    what: str
    """What there must be, as the error says it."""

    def allow(self, value: Any) -> bool:
        """Whether it is not empty."""
        return len(value) > 0

    def __str__(self) -> str:
        return self.what


def check_settings(settings: Any) -> None:
    """Check every field of a dataclass by its annotation; call it from `__post_init__`.

    Raises:
        ValueError: the first setting with a value of another type or outside its limits: name, value, what is allowed.
    """
    kind: type = type(settings)
    for name, hint in _hints(kind).items():
        _check(name, getattr(settings, name), hint)


def shown(value: Any) -> str:
    """A value as an error quotes it: on one line, cut where it is long."""
    if isinstance(value, str):
        return f"the text {_SHORT.repr(value)}"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(_SHORT.repr(value).split())


def permitted(kind: type, name: str) -> str:
    """What the setting `name` of a dataclass may be, as its errors say it."""
    return _permitted(_hints(kind)[name])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _parts(hint: Any) -> tuple[Any, tuple[Limits, ...]]:
    """Type and limits."""
    if get_origin(hint) is Annotated:
        kind, *limits = get_args(hint)
        return kind, tuple(limits)
    return hint, ()


def _check(name: str, value: Any, hint: Any) -> None:
    kind, limits = _parts(hint)
    if not _is_a(value, kind):
        number = kind in (int, float) and isinstance(value, str)
        hint_text = "; YAML wants numbers such as 1.0e-5" if number else ""
        raise ValueError(f"{name} is {shown(value)}; use {_permitted(hint)}{hint_text}")
    if not all(one.allow(value) for one in limits):
        raise ValueError(f"{name} is {shown(value)}; use {_permitted(hint)}")
    if get_origin(kind) is dict:
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{name} has the name {shown(key)}; use a text")
            _check(f"{name}: {key}", entry, get_args(kind)[1])
    elif get_origin(kind) is tuple:
        for index, entry in enumerate(value):
            _check(f"{name}[{index}]", entry, get_args(kind)[0])


def _is_a(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    origin = get_origin(kind)
    if origin is dict:
        return isinstance(value, Mapping)
    return isinstance(value, origin or kind)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def _permitted(hint: Any) -> str:
    kind, limits = _parts(hint)
    said = " ".join(str(one) for one in limits)
    origin = get_origin(kind)
    if origin is tuple:
        return said or f"a list, each entry {_permitted(get_args(kind)[0])}"
    if origin is dict:
        return f"a mapping, each value {_permitted(get_args(kind)[1])}"
    if any(isinstance(one, (OneOf, NotEmpty)) for one in limits):
        return said
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return f"{names.get(kind, 'a mapping of settings')} {said}".strip()
