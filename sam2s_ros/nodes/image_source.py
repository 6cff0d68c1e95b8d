"""The image subscription: counts what arrives, notices what does not, and says what to do about it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image

from sam2s_ros.nodes.image_transport import profile_variable
from sam2s_ros.nodes.messages import stamp_to_ns
from sam2s_ros.nodes.stream_counter import StreamCounter

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

NEWEST_IMAGE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
WARNING_PERIOD_S = 10.0
SILENT_AFTER_S = 2.0
"""What a publisher that has been discovered, and a node that has become active, have for the first image."""


@dataclass(frozen=True)
class ReceivedImage:
    """An image message and when it came: by the node's clock, and in seconds of the monotonic clock."""

    message: Image | CompressedImage
    received: Time
    received_s: float
    publisher: Hashable = None
    """Who sent it; None where the middleware does not tell."""


class ImageSource:
    """Subscribes `image` or `image/compressed` and hands each message to `deliver`, as it is."""

    def __init__(
        self, node: Node, transport: str, counter: StreamCounter, deliver: Callable[[ReceivedImage], None]
    ) -> None:
        self._node, self._counter, self._deliver = node, counter, deliver
        self._warned_lost = 0
        self._since_s = time.monotonic()
        """Since when images could have come: active, and a publisher seen."""
        compressed = transport == "compressed"
        self._subscription = self._subscribe(
            CompressedImage if compressed else Image, "image/compressed" if compressed else "image"
        )

    @property
    def topic(self) -> str:
        """The topic after remapping."""
        return str(self._subscription.topic_name)

    def warn_if_silent(self) -> None:
        """Warn when there is a publisher but no image at all has come from it. To be called now and then."""
        if self._counter.counts().received:
            return
        publishers = self._node.count_publishers(self.topic)
        if not publishers:
            self._since_s = time.monotonic()
        elif time.monotonic() - self._since_s >= SILENT_AFTER_S:
            self._node.get_logger().warning(
                f"{publishers} publisher(s) on {self.topic} but no image has arrived: {_transport_hint()}",
                throttle_duration_sec=WARNING_PERIOD_S,
            )

    def destroy(self) -> None:
        """Undo the constructor."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self, message_type: type, topic: str) -> Subscription:
        options: dict[str, Any] = {"callback_group": MutuallyExclusiveCallbackGroup()}
        try:
            callbacks = SubscriptionEventCallbacks(message_lost=self._on_lost)
            subscription = self._node.create_subscription(
                message_type, topic, self._on_image, NEWEST_IMAGE, event_callbacks=callbacks, **options
            )
        except UnsupportedEventTypeError:  # this RMW does not report losses; the gaps between stamps remain
            return self._node.create_subscription(
                message_type, topic, self._on_image, NEWEST_IMAGE, **options
            )
        self._counter.set_lost_in_transport(0)
        return subscription

    def _on_image(self, message: Image | CompressedImage, info: Any) -> None:
        publisher, number = _origin(info)
        received = ReceivedImage(message, self._node.get_clock().now().to_msg(), time.monotonic(), publisher)
        self._counter.add_received(stamp_to_ns(message.header.stamp), publisher, number)
        self._deliver(received)
        self._warn_if_lost()

    def _on_lost(self, event: Any) -> None:
        self._counter.set_lost_in_transport(event.total_count)
        self._warn_if_lost()

    def _warn_if_lost(self) -> None:
        counts = self._counter.counts()
        if counts.lost > self._warned_lost:
            self._warned_lost = counts.lost
            self._node.get_logger().warning(
                f"{counts.lost} of {counts.lost + counts.received} images on {self.topic} were lost before "
                f"they reached this node: {_transport_hint()}",
                throttle_duration_sec=WARNING_PERIOD_S,
            )


def _transport_hint() -> str:
    """What to do about images that do not arrive; the profile is not to blame where it is set."""
    variable = profile_variable()
    if os.environ.get(variable):
        return (
            f"{variable} is set for this node: look whether the publisher's process has it too, sends at all, sends "
            "the type that image_transport means, and has enough shared memory in a container (--shm-size=512m)"
        )
    return (
        "large images need the Fast DDS profile: start the publisher and this node with "
        f"{variable}=<share of sam2s_ros>/config/fastdds_profile.xml (launch/tracker.launch.py does so for this node), "
        "and in a container with enough shared memory (--shm-size=512m)"
    )


def _origin(info: Any) -> tuple[Hashable, int]:
    """Publisher and sequence number of a sample, as far as this rclpy and its middleware tell them."""
    facts = info if isinstance(info, dict) else {}
    publisher = facts.get("publisher_gid")
    key = str(publisher) if isinstance(publisher, (list, dict)) else publisher
    number = facts.get("publication_sequence_number") or 0
    return key, int(number)
