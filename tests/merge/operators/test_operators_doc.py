"""docs/operators.md and the table say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpstore.merge.operators.table import ALIASES, OPERATORS

PAGE = (Path(__file__).parents[3] / "docs" / "operators.md").read_text()


def section(name: str) -> str:
    head = f"### `{name}`\n"
    assert PAGE.count(head) == 1, f"docs/operators.md has no section on {name}"
    return PAGE.split(head)[1].split("\n### ")[0].split("\n## ")[0]


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_has_its_section(name):
    op, text = OPERATORS[name], section(name)
    assert f"| [`{name}`](#{name}) | {op.summary} |" in PAGE
    assert f"    {op.formula}\n" in text
    assert op.source in text
    for parameter in op.parameters:
        default = parameter.default
        shown = str(default).lower() if isinstance(default, bool) else default
        shown = f"{shown:g}" if isinstance(shown, int | float) else shown
        row = next(line for line in text.splitlines() if line.startswith(f"| `{parameter.name}` |"))
        assert ("required" if parameter.required else f"`{shown}`") in row
        assert parameter.doc.replace("|", "\\|") in row
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(op.parameters)


def test_no_section_without_an_operator():
    sections = [line.strip("#` ") for line in PAGE.splitlines() if line.startswith("### `")]
    assert sections == list(OPERATORS)


def test_aliases_are_told():
    for alias, name in ALIASES.items():
        assert f"`{alias}`" in section(name)
