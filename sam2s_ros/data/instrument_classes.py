"""Instruments by class: the jaws and the wrist say which class it is, the shaft is shared.

Class names are those of the SAM2S paper's list. Lengths are in shaft diameters, as in `instrument_parts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sam2s_ros.data.arrays import FloatArray
from sam2s_ros.data.instrument_parts import (
    PLAIN_SHAFTS,
    ROBOTIC_SHAFTS,
    InstrumentDesign,
    plain_wrist,
    rigid_tip,
    robotic_wrist,
    shaft_sprite,
    trapezoid,
)
from sam2s_ros.data.sprites import Metal, Sprite, metal_part

Colour = tuple[float, float, float]
Span = tuple[float, float]

STEEL: Colour = (1.0, 1.0, 1.0)
GOLD: Colour = (1.0, 0.82, 0.48)
DARK: Colour = (0.42, 0.43, 0.46)


@dataclass(frozen=True)
class JawShape:
    """Two mirrored jaws. Widths are those of one jaw, from the gripping face outwards."""

    length: Span
    profile: tuple[tuple[float, float], ...]  # (share of the length, width), from the joint to the tip
    bend: Span = (0.0, 0.0)  # how far both tips lie to one side
    teeth: float = 0.0  # depth
    window: Span | None = None  # share of the length where the fenestration begins and ends
    gap: float = 0.0  # space between the closed jaws in their middle
    hook: float = 0.0  # how far the tips turn inwards
    tint: Colour = STEEL
    opening: Span = (0.6, 1.2)  # largest angle between the jaws, radians


@dataclass(frozen=True)
class ClassLook:
    """How instruments of one class look: two jaws, or the rigid tip of this name; a sleeve may hide the wrist."""

    jaws: JawShape | None = None
    tip: str = ""
    sleeve: Colour | None = None


LOOKS: dict[str, ClassLook] = {
    "grasper": ClassLook(
        JawShape((1.7, 2.2), ((0, 0.3), (0.3, 0.34), (0.85, 0.32), (1, 0.1)), teeth=0.07, opening=(0.8, 1.3))
    ),
    "prograsp forceps": ClassLook(
        JawShape((2.0, 2.5), ((0, 0.3), (0.35, 0.5), (0.85, 0.5), (1, 0.2)), window=(0.32, 0.86))
    ),
    "scissors": ClassLook(
        JawShape((2.1, 2.7), ((0, 0.36), (0.3, 0.28), (1, 0.03)), tint=DARK, opening=(0.8, 1.4))
    ),
    "monopolar scissors": ClassLook(
        JawShape((1.3, 1.7), ((0, 0.3), (0.5, 0.22), (1, 0.03)), bend=(0.3, 0.6), opening=(0.7, 1.2)),
        sleeve=(0.86, 0.5, 0.2),
    ),
    "hook": ClassLook(tip="hook", sleeve=(0.95, 0.92, 0.84)),
    "needle driver": ClassLook(
        JawShape((0.9, 1.2), ((0, 0.46), (0.5, 0.44), (1, 0.3)), teeth=0.04, opening=(0.5, 0.9))
    ),
    "bipolar forceps": ClassLook(
        JawShape((2.1, 2.8), ((0, 0.26), (0.5, 0.17), (1, 0.08)), gap=0.14, tint=GOLD, opening=(0.5, 1.0)),
        sleeve=(0.3, 0.45, 0.75),
    ),
    "clip applier": ClassLook(
        JawShape(
            (1.5, 1.9), ((0, 0.3), (0.5, 0.2), (0.85, 0.22), (1, 0.16)), gap=0.2, hook=0.22, opening=(0.3, 0.7)
        )
    ),
    "suction": ClassLook(tip="suction"),
    "vessel sealer": ClassLook(
        JawShape(
            (2.6, 3.3), ((0, 0.44), (0.5, 0.46), (0.9, 0.4), (1, 0.2)), bend=(0.1, 0.25), tint=DARK,
            opening=(0.35, 0.6),
        ),
        sleeve=(0.5, 0.5, 0.53),
    ),
}  # fmt: skip
CLASSES: tuple[str, ...] = tuple(LOOKS)


@lru_cache(maxsize=64)
def shared_shaft(number: int, robotic: bool) -> Sprite:
    """Shaft `number`, the same every time, that all instruments of a surgery have."""
    rng = np.random.default_rng([23, number, robotic])
    return shaft_sprite(rng, ROBOTIC_SHAFTS if robotic else PLAIN_SHAFTS)


@lru_cache(maxsize=256)
def classed_design(name: str, number: int, shaft: int, robotic: bool) -> InstrumentDesign:
    """Design `number` of a class on the shared shaft `shaft`, the same every time.

    robotic: a jointed wrist instead of a rigid neck. ValueError for a class that is not in CLASSES.
    """
    if name not in LOOKS:
        raise ValueError(f"unknown instrument class {name!r}; known are {', '.join(CLASSES)}")
    look = LOOKS[name]
    rng = np.random.default_rng([19, CLASSES.index(name), number])
    metal = _tinted(rng, look.jaws.tint if look.jaws else STEEL)
    jointed = robotic and look.tip != "suction"
    wrist, lengths = (robotic_wrist if jointed else _rigid_wrist)(rng, _tinted(rng, STEEL))
    if look.tip == "suction":
        wrist, lengths = (), ()
    elif look.sleeve is not None:
        wrist, lengths = _sleeved(rng, look.sleeve, lengths)
    if look.jaws is None:
        jaws, jaw_length = rigid_tip(rng, look.tip, metal)
        opening = 0.0
    else:
        jaws, jaw_length = _jaw_pair(rng, look.jaws, metal)
        opening = float(rng.uniform(*look.jaws.opening))
    return InstrumentDesign(
        kind=name,
        shaft=shared_shaft(shaft, robotic),
        wrist=wrist,
        wrist_lengths=lengths,
        jaws=jaws,
        jaw_length=jaw_length,
        max_opening=opening,
        max_bend=float(rng.uniform(0.5, 1.1)) if jointed else 0.0,
    )


def _tinted(rng: np.random.Generator, tint: Colour) -> Metal:
    """Metal of about this tint, more or less bright and polished."""
    gain = rng.uniform(0.88, 1.05)
    return Metal(
        tint=(tint[0] * gain, tint[1] * gain, tint[2] * gain),
        dark=float(rng.uniform(55, 105)),
        bright=float(rng.uniform(215, 255)),
        contrast=float(rng.uniform(0.7, 2.0)),
        brushed=float(rng.uniform(0.0, 0.08)),
        reflection=(210.0, 130.0, 110.0),
        reflectivity=float(rng.uniform(0.0, 0.25)),
    )


def _rigid_wrist(rng: np.random.Generator, metal: Metal) -> tuple[tuple[Sprite, ...], tuple[float, ...]]:
    return plain_wrist(rng, metal, "")


def _sleeved(
    rng: np.random.Generator, colour: Colour, lengths: tuple[float, ...]
) -> tuple[tuple[Sprite, ...], tuple[float, ...]]:
    """A smooth plastic sleeve in segments of the wrist's lengths, one short segment where there is no wrist."""
    plastic = Metal(colour, 95.0, 225.0, 0.6, 0.0, (0.0, 0.0, 0.0), 0.0)
    lengths = lengths or (0.6,)
    widths = np.linspace(1.02, float(rng.uniform(0.6, 0.8)), len(lengths) + 1)
    sprites = [
        metal_part(rng, trapezoid(length / 0.88, float(widths[i]), float(widths[i + 1])), plastic, bevel=0.12,
                   round_across=1.0)
        for i, length in enumerate(lengths)
    ]  # fmt: skip
    return tuple(sprites), lengths


def _jaw_pair(rng: np.random.Generator, shape: JawShape, metal: Metal) -> tuple[tuple[Sprite, ...], float]:
    length = float(rng.uniform(*shape.length))
    width = float(rng.uniform(0.9, 1.12))
    bend = float(rng.uniform(*shape.bend)) * float(rng.choice([-1, 1]))
    bevel = float(rng.uniform(0.1, 0.25))
    sprites = []
    for side in (1.0, -1.0):
        outline, holes, grooves = _jaw_outline(shape, length, width, side * bend)
        mirror = np.array([1.0, side], np.float32)
        dots = [(0.0, 0.0, 0.1)]
        sprites.append(
            metal_part(rng, outline * mirror, metal, [h * mirror for h in holes], [g * mirror for g in grooves],
                       dots, bevel)
        )  # fmt: skip
    return tuple(sprites), length


def _jaw_outline(
    shape: JawShape, length: float, width: float, bend: float
) -> tuple[FloatArray, list[FloatArray], list[FloatArray]]:
    """Outline, holes and grooves of the jaw at positive y whose gripping face lies on y = 0."""
    count = 29
    t = np.linspace(0, 1, count, dtype=np.float32)
    at, widths = np.array(shape.profile, np.float32).T
    thickness = width * np.interp(t, at, widths)
    sweep = bend * t**2 * length * 0.5
    face = sweep + 0.5 * shape.gap * np.sin(np.pi * t) + shape.teeth * (np.arange(count) % 2)
    face = face - np.where(t > 0.9, shape.hook * (t - 0.9) / 0.1, 0.0)
    outer = np.stack([t * length, sweep + 0.5 * shape.gap * np.sin(np.pi * t) + thickness], axis=1)
    inner = np.stack([t * length, face], axis=1)[::-1]
    base = float(thickness[0])
    hub = np.array([[-0.2, -0.05], [-0.25, base * 0.5], [-0.15, base * 0.9]], np.float32)
    outline = np.concatenate([outer, inner, hub]).astype(np.float32)
    holes = []
    if shape.window is not None:
        x = np.linspace(*shape.window, 10, dtype=np.float32)
        half = 0.3 * np.interp(x, t, thickness) * np.sqrt(np.sin(np.linspace(0.12, np.pi - 0.12, 10)))
        middle = np.interp(x, t, sweep + 0.5 * thickness)
        ring = [np.stack([x * length, middle + half], 1), np.stack([x * length, middle - half], 1)[::-1]]
        holes.append(np.concatenate(ring).astype(np.float32))
    grooves = []
    if shape.teeth > 0:
        for x0 in np.arange(0.2, length * 0.9, 0.14):
            grooves.append(np.array([[x0, 0.0], [x0, 0.6 * base]], np.float32))
    return outline, holes, grooves
