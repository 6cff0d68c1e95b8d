"""Topics of their own for each object, of geometry_msgs, for those who want one number and no array.

`~/objects/id_7/pixel` PointStamped: the centroid in px of the tracked image, z 0. `~/objects/id_7/centroid` and `tip`
PoseWithCovarianceStamped in m, in the image's optical frame, where 3-D is known; the orientation is not, and has the
variance of an angle that may be anything. `~/objects/id_7/right_pixel`: the centroid in the right image of a pair.
Published only for objects that are TRACKING, on images that may be acted on: these messages have no field for a state.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import PointStamped, PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from sam2s_msgs.msg import TrackedObject, TrackedObjectArray

ANY_ANGLE_VARIANCE = math.pi**2 / 3
"""Of an angle that is uniform on the circle, rad^2."""
KINDS: dict[str, type] = {
    "pixel": PointStamped,
    "right_pixel": PointStamped,
    "centroid": PoseWithCovarianceStamped,
    "tip": PoseWithCovarianceStamped,
}


class ObjectTopics:
    """Creates the publishers of an object with it and destroys them after it, so there are as many as objects.

    They are no lifecycle publishers: one that is created while the node is active would stay silent until the next
    activation. Objects exist only while the node is active.
    """

    def __init__(self, node: Node, range_input: str, qos: QoSProfile) -> None:
        self._node, self._qos = node, qos
        wanted = {"off": 1, "depth": 4, "stereo": 4}[range_input]
        names = ("pixel", "centroid", "tip", "right_pixel")[:wanted]
        self._names = tuple(name for name in names if name != "right_pixel" or range_input == "stereo")
        self._publishers: dict[int, dict[str, Any]] = {}

    def keep(self, ids: Collection[int]) -> None:
        """Have publishers for these objects and for no others."""
        for gone in self._publishers.keys() - set(ids):
            for one in self._publishers.pop(gone).values():
                self._node.destroy_publisher(one)
        for new in set(ids) - self._publishers.keys():
            self._publishers[new] = {
                name: self._node.create_publisher(KINDS[name], f"~/objects/id_{new}/{name}", self._qos)
                for name in self._names
            }

    def publish(self, message: TrackedObjectArray, right: npt.NDArray[np.float64] | None = None) -> None:
        """Publish what is known of the objects; `right` [N, 2] px, their centroids in the right image."""
        if message.status != TrackedObjectArray.OK:
            return
        for row, one in enumerate(message.objects):
            publishers = self._publishers.get(one.id)
            if publishers is None or one.state != TrackedObject.TRACKING or math.isnan(one.centroid.x):
                continue
            publishers["pixel"].publish(_pixel(message.header, one.centroid.x, one.centroid.y))
            if one.has_position:
                centroid = _pose(message.header, one.position, one.position_covariance)
                publishers["centroid"].publish(centroid)
                if not math.isnan(one.tip_position.z):
                    tip = _pose(message.header, one.tip_position, one.tip_position_covariance)
                    publishers["tip"].publish(tip)
            if right is not None and "right_pixel" in publishers and np.isfinite(right[row]).all():
                publishers["right_pixel"].publish(_pixel(message.header, *map(float, right[row])))


def _pixel(header: Header, x: float, y: float) -> PointStamped:
    message = PointStamped(header=header)
    message.point.x, message.point.y = x, y
    return message


def _pose(header: Header, position: Any, covariance: Any) -> PoseWithCovarianceStamped:
    message = PoseWithCovarianceStamped(header=header)
    message.pose.pose.position = position
    message.pose.pose.orientation.w = 1.0
    spread = np.zeros((6, 6))
    spread[:3, :3] = np.asarray(covariance).reshape(3, 3)
    spread[[3, 4, 5], [3, 4, 5]] = ANY_ANGLE_VARIANCE
    message.pose.covariance = spread.ravel()
    return message
