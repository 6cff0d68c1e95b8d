"""Trains the model: promptable single images first, then SAM 2's video recipe on growing clips.

One configuration file says everything that a run depends on. The data comes from `sam2s_ros.data`.
"""
