"""Random designs of surgical instruments: shaft, wrist and jaws as sprites.

Lengths are in shaft diameters. A shaft ends at x = 0 and comes from negative x; wrist parts and jaws start at x = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_ros.data.arrays import ByteArray, FloatArray
from sam2s_ros.data.sprites import BRIGHT_STEEL, Metal, Sprite, make_sprite, metal_part, random_metal, smear

SHAFT_LENGTH = 18.0
SHAFT_DENSITY = (14.0, 44.0)  # pixels per diameter along and across
JAW_KINDS = (
    "needle driver",
    "grasper",
    "fenestrated grasper",
    "maryland",
    "scissors",
    "bipolar",
    "clip applier",
    "stapler",
    "hook",
    "spatula",
    "suction",
)
_KIND_WEIGHTS = np.array([0.24, 0.15, 0.15, 0.11, 0.08, 0.07, 0.05, 0.03, 0.04, 0.03, 0.05])


@dataclass(frozen=True)
class InstrumentDesign:
    """What one instrument is made of."""

    kind: str
    shaft: Sprite
    wrist: tuple[Sprite, ...]  # from the shaft to the jaws
    wrist_lengths: tuple[float, ...]
    jaws: tuple[Sprite, ...]  # one (rigid tip) or two
    jaw_length: float
    max_opening: float  # radians between the jaws
    max_bend: float  # radians at each wrist joint


def random_design(rng: np.random.Generator, da_vinci: bool = False) -> InstrumentDesign:
    """Draw one design; `da_vinci` asks for a dark shaft with a bright wrist and short strong jaws."""
    if da_vinci:
        kind = str(
            rng.choice(["needle driver", "grasper", "bipolar", "fenestrated grasper"], p=[0.6, 0.2, 0.1, 0.1])
        )
    else:
        kind = str(rng.choice(JAW_KINDS, p=_KIND_WEIGHTS / _KIND_WEIGHTS.sum()))
    steel = rng.random() < (0.6 if da_vinci else 0.25)
    metal = BRIGHT_STEEL if steel else random_metal(rng)
    robotic = da_vinci or (kind != "suction" and rng.random() < 0.5)
    wrist, lengths = robotic_wrist(rng, metal) if robotic else plain_wrist(rng, metal, kind)
    jaws, jaw_length = _jaws(rng, kind, metal)
    return InstrumentDesign(
        kind=kind,
        shaft=shaft_sprite(
            rng, (0.55, 0.4, 0.05) if da_vinci else ROBOTIC_SHAFTS if robotic else PLAIN_SHAFTS
        ),
        wrist=wrist,
        wrist_lengths=lengths,
        jaws=jaws,
        jaw_length=jaw_length,
        max_opening=float(rng.uniform(0.5, 1.5)),
        max_bend=float(rng.uniform(0.5, 1.3)) if robotic else 0.0,
    )


# Shares of black, dark grey, steel, blue, ivory and other shafts.
ROBOTIC_SHAFTS = (0.48, 0.3, 0.14, 0.02, 0.04, 0.02)
PLAIN_SHAFTS = (0.3, 0.18, 0.36, 0.04, 0.08, 0.04)


def _shaft_base(
    rng: np.random.Generator, weights: tuple[float, ...]
) -> tuple[FloatArray, float, float, float]:
    """Base colour, diffuse share, highlight strength and its half width of a shaft."""
    material = rng.choice(len(weights), p=weights)
    if material == 0:  # black matte
        return rng.uniform(14, 46) + rng.normal(0, 3, 3), 0.6, rng.uniform(10, 70), rng.uniform(0.15, 0.5)
    if material == 1:  # dark grey
        return rng.uniform(45, 95) + rng.normal(0, 4, 3), 0.7, rng.uniform(10, 80), rng.uniform(0.1, 0.45)
    if material == 2:  # brushed steel
        return rng.uniform(95, 180) + rng.normal(0, 5, 3), 0.85, rng.uniform(50, 150), rng.uniform(0.06, 0.3)
    if material == 3:  # blue plastic
        return (
            np.array([40, 75, 140]) * rng.uniform(0.5, 1.4),
            0.7,
            rng.uniform(10, 90),
            rng.uniform(0.1, 0.3),
        )
    if material == 4:  # white or ivory plastic
        return (
            np.array([215, 208, 190]) * rng.uniform(0.7, 1.1),
            0.6,
            rng.uniform(0, 50),
            rng.uniform(0.1, 0.4),
        )
    hue = np.array([[60, 110, 70], [140, 90, 40], [110, 60, 100], [150, 140, 60]])[rng.integers(4)]
    return hue * rng.uniform(0.6, 1.2), 0.7, rng.uniform(10, 80), rng.uniform(0.1, 0.3)


def shaft_sprite(rng: np.random.Generator, weights: tuple[float, ...]) -> Sprite:
    """A long cylinder with shading across, light falloff along, bands, rings and lettering."""
    dense_x, dense_y = SHAFT_DENSITY
    width = int(SHAFT_LENGTH * dense_x)
    pad = 2
    height = int(dense_y) + 2 * pad
    base, diffuse, shine, half_width = _shaft_base(rng, weights)
    u = ((np.arange(height, dtype=np.float32) + 0.5 - pad) / dense_y) * 2.0 - 1.0
    normal = np.sqrt(np.clip(1.0 - u * u, 0.0, 1.0))
    centre = rng.normal(0.0, 0.3)
    facing = np.clip(normal * np.cos(centre) + u * np.sin(centre), 0, 1)
    profile = (1 - diffuse) + diffuse * facing ** rng.uniform(0.6, 1.8)
    glint = shine * np.exp(-(((u - centre) / half_width) ** 2))
    if rng.random() < 0.4:
        glint = glint + 0.6 * shine * np.exp(-(((u - rng.uniform(-0.8, 0.8)) / 0.12) ** 2))
    tint = 1.0 + rng.normal(0, 0.04, 3)
    albedo = np.broadcast_to(np.asarray(base, np.float32), (height, width, 3)).copy()
    _decorate_shaft(rng, albedo)
    along = np.interp(np.arange(width), np.linspace(0, width, 7), rng.uniform(0.65, 1.25, 7)).astype(
        np.float32
    )
    colour = albedo * profile[:, None, None] * along[None, :, None]
    sparkle = np.interp(np.arange(width), np.linspace(0, width, 9), rng.uniform(0.1, 1.2, 9))
    colour = colour + (glint[:, None] * sparkle[None])[..., None] * tint
    if rng.random() < 0.5:  # tissue colour mirrored along one edge
        edge = np.clip(np.sign(rng.normal()) * u, 0, 1) ** 2 * rng.uniform(0.05, 0.35)
        colour += edge[:, None, None] * (rng.uniform([120, 50, 40], [210, 130, 110]) * 0.6 - 0.3 * colour)
    colour *= 1.0 + rng.uniform(0, 0.06) * rng.normal(0, 1, (height, width, 1))
    smear(rng, colour, chance=0.12)
    alpha = np.clip((1.0 - np.abs(u)) * dense_y * 0.5 + 0.5, 0, 1)
    rgba = np.concatenate([colour, np.broadcast_to(alpha[:, None, None], (height, width, 1))], axis=-1)
    return make_sprite(rgba.astype(np.float32), (-SHAFT_LENGTH, -0.5 - pad / dense_y), SHAFT_DENSITY)


def _decorate_shaft(rng: np.random.Generator, albedo: FloatArray) -> None:
    """Rings, bands, a metal end and lettering, drawn into albedo [h, w, 3] (the tip end is at the right)."""
    height, width = albedo.shape[:2]
    dense = SHAFT_DENSITY[0]
    if rng.random() < 0.5:  # collar at the end, darker or brighter than the shaft
        end = int(rng.uniform(0.15, 1.4) * dense)
        albedo[:, width - end :] = rng.uniform(20, 210) * (1 + rng.normal(0, 0.04, 3))
        albedo[:, width - end - 1 : width - end] *= 0.4
    for _ in range(int(rng.integers(0, 4))):
        at = width - int(rng.uniform(0.2, 8) * dense)
        thickness = max(1, int(rng.exponential(0.25) * dense))
        albedo[:, max(0, at - thickness) : at] = (
            rng.uniform(10, 230) if rng.random() < 0.7 else rng.uniform([30, 30, 30], [220, 200, 200])
        )
    if rng.random() < 0.3:  # lettering along the shaft, drawn at equal scale and then squeezed
        letters = "".join(rng.choice(list("ABCDEHILMNORSTU0123456789 "), int(rng.integers(3, 10))))
        strip: ByteArray = np.zeros((height, int(4 * height)), np.uint8)
        cv2.putText(
            strip, letters, (4, height // 2 + 8), cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.5, 1.0), 255, 2
        )
        strip = cv2.resize(strip, (int(4 * dense * 1.1), height), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            strip = strip[:, ::-1]
        at = int(rng.uniform(0.35, 0.75) * width)
        room = albedo[:, at : at + strip.shape[1]]
        ink = strip[:, : room.shape[1], None] * rng.uniform(0.002, 0.004)
        room += ink * ((20.0 if albedo.mean() > 100 else 210.0) - room)


def trapezoid(length: float, start: float, end: float) -> FloatArray:
    """Outline of a tapering segment with slightly rounded ends; widths are full widths."""
    s, e = start / 2, end / 2
    return np.array(
        [[-0.08, -0.8 * s], [0.0, -s], [length * 0.9, -e], [length, -0.7 * e], [length, 0.7 * e], [length * 0.9, e],
         [0.0, s], [-0.08, 0.8 * s]],
        np.float32,
    )  # fmt: skip


def robotic_wrist(rng: np.random.Generator, metal: Metal) -> tuple[tuple[Sprite, ...], tuple[float, ...]]:
    """Two clevis segments with pulleys, screws, slots and cables."""
    sprites, lengths = [], []
    width = float(rng.uniform(0.8, 1.0))
    for segment in range(2):
        length = float(rng.uniform(0.55, 1.3))
        end = width * float(rng.uniform(0.7, 1.0))
        dots = [(length * float(rng.uniform(0.75, 0.95)), 0.0, float(rng.uniform(0.06, 0.2)))]
        if rng.random() < 0.5:
            dots.append(
                (
                    float(rng.uniform(0.1, 0.4)) * length,
                    float(rng.normal(0, 0.15)),
                    float(rng.uniform(0.04, 0.12)),
                )
            )
        holes = []
        if rng.random() < 0.45:  # the slot between the clevis arms
            inner = length * float(rng.uniform(0.3, 0.6))
            half = width * float(rng.uniform(0.06, 0.2))
            holes.append(
                np.array(
                    [[inner, -half], [length + 0.05, -half], [length + 0.05, half], [inner, half]], np.float32
                )
            )
            dots = dots[1:]
        grooves = []
        for _ in range(int(rng.integers(0, 4))):
            if rng.random() < 0.5:
                x = float(rng.uniform(0, length))
                grooves.append(np.array([[x, -width], [x + rng.normal(0, 0.1), width]], np.float32))
            else:  # cable
                y = rng.uniform(-0.4, 0.4, 2) * width
                grooves.append(np.array([[0, y[0]], [length, y[1]]], np.float32))
        own = metal if rng.random() < 0.8 else random_metal(rng)
        sprites.append(
            metal_part(
                rng, trapezoid(length, width, end), own, holes, grooves, dots, float(rng.uniform(0.08, 0.35)),
                float(rng.uniform(0, 0.8)), open_holes=False,
            )
        )  # fmt: skip
        lengths.append(length * 0.88)
        width = end * float(rng.uniform(0.8, 1.0))
        if segment == 0 and rng.random() < 0.2:
            break
    return tuple(sprites), tuple(lengths)


def plain_wrist(
    rng: np.random.Generator, metal: Metal, kind: str
) -> tuple[tuple[Sprite, ...], tuple[float, ...]]:
    """A short metal neck of a straight laparoscopic instrument, or nothing."""
    if kind == "suction" or rng.random() < 0.25:
        return (), ()
    length = float(rng.uniform(0.3, 1.4))
    outline = trapezoid(length, float(rng.uniform(0.8, 1.0)), float(rng.uniform(0.5, 0.9)))
    dots = [(length * 0.7, 0.0, float(rng.uniform(0.08, 0.18)))] if rng.random() < 0.6 else []
    sprite = metal_part(rng, outline, metal, None, None, dots, 0.2, float(rng.uniform(0.3, 1.0)))
    return (sprite,), (length * 0.9,)


def _jaws(rng: np.random.Generator, kind: str, metal: Metal) -> tuple[tuple[Sprite, ...], float]:
    """One or two jaws of a kind, and their length."""
    if kind in ("hook", "spatula", "suction"):
        return rigid_tip(rng, kind, metal)
    length, base, tip, curve = {
        "needle driver": (rng.uniform(0.7, 1.6), rng.uniform(0.3, 0.5), rng.uniform(0.2, 0.4), 0.0),
        "grasper": (rng.uniform(1.2, 2.4), rng.uniform(0.25, 0.45), rng.uniform(0.15, 0.35), 0.0),
        "fenestrated grasper": (rng.uniform(1.5, 2.8), rng.uniform(0.35, 0.5), rng.uniform(0.25, 0.45), 0.0),
        "maryland": (
            rng.uniform(1.4, 2.4),
            rng.uniform(0.25, 0.4),
            rng.uniform(0.08, 0.15),
            rng.uniform(0.1, 0.5),
        ),
        "scissors": (
            rng.uniform(1.3, 2.4),
            rng.uniform(0.2, 0.4),
            rng.uniform(0.04, 0.12),
            rng.uniform(0.0, 0.4),
        ),
        "bipolar": (
            rng.uniform(1.4, 2.4),
            rng.uniform(0.2, 0.4),
            rng.uniform(0.1, 0.25),
            rng.uniform(0.0, 0.2),
        ),
        "clip applier": (rng.uniform(1.0, 1.8), rng.uniform(0.2, 0.35), rng.uniform(0.2, 0.35), 0.0),
        "stapler": (rng.uniform(3.0, 5.5), rng.uniform(0.45, 0.55), rng.uniform(0.3, 0.5), 0.0),
    }[kind]
    jaw_metal = metal if rng.random() < 0.7 else random_metal(rng)
    sprites = []
    bend = float(curve) * float(rng.choice([-1, 1]))
    toothed = kind in ("grasper", "fenestrated grasper", "needle driver") and rng.random() < 0.6
    window = (rng.uniform(0.3, 0.45), rng.uniform(0.75, 0.9)) if kind == "fenestrated grasper" else None
    for side in (1.0, -1.0):
        outline, holes, grooves = _jaw_outline(
            rng, float(length), float(base), float(tip), bend, toothed, window
        )
        mirror = np.array([1.0, side], np.float32)
        if side < 0:
            outline, holes, grooves = _jaw_outline(
                rng, float(length), float(base), float(tip), -bend, toothed, window
            )
        dots = [(0.0, 0.0, float(rng.uniform(0.05, 0.14)))]
        sprites.append(
            metal_part(
                rng, outline * mirror, jaw_metal, [h * mirror for h in holes], [g * mirror for g in grooves], dots,
                float(rng.uniform(0.08, 0.3)),
            )
        )  # fmt: skip
    return tuple(sprites), float(length)


def _jaw_outline(
    rng: np.random.Generator,
    length: float,
    base: float,
    tip: float,
    bend: float,
    toothed: bool,
    window: tuple[float, float] | None,
) -> tuple[FloatArray, list[FloatArray], list[FloatArray]]:
    """Outline, holes and grooves of the jaw at positive y whose gripping face lies on y = 0."""
    t = np.linspace(0, 1, 14, dtype=np.float32)
    sweep = bend * t**2 * length * 0.5
    outer = (base + (tip - base) * t ** rng.uniform(0.6, 1.6)) * np.sqrt(np.clip(1.0 - t**8, 0.0, 1.0)) + 0.01
    inner_t = np.linspace(1, 0, 28, dtype=np.float32)
    teeth = 0.05 * (np.arange(28) % 2) * float(toothed)
    outer_line = np.stack([t * length, sweep + outer], axis=1)
    inner_line = np.stack([inner_t * length, bend * inner_t**2 * length * 0.5 + teeth], axis=1)
    hub = np.array([[-0.2, -0.05], [-0.25, base * 0.5], [-0.15, base * 0.9]], np.float32)
    outline = np.concatenate([outer_line, inner_line, hub]).astype(np.float32)
    holes = []
    if window is not None:
        x = np.linspace(window[0], window[1], 8) * length
        mid = (base + (tip - base) * x / length) / 2
        half = mid * rng.uniform(0.35, 0.6) * np.sqrt(np.sin(np.linspace(0.15, np.pi - 0.15, 8)))
        ring = [np.stack([x, mid + half], 1), np.stack([x[::-1], mid[::-1] - half[::-1]], 1)]
        holes.append(np.concatenate(ring).astype(np.float32))
    grooves = []
    if rng.random() < 0.4:
        for at in np.arange(0.25, length * 0.95, rng.uniform(0.1, 0.25)):
            grooves.append(np.array([[at, 0.0], [at, base * rng.uniform(0.2, 0.6)]], np.float32))
    return outline, holes, grooves


def rigid_tip(rng: np.random.Generator, kind: str, metal: Metal) -> tuple[tuple[Sprite, ...], float]:
    """Hook, spatula or suction tip: one part, no opening."""
    if kind == "hook":
        reach, thick, drop = rng.uniform(0.8, 2.0), rng.uniform(0.12, 0.25), rng.uniform(0.4, 0.9)
        h = thick / 2
        outline = np.array(
            [[-0.1, -h], [reach, -h], [reach, drop], [reach - thick, drop], [reach - thick, h], [-0.1, h]],
            np.float32,
        )
    elif kind == "spatula":
        reach, h = rng.uniform(1.0, 2.4), rng.uniform(0.12, 0.35)
        outline = np.array(
            [[-0.1, -0.1], [0.3 * reach, -0.1], [0.45 * reach, -h], [0.92 * reach, -h], [reach, 0.0],
             [0.92 * reach, h], [0.45 * reach, h], [0.3 * reach, 0.1], [-0.1, 0.1]],
            np.float32,
        )  # fmt: skip
    else:
        reach = rng.uniform(0.8, 3.5)
        outline = trapezoid(float(reach), float(rng.uniform(0.7, 1.0)), float(rng.uniform(0.5, 0.95)))
    dots = []
    if kind == "suction":
        dots = [(float(x), float(rng.normal(0, 0.15)), 0.08) for x in np.arange(0.3, reach, 0.4)]
    round_across = 1.0 if kind == "suction" else 0.2
    sprite = metal_part(rng, outline, metal, None, None, dots, 0.12, round_across)
    return (sprite,), float(reach)
