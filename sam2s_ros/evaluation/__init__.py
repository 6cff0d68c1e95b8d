"""How well objects are followed: recorded video with ground truth in, J&F per object out.

`sequences` and `bags` read frames with label images, `prompts` simulates the operator, `evaluate` runs a
tracker or one of the `baselines` over them, and `metrics` and `scoring` measure the masks. No ROS
installation is needed.
"""
