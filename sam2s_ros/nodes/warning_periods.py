"""A warning of each kind once in a while: one kind, however often it comes, does not silence another."""

from __future__ import annotations

import re
from collections import OrderedDict

MOST_KINDS = 32


class WarningPeriods:
    """Says which warnings are due. Texts that differ in numbers only are of one kind; the oldest kinds are forgotten.

    For one thread. `period_s`: seconds for which a kind is silent after it was due.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._last_s: OrderedDict[str, float] = OrderedDict()

    def due(self, text: str, now_s: float) -> bool:
        """Whether to say this now; `now_s` by a clock that never goes back."""
        kind = re.sub(r"\d+", "0", text)
        last_s = self._last_s.get(kind)
        if last_s is not None and now_s - last_s < self._period_s:
            return False
        self._last_s[kind] = now_s
        self._last_s.move_to_end(kind)
        if len(self._last_s) > MOST_KINDS:
            self._last_s.popitem(last=False)
        return True
