"""What the client refuses before anything is sent: no argument may be changed on its way, or end the process."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from node_harness import block_mask, mask  # noqa: E402

from sam2s_msgs.msg import Prompt  # noqa: E402
from sam2s_ros.cli import main  # noqa: E402
from sam2s_ros.nodes import client as client_module  # noqa: E402
from sam2s_ros.nodes.client import Sam2sClient  # noqa: E402
from sam2s_ros.nodes.client_requests import LARGEST_ID, LARGEST_STAMP_NS, prompt_message  # noqa: E402
from sam2s_ros.nodes.client_results import TrackerUnavailable  # noqa: E402


class _NodeWithoutServices:
    """A node that sees no service; `waited` counts how often a client began to look for one."""

    def __init__(self) -> None:
        self.waited = 0

    def create_client(self, *_: Any, **__: Any) -> Any:
        return self

    def destroy_client(self, _: Any) -> None:
        pass

    def wait_for_service(self, **_: Any) -> bool:
        self.waited += 1
        return False


@pytest.fixture
def node() -> _NodeWithoutServices:
    return _NodeWithoutServices()


@pytest.fixture
def console(node: _NodeWithoutServices) -> Sam2sClient:
    return Sam2sClient(node, timeout_s=0.01)  # type: ignore[arg-type]


CALLS_BY_ID: dict[str, Callable[[Sam2sClient, Any], Any]] = {
    "refine": lambda console, one: console.refine_object(one, points=[(1, 2)]),
    "remove": lambda console, one: console.remove_object(one),
    "rename": lambda console, one: console.rename_object(one, name="x"),
    "reset": lambda console, one: console.reset_object(one),
}


@pytest.mark.parametrize("call", CALLS_BY_ID.values(), ids=CALLS_BY_ID)
@pytest.mark.parametrize("object_id", [2**32, 2**32 + 1, -1, 1.5, 1.0, "1", None, True, np.int64(-3)])
def test_an_id_that_no_object_has_is_refused_and_nothing_is_asked(
    call: Callable[[Sam2sClient, Any], Any], object_id: Any, console: Sam2sClient, node: _NodeWithoutServices
) -> None:
    with pytest.raises(ValueError, match="object id is ") as refusal:
        call(console, object_id)
    assert repr(object_id) in str(refusal.value) and node.waited == 0


@pytest.mark.parametrize("call", CALLS_BY_ID.values(), ids=CALLS_BY_ID)
@pytest.mark.parametrize("object_id", [1, LARGEST_ID, np.uint32(7)])
def test_an_id_that_an_object_may_have_is_asked_for(
    call: Callable[[Sam2sClient, Any], Any], object_id: Any, console: Sam2sClient, node: _NodeWithoutServices
) -> None:
    with pytest.raises(TrackerUnavailable):
        call(console, object_id)
    assert node.waited


def test_the_id_0_is_taken_only_where_it_means_all(console: Sam2sClient) -> None:
    with pytest.raises(TrackerUnavailable):
        console.reset_object(0)
    for name in ("refine", "remove", "rename"):
        with pytest.raises(ValueError, match="object id is 0"):
            CALLS_BY_ID[name](console, 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda one: one.add_object("ok\0hidden", points=[(1, 2)]), r"name is 'ok\\x00hidden'"),
        (lambda one: one.add_object("x", "a\nb", points=[(1, 2)]), r"class_name is 'a\\nb'"),
        (lambda one: one.add_object(b"x", points=[(1, 2)]), "name is b'x': give a text"),
        (lambda one: one.add_object_async("x", "", None), "prompt is None: give what prompt_message makes"),
        (lambda one: one.rename_object(1, 5), "name is 5: give a text"),
        (lambda one: one.rename_object(1, class_name="\x1b[2J"), r"class_name is '\\x1b\[2J'"),
        (lambda one: one.rename_object(1, clear_class="no"), "clear_class is 'no': give True or False"),
        (lambda one: one.pause("lens\0"), r"reason is 'lens\\x00'"),
        (lambda one: one.pause(None), "reason is None"),
        (
            lambda one: one.request("remove_object", id=-1),
            r"remove_object: The 'id' field .* \[0, 4294967295\]",
        ),
        (
            lambda one: one.request("remove_object", id=1.5),
            "remove_object: The 'id' field must be of type 'int'",
        ),
        (lambda one: one.request("remove_object", number=1), "remove_object: Invalid arguments"),
    ],
)
def test_a_value_that_a_field_does_not_hold_is_named_and_nothing_is_asked(
    call: Callable[[Sam2sClient], Any], words: str, console: Sam2sClient, node: _NodeWithoutServices
) -> None:
    with pytest.raises(ValueError, match=words):
        call(console)
    assert node.waited == 0


@pytest.mark.parametrize("client", ["two\nlines", "left\0", None])
def test_who_asks_is_a_text_that_prints(client: Any, node: _NodeWithoutServices) -> None:
    with pytest.raises(ValueError, match="client is "):
        Sam2sClient(node, client=client)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("remove", "4294967297"), "object id is 4294967297: give a whole number, 1 .. 4294967295"),
        (("rename", "-1", "--name", "x"), "object id is -1"),
        (("refine", "0", "--click", "1,2"), "object id is 0"),
        (("reset-object", "4294967296"), "1 .. 4294967295, or 0 for all objects"),
        (("add", "--click", "1,2", "--name", "two\nlines"), "name is 'two\\nlines'"),
        (("add", "--click", "1,2", "--stamp", "2147483647.9999999999"), "stamp_ns is 2147483648000000000"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    arguments: tuple[str, ...],
    words: str,
    node: _NodeWithoutServices,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "Sam2sClient", lambda **named: Sam2sClient(node, **named))  # type: ignore[arg-type]
    assert main(["prompt", *arguments, "--timeout", "0.01"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line and node.waited == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"box": (1, 2, 3)}, r"box is \(1, 2, 3\): give the numbers x_min, y_min, x_max, y_max"),
        ({"box": "1234"}, "box is '1234'"),
        ({"box": 5}, "box is 5"),
        ({"points": [(1, 2), ("a", 2)]}, r"points\[1\] is \('a', 2\): give the numbers x, y"),
        ({"points": [(1, 2, 3)]}, r"points\[0\] is \(1, 2, 3\): give the numbers x, y"),
        ({"points": [(10**400, 2)]}, r"points\[0\] is "),
        ({"points": [3]}, r"points\[0\] is 3"),
        ({"points": 3}, "points is 3: give a list of pairs x, y"),
        ({"points": [(1, 2)], "labels": [2]}, r"labels is \[2\]: give 1 .* or 0"),
        ({"points": [(1, 2)], "labels": [300]}, r"labels is \[300\]"),
        ({"points": [(1, 2)], "labels": [-1]}, r"labels is \[-1\]"),
        ({"points": [(1, 2)], "labels": [0.5]}, r"labels is \[0.5\]"),
        ({"points": [(1, 2)], "labels": [None]}, r"labels is \[None\]"),
        ({"points": [(1, 2)], "labels": np.ones((1, 2), int)}, r"labels is array"),
        ({"points": [(1, 2)], "labels": 1}, "labels is 1: give a list of 1 "),
        ({"mask": np.ones(4, bool)}, r"mask has shape \(4,\)"),
        ({"mask": np.ones((2, 3, 4), bool)}, r"mask has shape \(2, 3, 4\)"),
        ({"mask": [[1, 0], [1]]}, "mask is no array"),
        ({"mask": np.full((96, 128), 0.2)}, "mask has float64 values: .* p > 0.5"),
        ({"mask": np.full((96, 128), "x")}, "mask has <U1 values"),
        ({"stamp_ns": -1}, "stamp_ns is -1: give whole nanoseconds .* 0 for the newest"),
        ({"stamp_ns": 5.0}, "stamp_ns is 5.0"),
        ({"stamp_ns": math.nan}, "stamp_ns is nan"),
        ({"stamp_ns": None}, "stamp_ns is None"),
        ({"stamp_ns": False}, "stamp_ns is False"),
        ({"stamp_ns": LARGEST_STAMP_NS + 1}, "stamp_ns is 2147483648000000000"),
    ],
)
def test_an_argument_that_no_prompt_holds_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prompt_message(**fields)


def test_a_prompt_message_holds_what_was_marked() -> None:
    made = prompt_message([(1, 2), (3, 4)], [1, 0], (0, 1, 2, 3), None, 5_000_000_006)
    assert [(point.x, point.y) for point in made.points] == [(1, 2), (3, 4)]
    assert list(made.point_labels) == [1, 0] and made.has_box and made.box.y_max == 3
    assert (made.stamp.sec, made.stamp.nanosec) == (5, 6)
    last = prompt_message(stamp_ns=LARGEST_STAMP_NS).stamp
    assert (last.sec, last.nanosec) == (2**31 - 1, 10**9 - 1)
    arrays = prompt_message(np.array([[1, 2], [3, 4]]), np.array([True, False]), stamp_ns=np.int64(7))
    assert list(arrays.point_labels) == [Prompt.POSITIVE, Prompt.NEGATIVE] and arrays.stamp.nanosec == 7


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_a_mask_of_bool_or_integers_holds_what_is_not_0(dtype: Any) -> None:
    marked = block_mask().astype(dtype)
    if dtype is not bool:
        marked *= 200
    made = prompt_message(mask=marked)
    assert made.mask.counts == mask(block_mask())["mask"].counts
    assert (made.mask.height, made.mask.width) == marked.shape


class _HumbleRequest:
    """As Humble generates them: it always checks, and takes no word on that."""

    __slots__ = ["_id"]

    def __init__(self, **fields: Any) -> None:
        assert all(f"_{name}" in self.__slots__ for name in fields), "Invalid arguments passed to constructor"


def test_requests_of_humble_are_checked_too(
    console: Sam2sClient, node: _NodeWithoutServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("RemoveObject", (), {"Request": _HumbleRequest})
    monkeypatch.setitem(client_module.SERVICES, "remove_object", kind)
    with pytest.raises(ValueError, match="remove_object: Invalid arguments"):
        console.request("remove_object", number=1)
    assert node.waited == 0
    with pytest.raises(TrackerUnavailable):
        console.request("remove_object", id=1)
