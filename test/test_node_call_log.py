"""Lines about calls: a few a second, the rest counted, failures always."""

from __future__ import annotations

from sam2s_ros.nodes.call_log import LINES_PER_S, CallLog


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, message: str) -> None:
        self.lines.append(("info", message))

    def warning(self, message: str) -> None:
        self.lines.append(("warning", message))

    def error(self, message: str) -> None:
        self.lines.append(("error", message))


def test_a_flood_of_calls_writes_a_few_lines_and_says_how_many_it_left_out() -> None:
    logger, now_s = Lines(), [100.0]
    log = CallLog(logger, lambda: now_s[0])
    for number in range(20):
        (log.refused if number % 2 else log.answered)(f"call {number}")
    assert [text for _, text in logger.lines] == [f"call {number}" for number in range(LINES_PER_S)]
    log.failed("engine")
    now_s[0] = 101.0
    log.answered("later")
    log.refused("last")
    assert logger.lines[LINES_PER_S:] == [
        ("error", "engine"),
        ("info", f"later (and {20 - LINES_PER_S} calls before without a line)"),
        ("warning", "last"),
    ]
