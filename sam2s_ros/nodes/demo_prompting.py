"""The demo's operator: activates the tracker node and adds each object by its true mask where it appears."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.client import Client
from rclpy.node import Node

from sam2s_msgs.msg import ErrorCode
from sam2s_ros.evaluation.prompts import first_prompt
from sam2s_ros.nodes.client import Sam2sClient
from sam2s_ros.nodes.client_requests import prompt_message
from sam2s_ros.nodes.client_results import TrackerError, TrackerTimeout, TrackerUnavailable

BoolArray = npt.NDArray[np.bool_]
REMEMBERED_FRAMES = 64
TRY_AGAIN = (ErrorCode.UNKNOWN_STAMP, ErrorCode.NO_IMAGE)


@dataclass(frozen=True)
class PromptChoice:
    """One object to be added on one image."""

    key: int
    stamp_ns: int
    mask: BoolArray


@dataclass(frozen=True)
class PromptedObject:
    """An object as the node accepted it: `key` is its label value or index in the ground truth."""

    key: int
    name: str
    object_id: int
    stamp_ns: int
    frames_after_appearance: int
    call_ms: float


class FirstAppearance:
    """Chooses the image on which each object is prompted: its first one, or the next that the node tracked.

    A frame that the node has skipped cannot be prompted, so a choice is made only when the node's answer to
    that frame, or to a later one, has arrived. Safe to feed from another thread than the one that asks.
    """

    def __init__(self, keys: frozenset[int] | None = None, smallest_area: int = 1) -> None:
        """`keys`: the objects wanted, None for all; `smallest_area`: pixels, less is not an appearance."""
        self._keys = keys
        self._smallest_area = smallest_area
        self._lock = threading.Lock()
        self._truth: dict[int, Mapping[int, BoolArray]] = {}
        self._appeared: dict[int, int] = {}
        self._tracked: set[int] = set()
        self._newest_tracked_ns = 0
        self._done: set[int] = set()

    @property
    def finished(self) -> bool:
        """Whether all wanted objects have been prompted; never where all that appear are wanted."""
        with self._lock:
            return self._keys is not None and self._done >= self._keys

    @property
    def waiting(self) -> dict[int, int]:
        """Objects that have appeared and have not been prompted yet, with the stamp in ns of their first image."""
        with self._lock:
            return {key: stamp_ns for key, stamp_ns in self._appeared.items() if key not in self._done}

    def truth_arrived(self, stamp_ns: int, masks: Mapping[int, BoolArray]) -> None:
        """Masks bool [H, W] by object key of the image with this stamp; empty or left out: not in view."""
        with self._lock:
            visible = {
                key: mask
                for key, mask in masks.items()
                if (self._keys is None or key in self._keys)
                and key not in self._done
                and np.count_nonzero(mask) >= self._smallest_area
            }
            self._truth[stamp_ns] = visible
            for key in visible:
                self._appeared.setdefault(key, stamp_ns)
            while len(self._truth) > REMEMBERED_FRAMES:
                del self._truth[min(self._truth)]
            self._tracked = {stamp for stamp in self._tracked if stamp >= min(self._truth)}

    def image_tracked(self, stamp_ns: int) -> None:
        """The node has published objects for the image with this stamp."""
        with self._lock:
            self._tracked.add(stamp_ns)
            self._newest_tracked_ns = max(self._newest_tracked_ns, stamp_ns)

    def next_choices(self) -> list[PromptChoice]:
        """The prompts that can be given now, at most one for each object, the oldest appearance first."""
        with self._lock:
            waiting = sorted(
                (stamp_ns, key) for key, stamp_ns in self._appeared.items() if key not in self._done
            )
            choices = (
                self._choice(key, appeared_ns)
                for appeared_ns, key in waiting
                if appeared_ns <= self._newest_tracked_ns
            )
            return [choice for choice in choices if choice is not None]

    def _choice(self, key: int, appeared_ns: int) -> PromptChoice | None:
        for stamp_ns in sorted(self._tracked & self._truth.keys()):
            if stamp_ns >= appeared_ns and key in self._truth[stamp_ns]:
                return PromptChoice(key, stamp_ns, self._truth[stamp_ns][key])
        return None

    def prompted(self, choice: PromptChoice) -> int:
        """Note that the node took this prompt; returns how many frames after the appearance it was placed."""
        with self._lock:
            self._done.add(choice.key)
            appeared_ns = self._appeared[choice.key]
            return sum(1 for stamp_ns in self._truth if appeared_ns <= stamp_ns < choice.stamp_ns)

    def refused(self, choice: PromptChoice) -> None:
        """Forget an image that the node no longer keeps, so that a newer one is chosen."""
        with self._lock:
            self._tracked.discard(choice.stamp_ns)


def bring_to_active(node: Node, client: Sam2sClient, timeout_s: float) -> None:
    """Configure and activate the tracker node, `timeout_s` for each step; TrackerError if it does not get there.

    `node` must be spun by another thread. The client has met the tracker node already (`wait_until_up`).
    """
    change_state: Client = node.create_client(ChangeState, f"{client.tracker}/change_state")
    try:
        for name, transition in (
            ("configure", Transition.TRANSITION_CONFIGURE),
            ("activate", Transition.TRANSITION_ACTIVATE),
        ):
            request = ChangeState.Request(transition=Transition(id=transition))
            if not _answer(change_state, request, timeout_s).success:
                raise TrackerError(f"the node {client.tracker} could not {name}")
    finally:
        node.destroy_client(change_state)


def prompt_waiting(
    client: Sam2sClient,
    prompter: FirstAppearance,
    names: Mapping[int, str],
    timeout_s: float = 10.0,
    protocol: str = "mask",
) -> list[PromptedObject]:
    """Give the node every prompt that is due, as mask, box or click, all at once, and return what it accepted.

    A prompt for an image that the node no longer keeps is left for a newer image; any other refusal is
    raised, and so is an answer that does not come within `timeout_s`.
    """
    accepted = []
    while choices := prompter.next_choices():
        start = time.perf_counter()
        asked = []
        for choice in choices:
            name = names.get(choice.key, f"object {choice.key}")
            prompt = prompt_message(**first_prompt(choice.mask, protocol), stamp_ns=choice.stamp_ns)
            asked.append((choice, name, client.add_object_async(name, "", prompt)))
        for choice, name, answer in asked:
            try:
                added = answer.result(timeout_s)
            except FutureTimeoutError:
                raise TrackerTimeout(f"no answer to adding '{name}' within {timeout_s:g} s") from None
            except TrackerError as error:
                if error.code not in TRY_AGAIN:
                    raise
                prompter.refused(choice)
                continue
            call_ms = round(1000 * (time.perf_counter() - start), 1)
            late = prompter.prompted(choice)
            accepted.append(PromptedObject(choice.key, name, added.id, choice.stamp_ns, late, call_ms))
    return accepted


def _answer(client: Client, request: Any, timeout_s: float) -> Any:
    if not client.wait_for_service(timeout_sec=timeout_s):
        raise TrackerUnavailable(f"no service {client.srv_name} within {timeout_s:g} s")
    arrived = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: arrived.set())
    if not arrived.wait(timeout_s):
        raise TrackerTimeout(f"{client.srv_name} did not answer within {timeout_s:g} s")
    return future.result()
