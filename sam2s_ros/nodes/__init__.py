"""The ROS 2 side, the only room that imports rclpy or ROS messages: lifecycle node, conversions, demo.

Everything that decides anything about a mask lies in `sam2s_ros.tracking`; nodes turn messages into arrays, keep
the newest image moving, and turn results into messages with the stamps and frame ids they came with.
"""
