"""What the evaluation needs of a tracker: the part of `StreamingTracker` that the baselines share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class MaskResult(Protocol):
    """Masks bool [N, H, W] of the objects with these ids [N], for one frame."""

    @property
    def ids(self) -> NDArray[np.uint32]: ...

    @property
    def masks(self) -> NDArray[np.bool_]: ...


class MaskTracker(Protocol):
    """Follows objects through frames, RGB uint8 [H, W, 3], given once each and in order.

    `add_object` and `refine_object` name the frame just stepped and change `last_result` for it. Points are
    float [K, 2] (x, y) with labels int [K], 1 on the object and 0 beside it; a box is float [4] (x0, y0, x1,
    y1); integer coordinates are pixel centres.
    """

    @property
    def last_result(self) -> MaskResult | None: ...

    def step(self, frame_rgb: NDArray[np.uint8], stamp_ns: int | None = None) -> MaskResult: ...

    def add_object(
        self,
        frame_rgb: NDArray[np.uint8] | None,
        mask: NDArray | None = None,
        points: NDArray | None = None,
        labels: NDArray | None = None,
        box: NDArray | None = None,
        name: str = "",
    ) -> int: ...

    def refine_object(
        self,
        object_id: int,
        frame_rgb: NDArray[np.uint8] | None = None,
        mask: NDArray | None = None,
        points: NDArray | None = None,
        labels: NDArray | None = None,
        box: NDArray | None = None,
    ) -> None: ...


class StreamTracker(MaskTracker, Protocol):
    """A tracker that works on a stream as in the node: prompts name a frame by its stamp while later ones come in."""

    @property
    def last_prompted(self) -> MaskResult | None: ...

    def encode_ahead(self, frame_rgb: NDArray[np.uint8]) -> None: ...

    def advance(self, frames: int) -> int: ...

    def add_object(
        self,
        frame_rgb: NDArray[np.uint8] | None,
        mask: NDArray | None = None,
        points: NDArray | None = None,
        labels: NDArray | None = None,
        box: NDArray | None = None,
        name: str = "",
        stamp_ns: int | None = None,
        catch_up: bool = True,
    ) -> int: ...

    def refine_object(
        self,
        object_id: int,
        frame_rgb: NDArray[np.uint8] | None = None,
        mask: NDArray | None = None,
        points: NDArray | None = None,
        labels: NDArray | None = None,
        box: NDArray | None = None,
        stamp_ns: int | None = None,
        catch_up: bool = True,
    ) -> None: ...


def mask_of(result: MaskResult | None, object_id: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The object's mask bool [H, W] in a result, empty where the result does not have it."""
    if result is not None:
        rows = np.flatnonzero(np.asarray(result.ids) == object_id)
        if rows.size:
            return np.asarray(result.masks[rows[0]], bool)
    return np.zeros(size, bool)
