"""Pictures that scenes are built on: stills from disk and procedural tissue, and how they are seen by the camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray, FloatArray
from sam2s_ros.data.motion import Camera, CoarseGrid, Deformation, apply_homography
from sam2s_ros.data.splits import KEPT_OF_A_POOL, PLATE_POOL
from sam2s_ros.data.textures import tissue_plate

STILL_HEIGHT = 400
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})


@lru_cache(maxsize=KEPT_OF_A_POOL)
def procedural_plate(number: int) -> ByteArray:
    """Procedural tissue picture `number`, uint8 RGB [400, 480, 3]; the same number gives the same picture."""
    return tissue_plate(np.random.default_rng([7, number]))


def inner_rectangle(picture: ByteArray) -> tuple[int, int, int, int]:
    """Largest simple crop (x0, y0, x1, y1) inside the round picture of an endoscope (black around it)."""
    bright = picture.max(axis=2) > 26
    columns = np.flatnonzero(bright.mean(axis=0) > 0.55)
    rows = np.flatnonzero(bright.mean(axis=1) > 0.55)
    height, width = bright.shape
    if len(columns) < width // 4 or len(rows) < height // 4:
        return 0, 0, width, height
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def load_stills(paths: list[Path]) -> list[ByteArray]:
    """Read pictures as RGB, cropped to the lit part and reduced to at most STILL_HEIGHT rows."""
    stills = []
    for path in paths:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"{path} is not a picture that OpenCV can read; delete or replace it")
        scale = STILL_HEIGHT / picture.shape[0]
        if scale < 1.0:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x0, y0, x1, y1 = inner_rectangle(picture)
        stills.append(np.ascontiguousarray(cv2.cvtColor(picture[y0:y1, x0:x1], cv2.COLOR_BGR2RGB)))
    return stills


@dataclass(frozen=True)
class TissueLibrary:
    """Pictures of tissue; an empty library falls back to procedural ones."""

    clean: tuple[ByteArray, ...] = ()  # hardly any instrument in view
    occupied: tuple[ByteArray, ...] = ()  # unlabelled instruments in view
    laryngeal: tuple[ByteArray, ...] = ()
    procedural_share: float = 0.4
    first_plate: int = 0  # procedural pictures are drawn from `plates` numbers from here on
    plates: int = PLATE_POOL

    def pick(self, rng: np.random.Generator) -> ByteArray:
        """A random picture, uint8 RGB [height, width, 3]."""
        procedural = procedural_plate(self.first_plate + int(rng.integers(self.plates)))
        choice = rng.random()
        pools = ((self.clean, 0.62), (self.laryngeal, 0.16), (self.occupied, 0.22))
        pool_choice = rng.random()
        index = rng.random()
        if choice < self.procedural_share:
            return procedural
        total = 0.0
        for pool, share in pools:
            total += share
            if pool_choice < total:
                return pool[int(index * len(pool))] if pool else procedural
        return procedural


@lru_cache(maxsize=2)
def load_tissue_library(data_root: Path | None) -> TissueLibrary:
    """Library of the training stills under `data_root`; without a root, procedural tissue only.

    Laryngeal pictures come from sequences 6 to 8 (sequence 5 is kept for validation).
    """
    if data_root is None:
        return TissueLibrary(procedural_share=1.0)
    train = Path(data_root) / "train"
    laryngeal = [
        p for s in (6, 7, 8) for p in sorted((train / f"vocalfolds/img/patient2/seq{s}").glob("*.jpg"))
    ]
    clean = sorted((train / "laparoscopy/no_instrument").glob("*.jpg"))
    if not clean:
        raise FileNotFoundError(
            f"{train / 'laparoscopy/no_instrument'} holds no *.jpg; point data_root at the data"
        )
    return TissueLibrary(
        clean=tuple(load_stills(clean)),
        occupied=tuple(load_stills(sorted((train / "laparoscopy/with_instrument").glob("*.jpg")))),
        laryngeal=tuple(load_stills(laryngeal[::3])),
    )


@lru_cache(maxsize=2)
def library_of_folder(folder: Path) -> TissueLibrary:
    """Library of the pictures in a folder and nothing else. FileNotFoundError when it holds none."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no picture; name a folder with files ending in {', '.join(sorted(PICTURE_SUFFIXES))}"
        )
    stills = tuple(load_stills(paths))
    return TissueLibrary(clean=stills, occupied=stills, laryngeal=stills, procedural_share=0.0)


def colour_shift(rng: np.random.Generator, strength: float = 1.0) -> FloatArray:
    """Random hue, saturation, brightness and contrast as an affine colour map [3, 4] for `cv2.transform`.

    Sometimes pale or nearly grey, as tissue outside the body is.
    """
    warmth, tint = rng.normal(0.0, [0.13 * strength, 0.05 * strength])
    gain = np.exp(np.array([warmth, tint, -warmth]) + rng.normal(0.0, 0.2 * strength))
    keep = float(np.clip(rng.normal(1.0, 0.25 * strength), 0.1, 1.7))
    if rng.random() < 0.2 * strength:
        keep *= float(rng.uniform(0.15, 0.6))
    matrix = (keep * np.eye(3) + (1 - keep) / 3.0) @ np.diag(gain)
    lift = rng.normal(0.0, 12.0 * strength) + (rng.uniform(10, 60) if rng.random() < 0.15 * strength else 0.0)
    return np.concatenate([matrix, np.full((3, 1), lift)], axis=1)


def recolour(rng: np.random.Generator, picture: ByteArray, strength: float = 1.0) -> ByteArray:
    """A picture, uint8 RGB, with a random colour shift; the mean brightness stays within 35 to 165."""
    shift = colour_shift(rng, strength)
    mean = float((shift[:, :3] @ picture[::8, ::8].reshape(-1, 3).mean(axis=0) + shift[:, 3]).mean())
    return cv2.transform(picture, shift * (np.clip(mean, 35.0, 165.0) / max(mean, 1.0)))


@dataclass(frozen=True)
class Plate:
    """A picture lying in tissue world coordinates."""

    picture: ByteArray
    scale: float  # picture pixels per world unit
    centre: tuple[float, float]  # picture pixel shown at the centre of the image
    aspect: float

    def pixels(self, tissue: FloatArray) -> FloatArray:
        """Picture pixels [..., 2] of tissue points [..., 2]."""
        offset = np.array([self.aspect / 2, 0.5], np.float32)
        return (tissue - offset) * self.scale + np.array(self.centre, np.float32)


def random_plate(rng: np.random.Generator, picture: ByteArray, aspect: float) -> Plate:
    """Lay a picture down so that a view of it, zoomed 1 to 2.2 times, fills the image."""
    height, width = picture.shape[:2]
    if rng.random() < 0.5:
        picture = np.ascontiguousarray(picture[:, ::-1])
    if rng.random() < 0.25:
        picture = np.ascontiguousarray(picture[::-1])
    fit = min(height, width / aspect)
    scale = fit / float(np.exp(rng.uniform(0.0, np.log(2.2))))
    slack_x, slack_y = max(0.0, width - scale * aspect) / 2, max(0.0, height - scale) / 2
    centre = (width / 2 + rng.uniform(-slack_x, slack_x), height / 2 + rng.uniform(-slack_y, slack_y))
    return Plate(picture, scale, (float(centre[0]), float(centre[1])), aspect)


def plate_maps(
    plate: Plate,
    camera: Camera,
    deformation: Deformation,
    grid: CoarseGrid,
    time: float,
    pull: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Maps (x, y) for `cv2.remap` that show the plate as the camera sees it at a time.

    `pull` [g, g, 2] is an additional displacement on the coarse grid (tissue held by instruments).
    """
    points = grid.points if pull is None else grid.points - pull
    tissue = apply_homography(camera.matrix(time, (plate.aspect / 2, 0.5)), points)
    tissue = tissue + deformation.at(tissue, time)
    return grid.upsample(plate.pixels(tissue))


def look(picture: ByteArray, maps: tuple[FloatArray, FloatArray]) -> ByteArray:
    """The picture (or mask) seen through maps; beyond its border it is mirrored."""
    return cv2.remap(picture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
