"""sam2s_msgs as rosidl builds it: complete, documented, stable, and readable from bags without ROS."""

from __future__ import annotations

import array
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

msg = pytest.importorskip("sam2s_msgs.msg", reason="sam2s_msgs is not built: make setup")
srv = pytest.importorskip("sam2s_msgs.srv", reason="sam2s_msgs is not built: make setup")
serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed: make setup")

PACKAGE = Path(__file__).resolve().parents[1] / "sam2s_msgs"
MSG_FILES = sorted((PACKAGE / "msg").glob("*.msg"))
SRV_FILES = sorted((PACKAGE / "srv").glob("*.srv"))
FIELD = re.compile(r"^(?P<type>[\w/]+(\[\d*\])?) (?P<name>[a-z][a-z0-9_]*) *(# (?P<comment>.+))?$")
CONSTANT = re.compile(r"^(u?int\d+|string) [A-Z][A-Z0-9_]*=\S+ *# .+$")

RECORDED = {
    "TrackedObjectArray": "RIHS01_d86f51e3cf120fef2138538a875f71322b19c22d302c4b66a1de9c053d39e12e",
    "LabelTable": "RIHS01_9a0f7ad0eee10a2cc123bcc78d0e61a4427ada6fe6617587ae0d5194f1b24b34",
    "SuggestionArray": "RIHS01_aa7d6c08ac4cc9560942d41e43fa49f2a776ded1453734d24a4404aca434100a",
    "Prompt": "RIHS01_ae82cb04937084ebb31292316f502cb3ab082167d2521dff640523244dc26678",
}
"""Type hashes of what ends up in bags. After a change, no bag recorded so far plays into live subscribers."""


def lines_with_content(path: Path) -> list[str]:
    """The lines that declare something: no comments, blanks or service separators."""
    return [
        line for line in path.read_text().splitlines() if line.strip() not in {"", "---"} and line[0] != "#"
    ]


def message_class(path: Path) -> type:
    """The class that rosidl generated for a .msg file."""
    return getattr(msg, path.stem)  # type: ignore[no-any-return]


def service_parts(path: Path) -> tuple[type, type]:
    """The request and response classes of a .srv file."""
    service = getattr(srv, path.stem)
    return service.Request, service.Response


def fill(message: Any, counter: list[int]) -> Any:
    """Give every field of `message` a value of its own that is not its default, nested ones too."""
    for name, kind in message.get_fields_and_field_types().items():
        counter[0] += 1
        setattr(message, name, example(kind, getattr(message, name), counter))
    return message


def example(kind: str, default: Any, counter: list[int]) -> Any:
    """A value of the rosidl type `kind` that no other field has (within the range of 8 bits)."""
    number = counter[0]
    if fixed := re.fullmatch(r"double\[(\d+)\]", kind):
        return np.arange(number, number + int(fixed[1]), dtype=np.float64)
    if sequence := re.fullmatch(r"sequence<(.+)>", kind):
        if isinstance(default, array.array):
            return array.array(default.typecode, [number % 200, 1])
        if isinstance(default, bytes):
            return bytes([number % 200, 1])
        return [fill(nested_class(sequence[1])(), counter) for _ in range(2)]
    if kind == "boolean":
        return True
    if kind == "string":
        return f"text {number}"
    if kind in {"float", "double"}:
        return number + 0.5
    if "/" in kind:
        return fill(type(default)(), counter)
    return number % 200 + 1


def nested_class(kind: str) -> type:
    """The class of `sam2s_msgs/X`; sequences hold messages of no other package."""
    package, name = kind.split("/")
    assert package == "sam2s_msgs"
    return getattr(msg, name)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def typestore() -> Typestore:
    """rosbags' types of ROS 2 Kilted with ours, read from the .msg files as a lab without ROS would."""
    store = get_typestore(Stores.ROS2_KILTED)
    types: dict[str, Any] = {}
    for path in MSG_FILES:
        types.update(get_types_from_msg(path.read_text(), f"sam2s_msgs/msg/{path.stem}"))
    store.register(types)
    return store


@pytest.mark.parametrize("path", MSG_FILES + SRV_FILES, ids=lambda path: path.stem)
def test_every_field_says_its_unit_and_range(path: Path) -> None:
    """Each field has a comment, and a number's begins with its unit or range in brackets."""
    assert path.read_text().startswith("# "), "the file does not begin with what it is for"
    for line in lines_with_content(path):
        if CONSTANT.match(line):
            continue
        field = FIELD.match(line)
        assert field and field["comment"], f"{path.name}: no comment: {line}"
        if re.match(r"u?int|float|bool", field["type"]):
            assert re.match(r"\[.+\]", field["comment"]), f"{path.name}: no unit or range: {line}"


@pytest.mark.parametrize("path", MSG_FILES, ids=lambda path: path.stem)
def test_a_number_that_may_be_unknown_says_nan(path: Path) -> None:
    """Of the file or of the field: what is not known is NaN, never 0."""
    floats = [line for line in lines_with_content(path) if re.match(r"float(32|64) ", line)]
    text = path.read_text()
    for line in floats:
        assert "NaN" in line or "What is not known is NaN" in text, f"{path.name}: {line}"


def test_cmake_builds_exactly_the_files_that_exist() -> None:
    """A message forgotten in CMakeLists.txt would be missing only on other people's machines."""
    cmake = (PACKAGE / "CMakeLists.txt").read_text()
    listed = set(re.findall(r"^ +((?:msg|srv)/\w+\.(?:msg|srv))$", cmake, re.M))
    assert listed == {str(path.relative_to(PACKAGE)) for path in MSG_FILES + SRV_FILES}


def test_package_xml_names_every_message_package_used() -> None:
    """The types used from elsewhere, the manifest and CMake's DEPENDENCIES are the same set."""
    text = "\n".join(line for path in MSG_FILES + SRV_FILES for line in lines_with_content(path))
    used = set(re.findall(r"^(\w+)/", text, re.M))
    manifest = ElementTree.parse(PACKAGE / "package.xml").getroot()
    assert used == {element.text for element in manifest.findall("depend")}
    cmake = re.search(r"DEPENDENCIES (.+)", (PACKAGE / "CMakeLists.txt").read_text())
    assert cmake and used == set(cmake[1].split())


@pytest.mark.parametrize("path", MSG_FILES, ids=lambda path: path.stem)
def test_generated_message_has_the_fields_of_its_file(path: Path) -> None:
    """The installed classes are those of this source tree, not of an older build."""
    declared = [match["name"] for line in lines_with_content(path) if (match := FIELD.match(line))]
    assert list(message_class(path).get_fields_and_field_types()) == declared  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", MSG_FILES, ids=lambda path: path.stem)
def test_message_survives_serialization_in_every_field(path: Path) -> None:
    """What is published is what arrives, with every field set to a value of its own."""
    message = fill(message_class(path)(), [0])
    assert message != message_class(path)()
    data = serialization.serialize_message(message)
    assert serialization.deserialize_message(data, type(message)) == message


@pytest.mark.parametrize("path", SRV_FILES, ids=lambda path: path.stem)
def test_service_survives_serialization_in_every_field(path: Path) -> None:
    """Both parts arrive as they were sent, and each response says success, message, error and stamp."""
    for part in service_parts(path):
        message = fill(part(), [0])
        assert serialization.deserialize_message(serialization.serialize_message(message), part) == message
    response = service_parts(path)[1].get_fields_and_field_types()  # type: ignore[attr-defined]
    assert {"success", "message", "error", "stamp"} <= response.keys()


def test_nan_survives_serialization() -> None:
    """NaN is how an unknown number is said, so it must not be refused or changed on the way."""
    message = msg.TrackedObject(presence=float("nan"), centroid=msg.Point2D(x=float("nan"), y=float("nan")))
    message.centroid_covariance = np.full(4, np.nan)
    received = serialization.deserialize_message(serialization.serialize_message(message), msg.TrackedObject)
    assert np.isnan([received.presence, received.centroid.x, *received.centroid_covariance]).all()


def test_states_and_statuses_have_the_documented_values() -> None:
    """The numbers that controllers compare with."""
    states = msg.TrackedObject
    assert [states.TRACKING, states.UNCERTAIN, states.OCCLUDED, states.LOST] == [0, 1, 2, 3]
    statuses = msg.TrackedObjectArray
    assert [statuses.OK, statuses.NO_INPUT, statuses.STALE, statuses.ENGINE_FAILED] == [0, 1, 2, 3]
    assert [msg.Prompt.NEGATIVE, msg.Prompt.POSITIVE] == [0, 1]


@pytest.mark.parametrize("path", MSG_FILES, ids=lambda path: path.stem)
def test_rosbags_reads_what_rclpy_writes(path: Path, typestore: Typestore) -> None:
    """A bag of live messages is read without ROS, and what rosbags writes is the same message to rclpy."""
    message = fill(message_class(path)(), [0])
    name = f"sam2s_msgs/msg/{path.stem}"
    read = typestore.deserialize_cdr(serialization.serialize_message(message), name)
    written = bytes(typestore.serialize_cdr(read, name))
    assert serialization.deserialize_message(written, type(message)) == message


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_types_have_not_changed(name: str, typestore: Typestore) -> None:
    """Fields of recorded messages are final: add a new message instead."""
    assert typestore.hash_rihs01(f"sam2s_msgs/msg/{name}") == RECORDED[name]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_type_hash_of_a_live_topic_is_the_one_in_bags(name: str, ros: None, typestore: Typestore) -> None:
    """rosidl and rosbags agree on what the message is, so a recorded bag plays into a live subscriber."""
    import rclpy

    node = rclpy.create_node("type_hash")
    publisher = node.create_publisher(getattr(msg, name), "topic", 1)
    (info,) = node.get_publishers_info_by_topic(publisher.topic_name)
    if not hasattr(info, "topic_type_hash"):
        pytest.skip("this ROS distribution has no type hashes (they came with Iron)")
    live = f"RIHS{info.topic_type_hash.version:02d}_{bytes(info.topic_type_hash.value).hex()}"
    node.destroy_node()
    assert live == typestore.hash_rihs01(f"sam2s_msgs/msg/{name}")
