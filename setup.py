"""ament_python package: colcon reads this file, and so does pip for the Makefile's environment."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

NAME = "sam2s_ros"


def share(folder: str) -> tuple[str, list[str]]:
    """Pair the share directory of one folder with the files in it, for setuptools' data_files."""
    files = sorted(str(path) for path in Path(folder).glob("*") if path.is_file())
    return f"share/{NAME}/{folder}", files


setup(
    name=NAME,
    version="0.1.0",
    description="Streaming segmentation of surgical video for robots (SAM 2.1, SAM2S) as a ROS 2 node",
    maintainer="sam2s_ros maintainers",
    maintainer_email="maintainers@example.org",
    license="Apache-2.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    python_requires=">=3.10",
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        share("config"),
        share("launch"),
        share("models"),
    ],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"sam2s = {NAME}.cli:main",
            f"replay = {NAME}.nodes.replay:main",
            f"score_replay = {NAME}.nodes.replay_scorer:main",
            f"synthetic_camera = {NAME}.nodes.synthetic_camera:main",
            f"tracker = {NAME}.nodes.tracker_node:main",
        ],
    },
)
