"""The rules that keep the tree readable, read off the sources' syntax trees: rooms, arrows, sizes, names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam2s_ros import __version__, cli

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sam2s_ros"

MAY_IMPORT: dict[str, set[str]] = {
    "network": set(),
    "data": set(),
    "engines": {"network"},
    "tracking": {"network", "engines"},
    "training": {"network", "data", "evaluation"},
    "evaluation": {"network", "engines", "tracking", "data"},
    "nodes": {"network", "engines", "tracking", "evaluation", "data"},
}
"""Room -> the other rooms that its files may import."""

ROS = re.compile(r"(rclpy|cv_bridge|message_filters|std_srvs|launch|launch_ros|.+_msgs|.+_interfaces)(\.|$)")
TENSORRT = re.compile(r"tensorrt(_rtx)?(\.|$)")
MAX_LINES = 470


def imported_modules(source: str, module: str) -> set[str]:
    """Every module that `source` imports anywhere, in functions too; `module` is its own dotted name.

    `from a import b` gives `a.b`, since b may be a module; relative and `import_module("a")` too.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                found.add(str(node.args[0].value))
    return found


def rooms_imported(source: str, module: str) -> set[str]:
    """The rooms that a file reaches for; the package's lazy `load_tracker` counts as tracking."""
    parts = [name.split(".") for name in imported_modules(source, module)]
    inside = [part[1] for part in parts if part[0] == "sam2s_ros" and len(part) > 1]
    return {"tracking" if name == "load_tracker" else name for name in inside} & MAY_IMPORT.keys()


def sources() -> Iterator[tuple[Path, str, str]]:
    """(path, dotted module name, room or "") of every file of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield path, ".".join(parts), parts[1] if len(parts) > 2 else ""


def test_every_room_exists_and_says_what_it_is_for() -> None:
    """The tree says the architecture, and each room's first lines say the rest."""
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(MAY_IMPORT)
    for room in MAY_IMPORT:
        tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
        assert ast.get_docstring(tree), f"sam2s_ros/{room}/__init__.py does not say what the room is for"


def test_arrows_between_rooms_point_one_way() -> None:
    """No file imports a room that it must not know."""
    wrong = [
        f"{module} imports {room}"
        for path, module, own in sources()
        if own
        for room in rooms_imported(path.read_text(), module) - MAY_IMPORT[own] - {own}
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "from sam2s_ros.tracking.tracker import StreamingTracker",
        "from sam2s_ros import tracking",
        "from sam2s_ros import load_tracker",
        "from ..tracking import states",
        "def late():\n    import sam2s_ros.tracking",
        "importlib.import_module('sam2s_ros.tracking')",
    ],
)
def test_the_arrow_check_sees_every_kind_of_import(line: str) -> None:
    """The check above can fail: a network file that reaches for the tracker is caught however it does so."""
    assert rooms_imported(line, "sam2s_ros.network.sam2") == {"tracking"}


def test_only_nodes_import_ros() -> None:
    """The tracker runs on a machine without ROS: rclpy and messages are imported in nodes/ alone."""
    assert ROS.match("sensor_msgs.msg") and ROS.match("rclpy") and not ROS.match("rosbags.rosbag2")
    wrong = [
        f"{module} imports {name}"
        for path, module, room in sources()
        if room != "nodes"
        for name in imported_modules(path.read_text(), module)
        if ROS.match(name)
    ]
    assert wrong == []


def test_at_most_one_file_imports_tensorrt() -> None:
    """TensorRT's API is touched in one file, whatever it is called on the machine."""
    files = [
        module
        for path, module, _ in sources()
        if any(TENSORRT.match(name) for name in imported_modules(path.read_text(), module))
    ]
    assert len(files) <= 1, files


UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def unpickled(source: str, module: str) -> list[str]:
    """Everything in `source` that runs code found in a file: what it says, with its line."""
    names = imported_modules(source, module) - {"pickle.UnpicklingError"}
    found = [name for name in names if name.split(".")[0] in UNPICKLERS]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        said = {one.arg: ast.unparse(one.value) for one in node.keywords}
        called = ast.unparse(node.func)
        if (
            (called == "torch.load" and said.get("weights_only") != "True")
            or (called == "yaml.load" and "Safe" not in said.get("Loader", ""))
            or said.get("allow_pickle", "False") != "False"
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_nothing_is_unpickled() -> None:
    """A file from a stranger is data: docs/security.md."""
    assert {
        module: bad for path, module, _ in sources() if (bad := unpickled(path.read_text(), module))
    } == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
    ],
)
def test_the_check_sees_what_unpickles(line: str) -> None:
    assert unpickled(line, "sam2s_ros.x")


def test_files_are_short_and_named_for_what_they_do() -> None:
    """No file is too long to read in one go, and none is a drawer for everything."""
    paths = [path for path, _, _ in sources()]
    assert [path for path in paths if len(path.read_text().splitlines()) > MAX_LINES] == []
    assert [path for path in paths if re.search(r"util|helper|manager|misc|common", path.stem)] == []


def test_importing_the_package_loads_neither_torch_nor_ros() -> None:
    """`import sam2s_ros` is light, load_tracker is there when asked for, and an unknown name is an error."""
    code = (
        "import sys, sam2s_ros; print(sorted({'torch', 'rclpy', 'cv2', 'numpy'} & sys.modules.keys()));"
        "print(hasattr(sam2s_ros, 'load_tracker'), hasattr(sam2s_ros, 'no_such_name'))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["[]", "True False"]


def test_package_xml_setup_py_and_the_package_agree() -> None:
    """Name, version and licence are the same wherever they are written."""
    setup = (ROOT / "setup.py").read_text()
    for folder in (ROOT, ROOT / "sam2s_msgs"):
        manifest = ElementTree.parse(folder / "package.xml").getroot()
        assert manifest.findtext("version") == __version__
        assert manifest.findtext("license") == "Apache-2.0"
    assert f'version="{__version__}"' in setup and 'license="Apache-2.0"' in setup


def test_every_ros_package_imported_is_declared() -> None:
    """rosdep installs what the nodes import: package.xml names each ROS package, installed here or not."""
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {element.text for element in manifest.iter() if element.tag.endswith("depend")}
    imported = {
        name.split(".")[0]
        for folder in (PACKAGE, ROOT / "launch")
        for path in folder.rglob("*.py")
        for name in imported_modules(path.read_text(), "x")
        if ROS.match(name)
    }
    assert imported - declared == set()


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_subcommand_has_its_three_parts(command: str) -> None:
    """Each entry of the console script's table names a module with HELP, configure and run."""
    path = ROOT / (cli.COMMANDS[command][0].replace(".", "/") + ".py")
    tree = ast.parse(path.read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    targets = {ast.unparse(t) for n in tree.body if isinstance(n, ast.Assign) for t in n.targets}
    targets |= {ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert {"configure", "run"} <= functions and "HELP" in targets


def test_a_mistake_of_the_user_is_one_line_and_exit_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback for a missing file, unless it is asked for."""
    module = type(sys)("failing_command")
    module.HELP, module.configure = "fails", lambda parser: None  # type: ignore[attr-defined]

    def run(args: object) -> int:
        raise FileNotFoundError("no bag at x.mcap")

    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing_command", module)
    monkeypatch.setitem(cli.COMMANDS, "fail", ("failing_command", "fails"))
    assert cli.main(["fail"]) == 2
    assert capsys.readouterr().err == "sam2s: error: no bag at x.mcap\n"
    with pytest.raises(FileNotFoundError):
        cli.main(["--traceback", "fail"])
