"""The lines that the README gives to colcon users, run as they stand there, on the ROS wheels."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VENV = Path(sys.prefix)

pytestmark = pytest.mark.skipif(
    shutil.which("colcon", path=VENV / "bin") is None, reason="colcon is not installed"
)


def readme_line(pattern: str) -> str:
    """The one line of the README's code blocks that matches."""
    lines = [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]
    matches = sorted({line for line in lines if re.fullmatch(pattern, line)})
    assert len(matches) == 1, f"not one line like {pattern} in README.md: {matches}"
    return matches[0]


def run(line: str, folder: Path, home: Path) -> str:
    """Run a shell line as a user of a sourced ROS installation would; the wheels in this environment are that one."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in {"_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH"}
    }
    environment |= {
        "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(VENV),
        "AMENT_PREFIX_PATH": str(VENV),
        "CMAKE_PREFIX_PATH": str(VENV),
        "COLCON_HOME": str(home / "colcon"),
        "COLCON_LOG_PATH": str(home / "log"),
    }
    result = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert result.returncode == 0, f"{line}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def copy_of_the_tree(target: Path) -> None:
    """What a clone would hold: the files git knows, and those it would know."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def test_colcon_sees_both_packages_by_the_defaults_file(tmp_path: Path) -> None:
    """Left alone, colcon stops at the root's package.xml; the shipped defaults file gives both folders."""
    listed = run("COLCON_DEFAULTS_FILE=colcon_defaults.yaml colcon list --names-only", ROOT, tmp_path)
    assert listed.split() == ["sam2s_msgs", "sam2s_ros"]


def first_line(script: Path) -> str:
    return script.read_text().splitlines()[0]


def test_installed_scripts_run_with_the_python3_of_the_path(tmp_path: Path) -> None:
    """Not with the interpreter that runs colcon, which knows nothing of an activated virtual environment."""
    copy_of_the_tree(tmp_path / "source")
    install = f"{sys.executable} setup.py -q install_scripts --install-dir {tmp_path / 'scripts'}"
    run(install, tmp_path / "source", tmp_path)
    scripts = {path.name: first_line(path) for path in (tmp_path / "scripts").iterdir()}
    assert {"sam2s", "tracker"} <= scripts.keys()
    assert set(scripts.values()) == {"#!/usr/bin/env python3"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_clone_in_a_workspace_builds_with_the_line_of_the_readme(tmp_path: Path) -> None:
    """Cloned into ws/src: both packages build, and what is installed runs from outside the source tree."""
    workspace = tmp_path / "ws"
    copy_of_the_tree(workspace / "src" / "sam2s_ros")
    run(readme_line(r"colcon build --base-paths src/sam2s_ros .+"), workspace, tmp_path)
    installed = workspace / "install" / "sam2s_ros"
    assert {"sam2s", "tracker"} <= {path.name for path in (installed / "lib" / "sam2s_ros").iterdir()}
    assert first_line(installed / "lib" / "sam2s_ros" / "tracker") == "#!/usr/bin/env python3"
    for name in (
        "package.xml",
        "config/tracker.yaml",
        "config/fastdds_profile.xml",
        "launch/tracker.launch.py",
    ):
        assert (installed / "share" / "sam2s_ros" / name).is_file(), name
    check = "import sam2s_ros, sam2s_msgs.msg as m; m.TrackedObject(); print(sam2s_ros.__file__, m.__file__)"
    used = run(f'source ws/install/setup.bash && python -c "{check}"', tmp_path, tmp_path)
    assert all(str(workspace / "install") in path for path in used.split()), used


def test_the_line_for_the_root_of_a_checkout_names_both_packages(tmp_path: Path) -> None:
    """From the root of a clone outside a workspace."""
    line = readme_line(r"colcon build --base-paths \. .+")
    listed = run(line.replace("colcon build", "colcon list --names-only"), ROOT, tmp_path)
    assert listed.split() == ["sam2s_msgs", "sam2s_ros"]
