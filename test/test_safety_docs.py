"""docs/safety.md names, for each rule, a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def named_tests(repository_root: Path) -> list[tuple[str, str]]:
    return NAMED.findall((repository_root / "docs" / "safety.md").read_text())


def test_every_test_named_in_the_safety_page_exists(repository_root: Path) -> None:
    missing = []
    for file, name in named_tests(repository_root):
        path = repository_root / "test" / file
        tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
        if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_rule_of_the_safety_page_names_a_test(repository_root: Path) -> None:
    """Each row of its tables, but for their heads."""
    text = (repository_root / "docs" / "safety.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    heads = [row for row in rows if row.rstrip(" |").endswith("held by")]
    assert len(heads) == 4 and len(rows) > 20
    assert [row for row in rows if row not in heads and not NAMED.search(row)] == []
