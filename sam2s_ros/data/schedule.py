"""Who is in view when: the script of a long surgery, drawn before anything is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

SHORTEST_ABSENCE_S = 2.0
LONGEST_ABSENCE_S = 20.0
_STEP_S = 0.25
_PATIENCE_S = 4.0


@dataclass(frozen=True)
class Visit:
    """One stay of an instrument in the image: it is outside at `start` and `end` (seconds) and inside between."""

    member: int  # index into the cast
    start: float
    end: float
    port: int  # trocar through which it comes


@dataclass(frozen=True)
class ScheduleStyle:
    """How busy a surgery is."""

    in_view: tuple[float, ...] = (0.1, 0.35, 0.4, 0.15)  # probabilities of 1, 2, 3, 4 instruments
    ports: int = 5
    visit_s: tuple[float, float] = (3.5, 10.0)
    side_swap: float = 0.45  # chance that an instrument returns through another port
    introduction: float = 0.4  # share of the time by which every class is due


def draw_schedule(
    rng: np.random.Generator, duration: float, cast: Sequence[str], style: ScheduleStyle
) -> tuple[Visit, ...]:
    """Visits of the instruments whose classes are `cast`, in the order in which they start.

    Two instruments are in view at time 0. Instruments of one class meet: the second comes for the first time while
    the first is there. An instrument that left returns after SHORTEST_ABSENCE_S to LONGEST_ABSENCE_S or never.
    No port is used twice at a time.
    """
    theatre = _Theatre(rng, duration, tuple(cast), style)
    time = -2.0
    while time < duration:
        theatre.leave(time)
        theatre.enter(time)
        time += _STEP_S
    return tuple(sorted(theatre.visits, key=lambda visit: (visit.start, visit.member)))


@dataclass
class _Theatre:
    """State of the simulation that draws a schedule."""

    rng: np.random.Generator
    duration: float
    cast: tuple[str, ...]
    style: ScheduleStyle
    visits: list[Visit] = field(default_factory=list)
    inside: dict[int, Visit] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)  # when a member outside wants to come
    latest: dict[int, float] = field(default_factory=dict)  # after which a member that left stays away
    home: dict[int, int] = field(default_factory=dict)  # port used last
    wanted: int = 2
    wanted_until: float = 5.0

    def __post_init__(self) -> None:
        last = self.style.introduction * self.duration
        firsts = [i for i, name in enumerate(self.cast) if name not in self.cast[:i]]
        times = [-2.0, -2.0, *np.sort(self.rng.uniform(2.0, max(last, 2.5), max(len(firsts) - 2, 0)))]
        self.due = {member: float(time) for member, time in zip(firsts, times, strict=False)}

    def leave(self, time: float) -> None:
        """Those whose visit is over go, and return after an absence drawn now."""
        for member in [m for m, visit in self.inside.items() if visit.end <= time]:
            end = self.inside.pop(member).end
            absence = float(np.exp(self.rng.uniform(np.log(SHORTEST_ABSENCE_S), np.log(14.0))))
            self.due[member] = end + absence
            self.latest[member] = end + LONGEST_ABSENCE_S

    def enter(self, time: float) -> None:
        """Those that are due come, the longest waiting first, as long as there is room for them."""
        if time >= self.wanted_until:
            self.wanted = 1 + int(self.rng.choice(len(self.style.in_view), p=self.style.in_view))
            self.wanted_until = time + float(self.rng.uniform(4.0, 10.0))
        for member in sorted(self.due, key=lambda m: self.due[m]):
            if self.due[member] > time:
                break
            if time > self.latest.get(member, np.inf):
                del self.due[member]
                continue
            most = len(self.style.in_view) if self._is_pressing(member, time) else self.wanted
            if len(self.inside) < min(most, self.style.ports):
                self._start(member, time)

    def _is_pressing(self, member: int, time: float) -> bool:
        """Whether a member comes even if there are as many as wanted: it would be away for too long otherwise, it was
        never seen and has waited for _PATIENCE_S, or it was never seen and one of its class is in view."""
        if member in self.home:
            return time > self.latest[member] - _PATIENCE_S
        twin_inside = any(self.cast[other] == self.cast[member] for other in self.inside)
        return twin_inside or time > self.due[member] + _PATIENCE_S

    def _start(self, member: int, time: float) -> None:
        free = sorted(set(range(self.style.ports)) - {visit.port for visit in self.inside.values()})
        home = self.home.get(member)
        stays = self.rng.random() >= self.style.side_swap
        others = [port for port in free if port != home] or free
        port = home if home is not None and home in free and stays else int(self.rng.choice(others))
        twins = [
            other
            for other, name in enumerate(self.cast)
            if name == self.cast[member] and other not in self.home and other != member
        ]
        low, high = self.style.visit_s
        length = float(self.rng.uniform(max(low, 7.0) if twins else low, high))
        if twins and member not in self.home:
            self.due[twins[0]] = time + float(self.rng.uniform(1.0, 2.5))
        visit = Visit(member, time, time + length, port)
        self.visits.append(visit)
        self.inside[member] = visit
        self.home[member] = port
        del self.due[member]
