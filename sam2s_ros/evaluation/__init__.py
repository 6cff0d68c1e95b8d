"""How well objects are followed: recorded video with ground truth in, metrics and a report out.

`sources` finds what a command line names; `sequences`, `bags` and `videos` read frames with label images, `prompts`
simulates the operator, `evaluate` runs a tracker or one of the `baselines` over them, and `real_time` does so against
the recorded time. `frame_scorer` measures the masks of a frame with `metrics`, `distances` and
`consistency`; `records` keeps what it found, one row per frame and object, and everything after that reads only these
rows: `summary`, `report_page`, `compare`. No ROS installation is needed.
"""
