"""A small stand-in for `launch` and `launch_ros` that records what a launch file asks for.

It lets the launch file be checked on a machine without a ROS distribution (the real packages are not on PyPI). It knows
only the names that the launch files import, and refuses keyword arguments that the real classes do not take.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@dataclass
class Recorded:
    """One action, event, handler or substitution: its class's name and how it was made."""

    kind: str
    arguments: tuple[Any, ...]
    fields: dict[str, Any]


ALLOWED = {
    "LaunchDescription": set(),
    "DeclareLaunchArgument": {"default_value", "description", "choices", "condition"},
    "EmitEvent": {"event"},
    "ExecuteProcess": {"cmd", "output", "additional_env", "condition", "name"},
    "IncludeLaunchDescription": {"launch_arguments"},
    "LogInfo": {"msg"},
    "OpaqueFunction": {"function", "args", "kwargs"},
    "RegisterEventHandler": {"condition"},
    "SetEnvironmentVariable": set(),
    "OnProcessExit": {"target_action", "on_exit"},
    "OnProcessIO": {"target_action", "on_stdout", "on_stderr"},
    "OnProcessStart": {"target_action", "on_start"},
    "PythonLaunchDescriptionSource": set(),
    "Shutdown": {"reason"},
    "LifecycleNode": {
        *("package", "executable", "name", "namespace", "parameters", "remappings", "arguments"),
        *("ros_arguments", "output", "additional_env", "condition"),
    },
    "Node": {
        *("package", "executable", "name", "namespace", "parameters", "remappings", "arguments"),
        *("ros_arguments", "output", "additional_env", "condition"),
    },
    "OnStateTransition": {"target_lifecycle_node", "start_state", "goal_state", "entities", "transition"},
    "ChangeState": {"lifecycle_node_matcher", "transition_id"},
    "ParameterValue": {"value_type"},
}
"""Class -> keyword arguments of the real one (those in use in Humble to Kilted)."""

PLACES = {
    "launch": ("LaunchDescription",),
    "launch.actions": (
        *("DeclareLaunchArgument", "EmitEvent", "ExecuteProcess", "LogInfo", "OpaqueFunction"),
        *("IncludeLaunchDescription", "RegisterEventHandler", "SetEnvironmentVariable"),
    ),
    "launch.event_handlers": ("OnProcessExit", "OnProcessIO", "OnProcessStart"),
    "launch.events": ("Shutdown",),
    "launch.launch_description_sources": ("PythonLaunchDescriptionSource",),
    "launch_ros.actions": ("LifecycleNode", "Node"),
    "launch_ros.event_handlers": ("OnStateTransition",),
    "launch_ros.events.lifecycle": ("ChangeState",),
    "launch_ros.parameter_descriptions": ("ParameterValue",),
}
"""Module -> the classes that are imported from it."""


@dataclass
class StandInContext:
    """Holds the values of the launch arguments."""

    values: dict[str, str] = field(default_factory=dict)


class StandInConfiguration:
    """LaunchConfiguration: looks up one argument."""

    def __init__(self, name: str) -> None:
        self._name = name

    def perform(self, context: StandInContext) -> str:
        return context.values[self._name]


def recorder(kind: str) -> Any:
    """A class's replacement that records how it is called."""

    def record(*arguments: Any, **fields: Any) -> Recorded:
        unknown = fields.keys() - ALLOWED[kind]
        assert not unknown, f"{kind} takes no {', '.join(sorted(unknown))}"
        return Recorded(kind, arguments, fields)

    return record


def load_launch_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a launch file with the stand-in in the place of launch and launch_ros."""
    modules: dict[str, ModuleType] = {}
    for name, kinds in PLACES.items():
        for parent in [name.rsplit(".", depth)[0] for depth in range(name.count(".") + 1)]:
            modules.setdefault(parent, ModuleType(parent))
        for kind in kinds:
            setattr(modules[name], kind, recorder(kind))
    for name in ("launch.action", "launch.substitutions"):
        modules[name] = ModuleType(name)
    modules["launch"].LaunchContext = StandInContext  # type: ignore[attr-defined]
    modules["launch.action"].Action = Recorded  # type: ignore[attr-defined]
    modules["launch.events"].matches_action = lambda action: action  # type: ignore[attr-defined]
    modules["launch.substitutions"].LaunchConfiguration = StandInConfiguration  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("launch_file_under_test", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def started(module: ModuleType, **values: str) -> tuple[dict[str, Recorded], list[Recorded]]:
    """The declared arguments by name, and the actions started with these values (the others at their defaults)."""
    entities = module.generate_launch_description().arguments[0]
    declared = {one.arguments[0]: one for one in entities if one.kind == "DeclareLaunchArgument"}
    unknown = values.keys() - declared.keys()
    assert not unknown, f"the launch file has no argument {', '.join(unknown)}"
    defaults = {name: one.fields["default_value"] for name, one in declared.items()}
    (function,) = [one for one in entities if one.kind == "OpaqueFunction"]
    return declared, function.fields["function"](StandInContext({**defaults, **values}))
