"""What tests of several engines share: a cache of their own for exported graphs, and an engine that compares two."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.engines import DecodeResult, Engine, EngineCapacity, MemoryRead, create_engine
from sam2s_ros.network import Sam2Network

ENGINES = [
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnxruntime", "fp32"),
    ("tensorrt", "fp32"),
    ("tensorrt", "fp16"),
]
"""Engines that run exported graphs, in their precisions."""
ENGINE_IDS = ["-".join(case) for case in ENGINES]


class ComparingEngine(Engine):
    """Does everything with a reference and a second engine, and gives what the reference gave.

    The second one's memory is made the reference's before each frame, so that differences do not add up.
    """

    def __init__(self, reference: Engine, other: Engine) -> None:
        self.reference, self.other = reference, other
        self.capacity = reference.capacity
        self.image_size, self.mask_size = reference.image_size, reference.mask_size
        self.pairs: list[tuple[DecodeResult, DecodeResult]] = []
        """What both said of the same objects, in the order of the calls."""

    def _both(self, call: str, *arguments: Any) -> tuple[Any, Any]:
        return getattr(self.reference, call)(*arguments), getattr(self.other, call)(*arguments)

    def encode(self, frame_rgb: NDArray[np.uint8], frame_slot: int) -> None:
        self._both("encode", frame_rgb, frame_slot)

    def attend(self, rows: NDArray[np.int64], frame_slot: int, read: MemoryRead | None) -> None:
        everything = np.arange(self.capacity.max_objects)
        self.other.import_state(everything, self.reference.export_state(everything))
        self._both("attend", rows, frame_slot, read)

    def decode(self, *arguments: Any) -> DecodeResult:
        self.pairs.append(self._both("decode", *arguments))
        return self.pairs[-1][0]

    def decode_mask(self, *arguments: Any) -> DecodeResult:
        self.pairs.append(self._both("decode_mask", *arguments))
        return self.pairs[-1][0]

    def mark_absent(self, *arguments: Any) -> None:
        self._both("mark_absent", *arguments)

    def memorise(self, *arguments: Any, **named: Any) -> None:
        self.reference.memorise(*arguments, **named)
        self.other.memorise(*arguments, **named)

    def similarity(self, *arguments: Any) -> NDArray[np.float32]:
        ours, theirs = self._both("similarity", *arguments)
        assert np.abs(ours - theirs).max() < 0.01
        return ours

    def keep_memory(self, *arguments: Any) -> None:
        self._both("keep_memory", *arguments)

    def keep_feature(self, *arguments: Any) -> None:
        self._both("keep_feature", *arguments)

    def warm_up(self) -> None:
        self._both("warm_up")

    def describe(self) -> Any:
        return self.reference.describe()

    def export_state(self, rows: NDArray[np.int64]) -> dict[str, np.ndarray]:
        return self.reference.export_state(rows)

    def import_state(self, rows: NDArray[np.int64], state: dict[str, np.ndarray]) -> None:
        self._both("import_state", rows, state)

    def free(self) -> None:
        self._both("free")


def compare_with_eager(
    network: tuple[Sam2Network, Sam2Network], name: str, precision: str, capacity: EngineCapacity
) -> ComparingEngine:
    """Eager in float32 beside another engine; both networks are the same, and each engine takes its own."""
    return ComparingEngine(
        create_engine("eager", network[0], capacity),
        create_engine(name, network[1], capacity, precision=precision),
    )
