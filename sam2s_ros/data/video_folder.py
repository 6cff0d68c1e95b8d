"""One video of the project's own layout (`docs/data.md`): a folder of frames, of label images, and `video.json`.

    VIDEO/video.json
    VIDEO/frames/000225.jpg    the number is the frame's time in steps of 1 / frame_rate
    VIDEO/masks/000225.png     label image of the frame with that number: masklet ids, 0 for none

A frame without a label image has not been labelled; one with an empty label image shows none of the masklets.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2s_ros.data.json_files import entry, read_object
from sam2s_ros.data.png_file import require_whole

VIDEO_FILE = "video.json"
FORMAT = 1
SPLIT_NAMES = ("train", "val", "test", "unused")
"""`unused` is data that the benchmark neither trains nor tests on, such as further sequences of a test set."""
KINDS = ("instrument", "tissue", "other")
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")
LARGEST_ID = 65535


@dataclass(frozen=True)
class Masklet:
    """One object of a video; its id is the same in every label image of the video."""

    id: int
    class_name: str
    """A class of the instrument bank, or "" where the bank has none for it."""
    source_class: str
    """What the data set calls it."""
    kind: str
    """One of KINDS."""

    @property
    def name(self) -> str:
        """The class with the id, unique within the video."""
        return f"{self.class_name or self.source_class or 'object'} {self.id}"


@dataclass(frozen=True)
class VideoFacts:
    """What `video.json` says. ValueError names a value that cannot be."""

    dataset: str
    """Name of the data set, as `sam2s data convert` spells it."""
    split: str
    """One of SPLIT_NAMES."""
    procedure: str
    frame_rate: float
    """Numbers of frames per second: frame 225 at 25 is shown 9 s after frame 0."""
    size: tuple[int, int]
    """Width and height of every frame, pixels; (0, 0) for stills, which may differ."""
    frames: int
    licence: str
    identities: str
    """How ids came about: `source` (the data set has them) or `linked` (`data/linking.py` made them)."""
    masklets: tuple[Masklet, ...]
    stills: bool = False
    """The frames are images that have nothing to do with one another; an id says a class and a place within its image
    only."""
    prompt_area: float = 0.0
    """Share of the image that an object covers when a tracker is first shown it; 0 is one pixel."""
    skipped: tuple[str, ...] = ()
    """Files of the source that were left out, each with the reason."""

    def __post_init__(self) -> None:
        if self.split not in SPLIT_NAMES:
            raise ValueError(f"split is {self.split!r}; use one of {', '.join(SPLIT_NAMES)}")
        if not (math.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise ValueError(f"frame_rate is {self.frame_rate}; give frames per second above 0")

    @property
    def names(self) -> dict[int, str]:
        """Masklet id -> its name."""
        return {masklet.id: masklet.name for masklet in self.masklets}


@dataclass(frozen=True)
class VideoFolder:
    """A video on disk. `frames` and `masks` list by number, in order; they read folders, not images."""

    path: Path
    facts: VideoFacts

    @property
    def name(self) -> str:
        return self.path.name

    def frames(self) -> dict[int, Path]:
        """Frame number -> image. ValueError: a name is no number, or two files have the same."""
        return numbered(self.path / "frames", FRAME_SUFFIXES)

    def masks(self) -> dict[int, Path]:
        """Frame number -> label image, of the frames that are labelled."""
        return numbered(self.path / "masks", (".png",))


def read_video(path: Path) -> VideoFolder:
    """The video in a folder.

    Raises:
        FileNotFoundError: there is no `video.json`.
        OSError: it cannot be read.
        ValueError: it is not what this layout has, and which entry is wrong.
    """
    file = path / VIDEO_FILE
    raw = read_object(file)
    if raw.pop("format", None) != FORMAT:
        raise ValueError(f"{file}: format is not {FORMAT}")
    unknown = set(raw) - {field.name for field in fields(VideoFacts)}
    if unknown:
        raise ValueError(f"{file}: unknown entries {', '.join(sorted(unknown))}")
    where = f"{file}"
    size, skipped = entry(raw, "size", list, where), entry({"skipped": [], **raw}, "skipped", list, where)
    if len(size) != 2 or any(type(one) is not int or one < 0 for one in size):
        raise ValueError(f"{file}: size is {size!r}; two whole numbers are needed, width and height")
    try:
        facts = VideoFacts(
            dataset=entry(raw, "dataset", str, where),
            split=entry(raw, "split", str, where),
            procedure=entry(raw, "procedure", str, where),
            frame_rate=entry(raw, "frame_rate", float, where),
            size=(size[0], size[1]),
            frames=entry(raw, "frames", int, where),
            licence=entry(raw, "licence", str, where),
            identities=entry(raw, "identities", str, where),
            masklets=tuple(_read_masklet(one, where) for one in entry(raw, "masklets", list, where)),
            stills=entry({"stills": False, **raw}, "stills", bool, where),
            prompt_area=entry({"prompt_area": 0.0, **raw}, "prompt_area", float, where),
            skipped=tuple(str(text) for text in skipped),
        )
    except ValueError as error:
        raise ValueError(str(error) if where in str(error) else f"{file}: {error}") from None
    return VideoFolder(path, facts)


def _read_masklet(raw: Any, file: str) -> Masklet:
    where = f"{file}: a masklet"
    masklet = Masklet(
        entry(raw, "id", int, where),
        entry(raw, "class", str, where),
        entry({"source_class": "", **raw}, "source_class", str, where),
        entry(raw, "kind", str, where),
    )
    if not 1 <= masklet.id <= LARGEST_ID:
        raise ValueError(f"{where} has the id {masklet.id}; use 1 to {LARGEST_ID}")
    if masklet.kind not in KINDS:
        raise ValueError(f"{where}, {masklet.id}, is of kind {masklet.kind!r}; use one of {', '.join(KINDS)}")
    return masklet


def write_video_facts(path: Path, facts: VideoFacts) -> None:
    """Write `video.json` into the folder `path`."""
    raw: dict[str, Any] = {"format": FORMAT, **asdict(facts)}
    raw["masklets"] = [
        {"id": one.id, "class": one.class_name, "source_class": one.source_class, "kind": one.kind}
        for one in facts.masklets
    ]
    (path / VIDEO_FILE).write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def find_videos(root: Path) -> Iterator[Path]:
    """Folders with a `video.json` at or below `root`, in the order of their paths; hidden folders are left out.

    Raises:
        FileNotFoundError: `root` is not a folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    if (root / VIDEO_FILE).exists():
        yield root
        return
    for child in sorted(root.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            yield from find_videos(child)


def numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """The files of a folder by their numbers, in increasing order; nothing where there is no folder.

    Raises:
        ValueError: it is no folder, a file has no plain number as its name, or two have the same.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in suffixes:
            continue
        if not re.fullmatch(r"\d+", path.stem):
            raise ValueError(f"{path}: the name of a frame is its number, such as 000225{path.suffix}")
        other = found.setdefault(int(path.stem), path)
        if other is not path:
            raise ValueError(f"{other} and {path} have the same frame number")
    return dict(sorted(found.items()))


def load_image(path: Path) -> Image.Image:
    """An image, decoded as a whole, in the mode in which it is stored.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is no image, is cut off, or is a PNG with a wrong checksum.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}") from None
    require_whole(data, path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return image
    except Image.UnidentifiedImageError:
        raise OSError(f"{path} is no image, or cut off: its format is not known") from None
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise OSError(f"{path} is no image, or cut off: {' '.join(str(error).split())}") from None


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) that an image says it has; it is not decoded. OSError: it cannot be opened."""
    try:
        with Image.open(path) as image:
            return image.size
    except (SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise OSError(f"{path} is no image, or cut off: {' '.join(str(error).split())}") from None


def read_index(path: Path) -> NDArray[np.integer[Any]]:
    """A label image as indices [H, W], uint8 or uint16: of a palette, grey, or colours whose channels are equal.

    Raises:
        OSError: the file is no image, or is cut off.
        ValueError: its channels differ, or its values are no whole numbers of 8 or 16 bits.
    """
    return index_values(load_image(path), path)


def index_values(image: Image.Image, path: Path) -> NDArray[np.integer[Any]]:
    """What `read_index` gives, of an image that is loaded; `path` is named in errors."""
    labels = np.asarray(image)
    if labels.ndim == 3 and (labels[..., 1:3] == labels[..., :1]).all():
        labels = labels[..., 0]
    if labels.dtype == np.int32 and labels.size and labels.min() >= 0 and labels.max() <= LARGEST_ID:
        labels = labels.astype(np.uint16)
    if labels.dtype == np.bool_:
        labels = labels.astype(np.uint8)
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path} is no label image: one channel of 8 or 16 bits (or a palette) is needed")
    return labels


def write_index(path: Path, ids: NDArray[np.integer[Any]]) -> None:
    """Write ids [H, W] as a PNG with the palette of DAVIS, or as 16-bit grey where an id is above 255."""
    if ids.size and int(ids.max()) > 255:
        Image.fromarray(ids.astype(np.uint16)).save(path, compress_level=3)
        return
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(palette())
    image.save(path, compress_level=3)


def palette() -> list[int]:
    """RGB bytes [768] of the PASCAL VOC colour map, which DAVIS uses: the bits of the index, spread over colours."""
    colours = []
    for index in range(256):
        for channel in range(3):
            bits = [(index >> (3 * level + channel)) & 1 for level in range(3)]
            colours.append(sum(bit << (7 - level) for level, bit in enumerate(bits)))
    return colours
