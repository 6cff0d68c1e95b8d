"""What training, validation and the test draw from: random streams, instrument designs and tissue pictures.

No number of one split occurs in another, so a design or a scene of the test is never seen in training.
"""

from __future__ import annotations

from dataclasses import dataclass

DESIGN_POOL = 900
"""Instrument designs that training draws from."""
PLATE_POOL = 600
"""Procedural tissue pictures that training draws from."""
KEPT_OF_A_POOL = 100
"""Of each pool, what a process keeps in memory to use again, so that its memory is full early in a run and stays so.

A plate has 0.6 MB and takes 46 ms to draw, a design 0.1 MB and 9 ms, a clip about 0.1 s.
"""
VALIDATION_DESIGN = 99_999
TEST_DESIGN = 199_998
TEST_PLATE = 200_000


@dataclass(frozen=True)
class Split:
    """One side of the division between what is learnt from and what is measured on."""

    stream: int
    """First number of every scene's seed."""
    first_design: int
    designs: int
    first_plate: int
    plates: int


TRAINING = Split(stream=555_001, first_design=0, designs=DESIGN_POOL, first_plate=0, plates=PLATE_POOL)
VALIDATION = Split(777_001, VALIDATION_DESIGN, 400, first_plate=0, plates=PLATE_POOL)
TEST = Split(888_001, TEST_DESIGN, 400, first_plate=TEST_PLATE, plates=400)

SPLITS: dict[str, Split] = {"training": TRAINING, "validation": VALIDATION, "test": TEST}
