"""When the demo prompts an object: on the image of its first appearance, if the node has tracked it."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: make setup")
pytest.importorskip("sam2s_msgs.msg", reason="the messages are not built: make setup")

from sam2s_msgs.msg import ErrorCode, Prompt  # noqa: E402
from sam2s_msgs.srv import AddObject  # noqa: E402
from sam2s_ros.nodes import client as client_module  # noqa: E402
from sam2s_ros.nodes.client import Sam2sClient  # noqa: E402
from sam2s_ros.nodes.client_results import (  # noqa: E402
    PromptResult,
    TrackerError,
    TrackerTimeout,
    TrackerUnavailable,
    prompt_result,
)
from sam2s_ros.nodes.demo_prompting import FirstAppearance, prompt_waiting  # noqa: E402
from sam2s_ros.nodes.messages import stamp_to_ns  # noqa: E402


def block(area: int) -> np.ndarray:
    mask = np.zeros((8, 8), bool)
    mask.ravel()[:area] = True
    return mask


def test_an_object_is_not_prompted_before_the_node_has_answered_to_its_image():
    prompter = FirstAppearance()
    prompter.truth_arrived(10, {3: block(4)})
    assert prompter.next_choices() == []
    prompter.image_tracked(10)
    (choice,) = prompter.next_choices()
    assert (choice.key, choice.stamp_ns) == (3, 10)


def test_when_the_node_skips_the_first_image_the_next_tracked_one_that_shows_the_object_is_prompted():
    prompter = FirstAppearance()
    for stamp, masks in ((10, {1: block(4)}), (20, {}), (30, {1: block(6)})):
        prompter.truth_arrived(stamp, masks)
    prompter.image_tracked(20)
    assert prompter.next_choices() == []
    prompter.image_tracked(30)
    (choice,) = prompter.next_choices()
    assert choice.stamp_ns == 30 and choice.mask.sum() == 6
    assert prompter.prompted(choice) == 2


def test_a_prompted_object_is_not_prompted_again():
    prompter = FirstAppearance()
    prompter.truth_arrived(10, {1: block(4)})
    prompter.image_tracked(10)
    (choice,) = prompter.next_choices()
    prompter.prompted(choice)
    prompter.truth_arrived(20, {1: block(4)})
    prompter.image_tracked(20)
    assert prompter.next_choices() == [] and not prompter.waiting


def test_a_few_pixels_are_no_appearance():
    prompter = FirstAppearance(smallest_area=5)
    prompter.truth_arrived(10, {1: block(4)})
    prompter.truth_arrived(20, {1: block(5)})
    prompter.image_tracked(20)
    (choice,) = prompter.next_choices()
    assert choice.stamp_ns == 20


def test_finished_when_all_wanted_objects_are_prompted():
    prompter = FirstAppearance(frozenset({0, 1}))
    prompter.truth_arrived(10, {0: block(4), 1: block(4), 2: block(4)})
    prompter.image_tracked(10)
    assert prompter.waiting == {0: 10, 1: 10}
    choices = prompter.next_choices()
    assert [choice.key for choice in choices] == [0, 1]
    for choice in choices:
        assert not prompter.finished
        prompter.prompted(choice)
    assert prompter.finished


class Node:
    """Answers add_object as `Sam2sClient` does."""

    def __init__(self, refusals: list[int]) -> None:
        self.refusals = refusals
        self.asked: list[int] = []

    def add_object_async(self, name: str, class_name: str, prompt: Prompt) -> Future[PromptResult]:
        self.asked.append(stamp_to_ns(prompt.stamp))
        answer: Future[PromptResult] = Future()
        if self.refusals:
            answer.set_exception(TrackerError("refused", self.refusals.pop(0)))
        else:
            answer.set_result(added(7))
        return answer


def added(object_id: int) -> PromptResult:
    return prompt_result(AddObject.Response(id=object_id))


def two_tracked_images() -> FirstAppearance:
    prompter = FirstAppearance()
    for stamp in (10, 20):
        prompter.truth_arrived(stamp, {1: block(4)})
        prompter.image_tracked(stamp)
    return prompter


def test_an_evicted_image_is_given_up_for_a_newer_one():
    node = Node([ErrorCode.UNKNOWN_STAMP])
    accepted = prompt_waiting(node, two_tracked_images(), {1: "tool"})
    assert node.asked == [10, 20]
    assert [(item.name, item.object_id, item.stamp_ns) for item in accepted] == [("tool", 7, 20)]


def test_any_other_refusal_ends_the_demo():
    with pytest.raises(TrackerError, match="refused"):
        prompt_waiting(Node([ErrorCode.TOO_MANY_OBJECTS]), two_tracked_images(), {})


def test_all_prompts_that_are_due_are_given_before_the_first_answer_is_awaited():
    """The answers of this node come only when both objects have been asked for."""
    prompter, answers = FirstAppearance(), []
    prompter.truth_arrived(10, {1: block(4), 2: block(5)})
    prompter.image_tracked(10)

    class WaitingNode:
        def add_object_async(self, name: str, class_name: str, prompt: Prompt) -> Future[PromptResult]:
            answers.append(Future())
            if len(answers) == 2:
                for object_id, answer in enumerate(answers, start=1):
                    answer.set_result(added(object_id))
            return answers[-1]

    accepted = prompt_waiting(WaitingNode(), prompter, {}, timeout_s=1.0)
    assert [(item.key, item.object_id) for item in accepted] == [(1, 1), (2, 2)]


def test_a_node_that_does_not_answer_ends_the_demo():
    class SilentNode:
        def add_object_async(self, name: str, class_name: str, prompt: Prompt) -> Future[PromptResult]:
            return Future()

    with pytest.raises(TrackerTimeout, match="no answer to adding 'tool' within 0.01 s"):
        prompt_waiting(SilentNode(), two_tracked_images(), {1: "tool"}, timeout_s=0.01)


class _DroppingService:
    """A service whose node drops its first answers, as it does for a client that it has not discovered yet."""

    def __init__(self, dropped: int) -> None:
        self.srv_name = "get_state"
        self.calls, self._dropped = 0, dropped

    def wait_for_service(self, timeout_sec: float) -> bool:
        return True

    def call_async(self, request: object) -> Future[str]:
        self.calls += 1
        future: Future[str] = Future()
        if self.calls > self._dropped:
            future.set_result("unconfigured")
        return future


class _NodeOfOneService:
    def __init__(self, service: _DroppingService) -> None:
        self._service = service

    def create_client(self, kind: object, name: str, **options: object) -> _DroppingService:
        return self._service


def test_a_dropped_first_answer_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(client_module, "ASK_AGAIN_S", 0.01)
    service = _DroppingService(dropped=2)
    Sam2sClient(_NodeOfOneService(service)).wait_until_up(5.0)
    assert service.calls == 3
    with pytest.raises(TrackerUnavailable, match=r"did not come up within 0.1 s"):
        Sam2sClient(_NodeOfOneService(_DroppingService(dropped=10**9))).wait_until_up(0.1)
