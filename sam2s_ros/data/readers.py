"""Lazy readers of the public data sets: frame paths in temporal order, frames and label images on request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray
from sam2s_ros.data.png_file import require_whole
from sam2s_ros.data.video_folder import read_index

VOCALFOLDS_CLASSES: dict[int, str] = {
    1: "vocal folds",
    2: "other tissue",
    3: "glottal space",
    4: "pathology",
    5: "surgical tool",
    6: "intubation tube",
}


@dataclass(frozen=True)
class LabelledSequence:
    """A video whose frames have label images."""

    name: str
    frame_paths: tuple[Path, ...]
    label_paths: tuple[Path, ...]
    classes: dict[int, str]  # label value -> class name

    def __len__(self) -> int:
        return len(self.frame_paths)

    def frame(self, index: int) -> ByteArray:
        """Frame uint8 RGB [H, W, 3]."""
        return read_rgb(self.frame_paths[index])

    def labels(self, index: int) -> ByteArray:
        """Label image uint8 [H, W]; 0 is background or void.

        Raises:
            OSError: the file is no image, is cut off or damaged.
            ValueError: it has values that are none of `classes`; or it is no label image.
        """
        path = self.label_paths[index]
        labels = read_index(path)
        if set(self.classes) == {1}:
            labels = np.where(labels == 255, 1, labels)
        unknown = [value for value in np.flatnonzero(np.bincount(labels.ravel())).tolist() if value]
        unknown = [value for value in unknown if value not in self.classes]
        if unknown:
            raise ValueError(f"{path}: no meaning is known for the values {unknown}")
        return labels.astype(np.uint8)

    def frame_number(self, index: int) -> int:
        """The number in the frame's file name."""
        return _number(self.frame_paths[index])


def read_rgb(path: Path) -> ByteArray:
    """Read a picture as uint8 RGB [H, W, 3].

    Raises:
        ValueError: there is no such file, or it is no picture that OpenCV can read.
        OSError: it is a PNG that is cut off or damaged.
    """
    data = path.read_bytes() if path.is_file() else b""
    require_whole(data, path)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise ValueError(f"{path} is not a picture that OpenCV can read")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _number(path: Path) -> int:
    found = re.match(r"\d+", path.stem)
    if found is None:
        raise ValueError(f"{path.name}: a frame's file name must start with its number")
    return int(found.group())


def _paired(name: str, frames: Path, labels: Path, classes: dict[int, str]) -> LabelledSequence:
    """Pair frames with label images of the same number, in the order of the numbers."""
    if not frames.is_dir() or not labels.is_dir():
        missing = frames if not frames.is_dir() else labels
        raise FileNotFoundError(f"{missing} does not exist; pass the folder that holds the data set")
    by_number = {_number(path): path for path in labels.glob("*.png")}
    paths = sorted(frames.glob("*.jpg"), key=_number)
    paired = [(path, by_number[_number(path)]) for path in paths if _number(path) in by_number]
    if not paired:
        raise FileNotFoundError(f"{frames} and {labels} have no frame number in common")
    return LabelledSequence(name, tuple(p for p, _ in paired), tuple(q for _, q in paired), classes)


def read_vocalfolds_sequence(root: Path, patient: int, sequence: int) -> LabelledSequence:
    """Sequence of the vocalfolds data set; `root` holds `img/` and `annot/`. Labels are its classes 0 to 6."""
    folder = f"patient{patient}/seq{sequence}"
    return _paired(
        f"vocalfolds {folder}", Path(root) / "img" / folder, Path(root) / "annot" / folder, VOCALFOLDS_CLASSES
    )


def read_davis_sequence(root: Path, name: str) -> LabelledSequence:
    """Video of DAVIS 2016; `root` holds `JPEGImages/480p` and `Annotations/480p`. Label 1 is the object."""
    frames, labels = Path(root) / "JPEGImages/480p" / name, Path(root) / "Annotations/480p" / name
    return _paired(f"davis {name}", frames, labels, {1: name})


def davis_names(root: Path) -> list[str]:
    """Names of the DAVIS videos under `root`."""
    return sorted(path.name for path in (Path(root) / "JPEGImages/480p").iterdir() if path.is_dir())
