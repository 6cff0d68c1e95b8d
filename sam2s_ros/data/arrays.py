"""Names for array types. The element types are for the reader: OpenCV's stubs know only "some array"."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

ByteArray = NDArray[Any]  # uint8
FloatArray = NDArray[Any]  # float32 or float64
BoolArray = NDArray[Any]  # bool
