"""A long synthetic surgery: a cast of instruments that come, work, leave and return, over minutes.

All instruments have the same shaft; what tells their classes apart is the wrist and the jaws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from sam2s_ros.data.arrays import ByteArray
from sam2s_ros.data.backgrounds import TissueLibrary, random_plate, recolour
from sam2s_ros.data.instrument_classes import CLASSES, classed_design
from sam2s_ros.data.instruments import View
from sam2s_ros.data.light_script import random_script
from sam2s_ros.data.motion import (
    CoarseGrid,
    Trajectory,
    random_camera,
    random_deformation,
    trajectory_through,
)
from sam2s_ros.data.props import Blob, Strand, gauze_texture, on_tissue, random_blob, random_strand
from sam2s_ros.data.scene import Immersion, Scene
from sam2s_ros.data.schedule import ScheduleStyle, Visit, draw_schedule
from sam2s_ros.data.splits import Split
from sam2s_ros.data.tissue_surface import random_surface
from sam2s_ros.data.visits import Trocar, VisitingInstrument, visiting_instrument


@dataclass(frozen=True)
class SurgeryStyle:
    """What a surgery contains."""

    twins: int = 2  # classes of which there are two instruments
    classes_per_minute: float = 3.0  # more classes than 5 by each minute
    schedule: ScheduleStyle = field(default_factory=ScheduleStyle)
    effects: float = 0.7  # strength of light changes, smoke, fog, noise, 0..1
    blood: float = 0.7
    glint: float = 0.7
    camera: float = 0.8  # strength of camera motion
    deformation: float = 1.0
    immersed: float = 0.4  # chance that tissue covers an instrument's tip now and then
    flaps: int = 1  # pieces of tissue that come in front of everything
    pace: float = 1.0


DIFFICULTIES: dict[str, SurgeryStyle] = {
    "easy": SurgeryStyle(
        twins=0, schedule=ScheduleStyle(in_view=(0.3, 0.5, 0.2), side_swap=0.1), effects=0.3, blood=0.3,
        glint=0.4, camera=0.2, deformation=0.4, immersed=0.1, flaps=0, pace=0.7,
    ),
    "medium": SurgeryStyle(),
    "hard": SurgeryStyle(
        twins=3, schedule=ScheduleStyle(in_view=(0.05, 0.25, 0.45, 0.25), side_swap=0.6), effects=1.0,
        blood=1.0, glint=1.0, camera=1.0, deformation=1.5, immersed=0.6, flaps=2, pace=1.4,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Surgery:
    """A scene of `duration` seconds with its cast; object ids are 1, 2, ... in the cast's order."""

    scene: Scene
    cast: tuple[VisitingInstrument, ...]
    bodies: tuple[int, ...]  # the cast's places among the scene's bodies
    duration: float

    @property
    def object_names(self) -> tuple[str, ...]:
        """Class of each object, with a number where there are several of it."""
        names = [member.name for member in self.cast]
        return tuple(
            f"{name} {names[: index + 1].count(name)}" if names.count(name) > 1 else name
            for index, name in enumerate(names)
        )

    def render(self, time: float) -> tuple[ByteArray, ByteArray]:
        """Frame uint8 RGB [H, W, 3] and label image uint8 [H, W] of object ids, 0 elsewhere, at a time.

        A label marks the part of an object that is in view and not covered.
        """
        frame, labels = self.scene.render(time)
        ids = np.zeros(256, np.uint8)
        ids[np.array(self.bodies) + 1] = np.arange(1, len(self.bodies) + 1)
        circle = self.scene.effects.circle
        visible = ids[labels]
        return frame, visible if circle is None else visible * circle

    def frames(self, count: int, fps: float) -> Iterator[tuple[ByteArray, ByteArray]]:
        """Frames and label images at the times 0, 1 / fps, ..."""
        for index in range(count):
            yield self.render(index / fps)


def random_surgery(
    seed: int,
    split: Split,
    library: TissueLibrary,
    size: tuple[int, int],
    duration: float,
    style: SurgeryStyle,
    aspect: float | None = None,
) -> Surgery:
    """Surgery `seed` of a split, in frames of `size` = (height, width) for `duration` seconds.

    The same arguments give the same surgery; another size gives the same one in other frames. `aspect` is width by
    height of what is seen, where frames are stretched to another shape, as a network's input is.
    """
    rng = np.random.default_rng([split.stream, seed])
    aspect = size[1] / size[0] if aspect is None else aspect
    names = _random_cast(rng, duration, style)
    visits = draw_schedule(rng, duration, names, style.schedule)
    plate = random_plate(rng, recolour(rng, library.pick(rng), 0.5), aspect)
    camera = random_camera(rng, duration, style.camera * float(rng.uniform(0.5, 1.0)))
    props = [
        replace(prop, path=on_tissue(prop.path, camera, aspect))
        for prop in _random_props(rng, library, aspect, duration)
    ]
    cast = _random_instruments(rng, names, visits, split, aspect, style)
    order = [int(i) for i in rng.permutation(len(cast))]  # who lies over whom
    bodies = tuple(len(props) + order.index(i) for i in range(len(cast)))
    flaps = [_flap(rng, library, aspect, duration) for _ in range(style.flaps)]
    immersions = tuple(
        Immersion(body, float(rng.uniform(0.05, 0.13)), float(rng.uniform(0, 8)), float(rng.uniform(3, 12)),
                  float(rng.uniform(0.1, 0.7)))
        for body in bodies
        if rng.random() < style.immersed
    )  # fmt: skip
    scene = Scene(
        view=View(size, aspect),
        output=size,
        plate=plate,
        camera=camera,
        deformation=random_deformation(rng, style.deformation * float(rng.uniform(0.3, 1.0))),
        bodies=(*props, *(cast[i] for i in order), *flaps),
        immersions=immersions,
        effects=random_script(rng, duration, size, style.effects),
        grid=CoarseGrid(size, aspect),
        surface=random_surface(rng, plate.picture, duration, style.blood, style.glint),
    )
    return Surgery(scene, tuple(cast), bodies, duration)


def _random_cast(rng: np.random.Generator, duration: float, style: SurgeryStyle) -> list[str]:
    """Classes of the instruments; those of which there are two are listed twice."""
    count = min(len(CLASSES), 5 + int(style.classes_per_minute * duration / 60.0))
    names = [str(name) for name in rng.choice(CLASSES, count, replace=False)]
    return names + names[: style.twins]


def _random_instruments(
    rng: np.random.Generator,
    names: list[str],
    visits: tuple[Visit, ...],
    split: Split,
    aspect: float,
    style: SurgeryStyle,
) -> list[VisitingInstrument]:
    robotic = rng.random() < 0.6
    shaft = split.first_design + int(rng.integers(split.designs))
    diameter = float(np.exp(rng.uniform(np.log(0.06), np.log(0.115))))
    first = rng.uniform(0, 2 * np.pi)
    ports = style.schedule.ports
    trocars = tuple(
        Trocar(float(first + 2 * np.pi * i / ports + rng.uniform(-0.25, 0.25)), float(rng.uniform(0.2, 0.8)))
        for i in range(ports)
    )
    numbers = split.first_design + rng.choice(split.designs, len(names), replace=False)
    return [
        visiting_instrument(
            rng,
            classed_design(name, int(numbers[member]), shaft, robotic),
            [visit for visit in visits if visit.member == member],
            trocars,
            aspect,
            diameter * float(np.exp(rng.normal(0.0, 0.04))),
            style.pace,
        )
        for member, name in enumerate(names)
    ]


def _random_props(
    rng: np.random.Generator, library: TissueLibrary, aspect: float, duration: float
) -> list[Blob | Strand]:
    """Things on the tissue that are no instrument: lumps, gauze, thread, a needle."""
    props: list[Blob | Strand] = []
    for _ in range(int(rng.integers(0, 3))):
        name = str(rng.choice(["tissue", "gauze"], p=[0.75, 0.25]))
        texture = gauze_texture(rng) if name == "gauze" else recolour(rng, library.pick(rng), 0.5)
        props.append(random_blob(rng, duration, aspect, texture, name))
    for name in rng.choice(["thread", "needle"], int(rng.integers(0, 3))):
        props.append(random_strand(rng, duration, aspect, str(name)))
    return props


def _flap(rng: np.random.Generator, library: TissueLibrary, aspect: float, duration: float) -> Blob:
    """A piece of tissue that moves in front of the instruments for some seconds, now and then."""
    blob = random_blob(rng, duration, aspect, recolour(rng, library.pick(rng), 0.5), "tissue")
    angle = rng.uniform(0, 2 * np.pi)
    centre, away = np.array([aspect / 2, 0.5]), np.array([np.cos(angle), np.sin(angle)])
    hidden = np.array([*(centre + 1.6 * away), 0.0, angle])
    times, values = [0.0], [hidden]
    while times[-1] < duration:
        shown = np.array([*(centre + rng.uniform(0.05, 0.4) * away + rng.normal(0, 0.1, 2)), 0.0, angle])
        start = times[-1] + float(rng.uniform(4.0, 20.0))
        move, stay = rng.uniform(0.8, 2.0), rng.uniform(1.0, 4.0)
        times.extend([start, start + move, start + move + stay, start + 2 * move + stay])
        values.extend([hidden, shown, shown, hidden])
    path: Trajectory = trajectory_through(np.array(times), np.stack(values))
    return replace(blob, path=path, radius=float(rng.uniform(0.15, 0.26)))
