"""A synthetic surgical scene: moving tissue, instruments and other bodies in front of it, seen by a camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sam2s_ros.data.arrays import BoolArray, ByteArray, FloatArray
from sam2s_ros.data.backgrounds import Plate, TissueLibrary, look, plate_maps, random_plate, recolour
from sam2s_ros.data.effects import CameraEffects, random_effects
from sam2s_ros.data.instrument_parts import InstrumentDesign
from sam2s_ros.data.instruments import Instrument, View, pooled_design, random_instrument
from sam2s_ros.data.light_script import ScriptedEffects
from sam2s_ros.data.motion import Camera, CoarseGrid, Deformation, random_camera, random_deformation
from sam2s_ros.data.props import Blob, Strand, gauze_texture, random_blob, random_strand
from sam2s_ros.data.splits import DESIGN_POOL
from sam2s_ros.data.sprites import Layer, lay_over, scale_in_place
from sam2s_ros.data.tissue_surface import TissueSurface
from sam2s_ros.data.visits import VisitingInstrument

Body = Instrument | VisitingInstrument | Blob | Strand


@dataclass(frozen=True)
class Immersion:
    """Tissue that covers an instrument's tip now and then."""

    body: int  # index into the scene's bodies
    radius: float
    start: float
    period: float
    depth: float

    def amount(self, time: float) -> float:
        """0 (tip free) to 1 (tip covered)."""
        return float(np.clip(1.6 * np.sin((time - self.start) * 2 * np.pi / self.period), 0.0, 1.0))


@dataclass(frozen=True)
class Scene:
    """Bodies are listed from the bottom to the top; label i + 1 marks the visible part of body i."""

    view: View
    output: tuple[int, int]  # (height, width) of the frames delivered
    plate: Plate
    camera: Camera
    deformation: Deformation
    bodies: tuple[Body, ...]
    immersions: tuple[Immersion, ...]
    effects: CameraEffects | ScriptedEffects
    grid: CoarseGrid
    surface: TissueSurface | None = None  # of the plate's picture, when it changes

    def render(self, time: float) -> tuple[ByteArray, ByteArray]:
        """Frame uint8 RGB [height, width, 3] and labels uint8 [render height, render width] at a time."""
        maps = plate_maps(self.plate, self.camera, self.deformation, self.grid, time, self._pull(time))
        picture = self.plate.picture if self.surface is None else self.surface.at(time)
        canvas = open_canvas(look(picture, maps))
        labels = np.zeros(self.view.size, np.uint8)
        for index in range(len(self.bodies)):
            body = self._shown(index, time)
            layer = body.layer(time, self.view) if body is not None else None
            if body is None or layer is None:
                continue
            for immersion in self.immersions:
                if immersion.body == index:
                    self._immerse(layer, immersion, time)
            if body.shadow is not None:
                cast_shadow(canvas, layer, body.shadow, self.view)
            composite(canvas, labels, layer, index + 1)
        return self._deliver(close_canvas(canvas), time), labels

    def _shown(self, index: int, time: float) -> Instrument | Blob | Strand | None:
        """A body as it is at a time; None when it is away."""
        body = self.bodies[index]
        return body.at(time) if isinstance(body, VisitingInstrument) else body

    def _deliver(self, frame: ByteArray, time: float) -> ByteArray:
        """Bring a rendered frame to the output's size; camera effects are applied at the smaller of both sizes."""
        output = (self.output[1], self.output[0])
        if self.output[0] > self.view.size[0]:
            return cv2.resize(self.effects.apply(frame, time), output, interpolation=cv2.INTER_LINEAR)
        if self.output != self.view.size:
            frame = cv2.resize(frame, output, interpolation=cv2.INTER_AREA)
        return self.effects.apply(frame, time)

    def object_mask(self, labels: ByteArray, body: int) -> BoolArray:
        """Visible mask bool [height, width] of a body at the output's resolution."""
        mask = np.where(labels == body + 1, np.uint8(255), np.uint8(0))
        circle = self.effects.circle
        enlarged = self.output[0] > self.view.size[0]
        if enlarged and circle is not None:
            mask *= circle
        if self.output != self.view.size:
            method = cv2.INTER_LINEAR if enlarged else cv2.INTER_AREA
            mask = cv2.resize(mask, (self.output[1], self.output[0]), interpolation=method)
        visible = mask > 127
        return visible if circle is None or enlarged else visible & circle

    def visible_shares(self, labels: ByteArray) -> FloatArray:
        """Visible share of the frame [bodies] of each body."""
        small = labels
        if self.effects.circle is not None:
            height, width = self.effects.circle.shape
            small = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST) * self.effects.circle
        counts = np.bincount(small.ravel(), minlength=len(self.bodies) + 1)
        return counts[1 : len(self.bodies) + 1] / small.size

    def _pull(self, time: float) -> FloatArray:
        """Displacement of the tissue around instrument tips, on the coarse grid [g, g, 2]."""
        total = np.zeros_like(self.grid.points)
        for immersion in self.immersions:
            body = self._shown(immersion.body, time)
            if not isinstance(body, Instrument):
                continue
            pose = body.pose(time)
            offset = self.grid.points - pose.base
            near = np.exp(-(offset**2).sum(axis=-1, keepdims=True) / (2 * (2.2 * body.diameter) ** 2))
            total += near * pose.direction * (0.35 * body.diameter * immersion.amount(time))
        return total

    def _immerse(self, layer: Layer, immersion: Immersion, time: float) -> None:
        amount = immersion.amount(time)
        body = self._shown(immersion.body, time)
        if amount <= 0.02 or not isinstance(body, Instrument):
            return
        pose = body.pose(time)
        design = body.design
        length = (sum(design.wrist_lengths) + design.jaw_length) * pose.diameter
        tip = pose.base + pose.direction * (length + immersion.radius - amount * immersion.depth * length)
        centre = self.view.pixels(tip) - [layer.x, layer.y]
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        wave = (
            1.0 + 0.12 * np.sin(3 * angle + immersion.start) + 0.08 * np.sin(5 * angle + 2 * immersion.start)
        )
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * wave[:, None] * immersion.radius
        points = np.round((centre + self.view.pixels(ring.astype(np.float32))) * 16).astype(np.int32)
        cover: FloatArray = np.zeros(layer.rgba.shape[:2], np.float32)
        cv2.fillPoly(cover, [points.reshape(-1, 1, 2)], 1.0, cv2.LINE_AA, 4)
        cover = cv2.GaussianBlur(cover, (0, 0), 0.004 * self.view.size[0] + 0.5)
        scale_in_place(layer.rgba, 1.0 - cover)


def open_canvas(picture: ByteArray) -> FloatArray:
    """Canvas float32 [h, w, 4] that starts as a picture uint8 RGB [h, w, 3]."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA).astype(np.float32)


def close_canvas(canvas: FloatArray) -> ByteArray:
    """The canvas as uint8 RGB [h, w, 3]."""
    return cv2.cvtColor(cv2.convertScaleAbs(canvas), cv2.COLOR_RGBA2RGB)


def cast_shadow(
    canvas: FloatArray, layer: Layer, shadow: tuple[float, float, float, float], view: View
) -> None:
    """Darken the canvas [h, w, 4] where the layer, shifted and blurred, keeps the light away."""
    offset_x, offset_y, blur, darkness = shadow
    height, width = view.size
    step = 4
    sigma = max(0.5, blur * height / step)
    margin = int(2.5 * sigma) + 1
    alpha = layer.rgba[..., 3]
    reduced = cv2.resize(
        alpha, (alpha.shape[1] // step + 1, alpha.shape[0] // step + 1), interpolation=cv2.INTER_AREA
    )
    reduced = cv2.copyMakeBorder(reduced, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    reduced = cv2.GaussianBlur(reduced, (0, 0), sigma)
    left = layer.x + round(offset_x * width / view.aspect) - margin * step
    top = layer.y + round(offset_y * height) - margin * step
    full = (reduced.shape[1] * step, reduced.shape[0] * step)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + full[0]), min(height, top + full[1])
    if x1 <= x0 or y1 <= y0:
        return
    gain = cv2.resize(1.0 - reduced * (darkness / 255.0), full, interpolation=cv2.INTER_LINEAR)
    scale_in_place(
        canvas[y0:y1, x0:x1], np.ascontiguousarray(gain[y0 - top : y1 - top, x0 - left : x1 - left])
    )


def composite(canvas: FloatArray, labels: ByteArray, layer: Layer, label: int) -> None:
    """Lay a layer over the canvas [h, w, 4] and mark its opaque pixels in labels [h, w]."""
    lay_over(canvas[layer.rows, layer.columns], layer.rgba)
    labels[layer.rows, layer.columns][layer.rgba[..., 3] > 127.0] = label


@dataclass(frozen=True)
class SceneStyle:
    """What a random scene contains."""

    instruments: tuple[float, ...] = (0.3, 0.43, 0.2, 0.07)  # probabilities of 1, 2, 3, 4
    tissue_bodies: float = 0.45
    strands: float = 0.3
    look_alikes: float = 0.6
    tissue_targets: float = (
        0.5  # chance that a tissue body, rather than an instrument, is offered as a target
    )
    supersampling: float = 1.25
    plain: bool = False  # no props, mild effects: for demonstrations
    work_site: float = 0.4  # chance that several instruments work at one place, where they touch and cross
    leaving: float = 0.5  # chance that an instrument leaves the image now and then
    da_vinci: float = 0.4  # chance that all instruments are da Vinci ones, which are also thicker
    first_design: int = 0  # a multiple of 3; designs are drawn from `designs` numbers from here on
    designs: int = DESIGN_POOL


def random_scene(
    rng: np.random.Generator,
    library: TissueLibrary,
    output: tuple[int, int],
    aspect: float,
    duration: float,
    style: SceneStyle | None = None,
) -> Scene:
    """Draw a scene of `duration` seconds delivered in frames of `output` = (height, width)."""
    style = style or SceneStyle()
    size = (round(output[0] * style.supersampling), round(output[1] * style.supersampling))
    plate = random_plate(rng, recolour(rng, library.pick(rng)), aspect)
    bodies = [*_random_props(rng, library, aspect, duration, style)]
    instruments = _random_instruments(rng, aspect, duration, style)
    first = len(bodies)
    bodies.extend(instruments)
    immersions = tuple(
        Immersion(first + i, float(rng.uniform(0.05, 0.14)), float(rng.uniform(0, 8)), float(rng.uniform(1.5, 8)),
                  float(rng.uniform(0.1, 0.7)))
        for i in range(len(instruments))
        if rng.random() < 0.3
    )  # fmt: skip
    if rng.random() < 0.12 and not style.plain:
        bodies.append(_occluder(rng, library, aspect, duration))
    return Scene(
        view=View(size, aspect),
        output=output,
        plate=plate,
        camera=random_camera(rng, duration, float(rng.choice([0.0, 0.3, 1.0], p=[0.25, 0.45, 0.3]))),
        deformation=random_deformation(rng, float(rng.uniform(0.0, 1.5))),
        bodies=tuple(bodies),
        immersions=immersions,
        effects=random_effects(rng, duration, min(size, output), 0.4 if style.plain else 1.0),
        grid=CoarseGrid(size, aspect),
    )


def _random_instruments(
    rng: np.random.Generator, aspect: float, duration: float, style: SceneStyle
) -> list[Instrument]:
    count = 1 + int(rng.choice(len(style.instruments), p=style.instruments))
    da_vinci = rng.random() < style.da_vinci
    design = _design(rng, style, da_vinci)
    thinnest = 0.085 if da_vinci else 0.04
    base_width = float(np.exp(rng.uniform(np.log(thinnest), np.log(0.14 if style.plain else 0.21))))
    pace = float(np.exp(rng.normal(-0.2, 0.5)))
    site = None
    if count > 1 and style.work_site > 0 and rng.random() < style.work_site:
        site = rng.uniform([0.25 * aspect, 0.25], [0.75 * aspect, 0.75]).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    result = []
    for index in range(count):
        if index > 0 and rng.random() > style.look_alikes:
            design = _design(rng, style, da_vinci)
        entry = float(angle + index * rng.uniform(0.6, 2.6))
        width = base_width * float(np.exp(rng.normal(0, 0.12)))
        result.append(
            random_instrument(rng, duration, aspect, design, entry, width, pace, style.leaving, site)
        )
    return result


def _design(rng: np.random.Generator, style: SceneStyle, da_vinci: bool) -> InstrumentDesign:
    number = int(rng.integers(style.designs))
    return pooled_design(style.first_design + (number - number % 3 if da_vinci else number))


def _random_props(
    rng: np.random.Generator, library: TissueLibrary, aspect: float, duration: float, style: SceneStyle
) -> list[Body]:
    if style.plain:
        return []
    props: list[Body] = []
    if rng.random() < style.tissue_bodies:
        for _ in range(int(rng.integers(1, 4))):
            name = str(rng.choice(["tissue", "cavity", "gauze"], p=[0.65, 0.25, 0.1]))
            texture = gauze_texture(rng) if name == "gauze" else recolour(rng, library.pick(rng))
            props.append(random_blob(rng, duration, aspect, texture, name))
    if rng.random() < style.strands:
        names = rng.choice(["tube", "thread", "needle"], int(rng.integers(1, 3)), p=[0.3, 0.45, 0.25])
        props.extend(random_strand(rng, duration, aspect, str(name)) for name in names)
    return props


def _occluder(rng: np.random.Generator, library: TissueLibrary, aspect: float, duration: float) -> Blob:
    """A piece of tissue in front of the instruments."""
    return random_blob(rng, duration, aspect, recolour(rng, library.pick(rng)), "tissue")


def target_weights(scene: Scene, areas: Sequence[float] | FloatArray, style: SceneStyle) -> FloatArray:
    """Weights [bodies] for choosing targets among bodies with visible area fractions `areas` in the first frame."""
    weights = np.zeros(len(scene.bodies), np.float32)
    for index, (body, area) in enumerate(zip(scene.bodies, areas, strict=True)):
        enough = area >= 0.0015 and area < 0.7
        weights[index] = float(enough) * (
            1.0 if isinstance(body, Instrument) else 0.35 * style.tissue_targets
        )
    return weights
