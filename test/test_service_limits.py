"""Limits of service fields, and the audit log's file, without a node."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from builtin_interfaces.msg import Time  # noqa: E402

from sam2s_msgs.msg import BoundingBox2D, Point2D, Prompt, RleMask  # noqa: E402
from sam2s_msgs.srv import AddObject, RenameObject, ResetObject  # noqa: E402
from sam2s_ros.nodes import audit_log  # noqa: E402
from sam2s_ros.nodes.audit_log import AuditLog  # noqa: E402
from sam2s_ros.nodes.service_limits import RequestError, check_request  # noqa: E402


def click(x: float = 1.0, label: int = 1, count: int = 1) -> dict[str, Any]:
    return {"points": [Point2D(x=x, y=1.0)] * count, "point_labels": [label] * count}


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (click(count=33), "prompt.points has 33 entries"),
        (click(label=7), r"prompt.point_labels\[0\] is 7"),
        (click(x=float("nan")), r"prompt.points\[0\].x is nan"),
        (click(x=-2e9), r"prompt.points\[0\].x is -2e\+09"),
        ({"has_box": True, "box": BoundingBox2D(x_max=float("inf"))}, "prompt.box.x_max is inf"),
        ({"mask": RleMask(height=2**16, width=2**16)}, "prompt.mask is 65536x65536"),
        ({"mask": RleMask(height=1, width=2, counts=[0, 1, 0, 1])}, "prompt.mask.counts has 4 entries"),
        ({"stamp": Time(sec=-1)}, "prompt.stamp.sec is -1"),
        ({"stamp": Time(nanosec=10**9)}, "prompt.stamp.nanosec is 1000000000"),
    ],
)
def test_a_prompt_beyond_a_limit_is_refused_with_field_and_value(prompt: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        check_request(AddObject.Request(prompt=Prompt(**prompt)))


def test_what_is_at_the_limit_is_taken() -> None:
    check_request(AddObject.Request(client="c" * 128, name="ä" * 128, prompt=Prompt(**click(count=32))))
    check_request(ResetObject.Request(id=0))
    check_request(RenameObject.Request(id=2**32 - 1, clear_class=True))


def test_a_class_beside_clear_class_is_refused() -> None:
    with pytest.raises(RequestError, match="'hook' beside clear_class"):
        check_request(RenameObject.Request(id=1, class_name="hook", clear_class=True))


class _Node:
    """What the log needs of a node."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def get_logger(self) -> Any:
        return SimpleNamespace(error=self.errors.append)

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=12))


def test_the_log_is_bounded_and_private(tmp_path: Path) -> None:
    """The size that it may reach is kept over many lines, threads that write at once lose and mix none."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(str(path), "s", _Node(), max_bytes=4000, backups=2)

    def write(thread: int) -> None:
        for number in range(100):
            assert log.write("pause", {"thread": thread, "number": number, "value": float("nan")}) == ""

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [one.name for one in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert all(one.stat().st_size <= 4000 and stat.S_IMODE(one.stat().st_mode) == 0o600 for one in files)
    lines = [json.loads(line) for one in reversed(files) for line in one.read_text().splitlines()]
    for thread in range(4):
        mine = [line["number"] for line in lines if line["thread"] == thread]
        assert mine == list(range(100 - len(mine), 100))
    assert lines and all(line["value"] is None and line["session"] == "s" for line in lines)


def test_a_disk_that_fails_stops_nothing_and_leaves_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = _Node()
    log = AuditLog(str(tmp_path / "audit.jsonl"), "s", node)
    log.write("reset", {})

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(audit_log.os, "write", full)
        assert "No space left" in log.write("reset", {})
        assert "No space left" in log.write("reset", {})
    assert len(node.errors) == 2
    assert log.write("pause", {}) == ""
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["service"] for line in lines] == ["reset", "audit_log", "pause"]
    assert lines[1]["missing_lines"] == 2


def test_the_folder_of_a_log_is_made_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As snapshot_dir's, the home's ~ included; a folder that was there keeps its mode."""
    monkeypatch.setenv("HOME", str(tmp_path))
    tmp_path.chmod(0o755)
    AuditLog("~/new/audit.jsonl", "s", _Node()).close()
    assert (tmp_path / "new" / "audit.jsonl").is_file()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_log_that_cannot_be_opened_names_the_parameter(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=f"audit_log is '{tmp_path}{os.sep}none"):
        AuditLog(str(tmp_path / "none" / "audit.jsonl"), "s", _Node())
