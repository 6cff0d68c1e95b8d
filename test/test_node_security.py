"""config/security.policy.xml grants the real node, client and player all that they use, and nothing else."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from node_harness import Client, block_mask, mask, node_in_this_process

from sam2s_msgs.msg import Prompt
from sam2s_ros.nodes.client import Sam2sClient
from sam2s_ros.nodes.tracker_node import TrackerNode

POLICY = Path(__file__).resolve().parents[1] / "config" / "security.policy.xml"
RIGHTS = {"publish": "publisher", "subscribe": "subscriber", "reply": "service", "request": "client"}
"""Attribute of the policy -> kind of ROS entity that needs it."""

WITH_OTHER_PARAMETERS = {
    "subscribe": {"/image/compressed", "/depth", "/clock"},
    "publish": {"/tracker/detections"},  # where vision_msgs is installed
}
"""What the node in this test does not use: the other transport, depth, simulated time."""

BY_HAND = {
    "subscribe": {"/tracker/objects", "/tracker/label_table", "/tracker/overlay"},
}
"""What a console is allowed beside what `Sam2sClient` uses."""


def granted(enclave: str) -> dict[str, set[str]]:
    """Right -> full names, with `*`, that an enclave is allowed."""
    found: dict[str, set[str]] = {right: set() for right in RIGHTS}
    profile = ElementTree.parse(POLICY).find(f"enclaves/enclave[@path='{enclave}']/profiles/profile")
    assert profile is not None
    namespace, node = profile.attrib["ns"].rstrip("/"), profile.attrib["node"]
    for group in profile:
        rights = [right for right, qualifier in group.attrib.items() if qualifier == "ALLOW"]
        assert len(rights) == len(group.attrib) == 1, "one right for each list, or the list grants too much"
        for expression in group:
            name = str(expression.text)
            if name.startswith("~/"):
                name = f"{namespace}/{node}{name[1:]}"
            elif not name.startswith("/"):
                name = f"{namespace}/{name}"
            found[rights[0]].add(name)
    return found


def used(node: Any) -> dict[str, set[str]]:
    """Right -> full names that a node has use for, as the graph shows it."""
    name, namespace = node.get_name(), node.get_namespace()
    return {
        right: {one for one, _ in getattr(node, f"get_{kind}_names_and_types_by_node")(name, namespace)}
        for right, kind in RIGHTS.items()
    }


def denied(use: dict[str, set[str]], grant: dict[str, set[str]]) -> list[str]:
    """What is used and not granted."""
    return [
        f"{right} {name}"
        for right, names in use.items()
        for name in sorted(names)
        if not any(fnmatchcase(name, pattern) for pattern in grant[right])
    ]


def idle(use: dict[str, set[str]], grant: dict[str, set[str]], excused: dict[str, set[str]]) -> list[str]:
    """What is granted and not used."""
    return [
        f"{right} {pattern}"
        for right, patterns in grant.items()
        for pattern in sorted(patterns - excused.get(right, set()))
        if not pattern.endswith("/get_type_description")
        and not any(fnmatchcase(one, pattern) for one in use[right])
    ]


@pytest.fixture(scope="module")
def node() -> Iterator[TrackerNode]:
    """A node with all that it can publish at once, tracking one object."""
    settings = {"range_input": "stereo", "object_topics": True, "threads": 1}
    with node_in_this_process(settings) as (node, client):
        track_one(client)
        yield node


def track_one(client: Client) -> None:
    client.track()
    answer = client.call("add_object", name="grasper", prompt=Prompt(**mask(block_mask())))
    assert answer.success, answer.message
    client.track()


def test_the_tracker_is_granted_what_it_uses_and_nothing_else(node: TrackerNode) -> None:
    """A topic or service added to the node and not to the policy would stay silent on a secured robot."""
    use, grant = used(node), granted("/sam2s/tracker")
    assert any("/objects/id_1/" in name for name in use["publish"])
    assert denied(use, grant) == []
    assert idle(use, grant, WITH_OTHER_PARAMETERS) == []
    assert grant["request"] == set(), "the tracker calls nobody"


def test_a_console_is_granted_what_its_client_uses_and_cannot_steer_the_node(node: TrackerNode) -> None:
    grant = granted("/sam2s/console")
    with Sam2sClient() as client:
        client.list_objects()
        client.suggestions()
        assert client._own is not None
        deadline, use = time.monotonic() + 10, used(client._own.node)
        while "/tracker/suggestions" not in use["subscribe"] and time.monotonic() < deadline:
            use = used(client._own.node)
    assert denied(use, grant) == []
    assert idle(use, grant, BY_HAND) == []
    steering = re.compile(r"/(change_state|set_parameters.*)$")
    assert not [name for name in grant["request"] if steering.search(name)]
    assert not [name for name in grant["publish"] if "image" in name]
    served = granted("/sam2s/tracker")["reply"]
    assert grant["request"] <= served, "a service that the tracker does not have"


def test_a_replay_publishes_images_and_asks_for_nothing() -> None:
    grant, tracker = granted("/sam2s/replay"), granted("/sam2s/tracker")
    assert grant["request"] == set()
    images = {name for name in grant["publish"] if "image" in name}
    assert images == {"/image", "/image/compressed"} <= tracker["subscribe"]
    assert grant["subscribe"] - {"/clock"} <= tracker["publish"]


def test_what_the_policy_lacks_would_be_seen(node: TrackerNode) -> None:
    """The checks above do find a missing and a needless grant."""
    use, grant = used(node), granted("/sam2s/tracker")
    grant["publish"].remove("/tracker/objects")
    grant["subscribe"].add("/cmd_vel")
    assert denied(use, grant) == ["publish /tracker/objects"]
    assert idle(use, grant, WITH_OTHER_PARAMETERS) == ["subscribe /cmd_vel"]
