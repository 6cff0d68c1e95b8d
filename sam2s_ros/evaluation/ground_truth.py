"""Which label image of a folder belongs to which image of a stream.

The rule: with as many label images as images, the first belongs to the first and so on, in the order of the numbers in
their names. With another count, the number in each name must be the stamp in ns of its image, and each must find one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam2s_ros.evaluation.sequences import numbered_files, read_labels


class FolderTruth:
    """Label images of a folder, read when their image comes; images are to be asked for once each, in order."""

    def __init__(self, folder: Path, images: int, source: Path) -> None:
        """`images`: how many the stream has; `source`: whose they are, for messages.

        Raises:
            FileNotFoundError: the folder is missing or holds no PNG.
            ValueError: a name has no number.
        """
        self._folder, self._images, self._source = folder, images, source
        self._files = numbered_files(folder, frozenset({".png"}))
        self._by_order = len(self._files) == images
        self._in_order = iter(self._files.values())
        self._matched = 0

    def labels(self, stamp_ns: int, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Labels uint8 [H, W] of the next image, None where it has none; ValueError for those of another size."""
        path = next(self._in_order, None) if self._by_order else self._files.get(stamp_ns)
        if path is None:
            return None
        self._matched += 1
        labels = read_labels(path)
        require_size(labels, size, str(path), f"the image stamped {stamp_ns} ns of {self._source}")
        return labels

    def require_all_matched(self) -> None:
        """Raise ValueError unless each label image had its image; to be called after the last one."""
        if self._matched != len(self._files):
            raise ValueError(
                f"{self._folder} holds {len(self._files)} label images and {self._source} {self._images} images: give "
                "as many label images as images, or name each by the stamp of its image in ns "
                f"({self._matched} of the names are)"
            )


def require_size(labels: NDArray[np.uint8], size: tuple[int, int], truth: str, image: str) -> None:
    """ValueError unless labels [H, W] have the size (height, width) of their image; both are named in the message."""
    if labels.shape != size:
        raise ValueError(
            f"ground truth of another size: {truth} is {labels.shape[1]}x{labels.shape[0]}, "
            f"{image} is {size[1]}x{size[0]} pixels"
        )
