"""The pages tell the truth where a machine can tell: links, commands, verbs, the Python example."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from families import write_family

import mpstore
from mpstore.cli.table import VERBS
from mpstore.hooks import EVENTS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"\]\((?!https?://|hf://|#)([^)#\s]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= set(LINK.findall(index))


def test_every_verb_is_in_the_page_of_the_command_line() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    assert not [verb.name for verb in VERBS if f"`{verb.name}`" not in text]


def test_every_hook_sample_is_in_the_page_on_care() -> None:
    text = (ROOT / "docs" / "care.md").read_text()
    samples = {path.name for path in (ROOT / "hooks").iterdir()}
    assert samples <= set(EVENTS)
    assert not [name for name in samples if f"| `{name}` |" not in text]


def test_every_invariant_has_a_test_and_a_line() -> None:
    names = [
        match[1]
        for path in (ROOT / "tests").rglob("test_*.py")
        for match in re.finditer(r"^ *def test_invariant_(\d\d)_", path.read_text(), re.MULTILINE)
    ]
    assert {int(name) for name in names} == set(range(1, 12))
    table = (ROOT / "docs" / "design.md").read_text().partition("## Invariants, and the tests")[2]
    for line in re.findall(r"^\| \d+ \|.*", table, re.MULTILINE):
        for name in re.findall(r"`((?:merge/|cli/)?[\w/]*)`", line.rpartition("|")[0].rpartition("|")[2]):
            path = ROOT / "tests" / name
            assert path.is_dir() or path.with_suffix(".py").exists(), name


def commands() -> list[str]:
    """The words after `mp` of every command that stands in a fenced block of a page."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```[a-z]*\n(.*?)```", page.read_text(), re.DOTALL):
            found += re.findall(r"^(?:\$ )?mp (.*?)(?:\s+#.*)?$", block, re.MULTILINE)
    return found


def test_commands_of_the_pages_use_options_that_exist() -> None:
    from mpstore.cli.main import cli

    assert len(commands()) > 20
    for line in commands():
        words = line.split()
        command = cli.get_command(None, words[0])  # type: ignore[arg-type]
        assert command is not None, line
        known = {
            flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        for word in words[1:]:
            if word.startswith("-") and len(word) > 1 and not re.match(r"-\d", word):
                assert word.partition("=")[0] in known | {"--help", "-h"}, line


def calls_in_the_design() -> list[tuple[str, str, str]]:
    """(module, function, arguments) of every call of a module's function that the page shows."""
    modules = {path.stem for path in (ROOT / "mpstore").rglob("*.py")}
    modules |= {path.parent.name for path in (ROOT / "mpstore").rglob("__init__.py")} - {"mpstore"}
    found = []
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "design.md").read_text(), re.DOTALL):
        text = re.sub(r"#.*", "", block)
        found += re.findall(r"(?<![\w.])(?:\w+\.)*(\w+)\.(\w+)\(((?:[^()]|\([^()]*\))*)\)", text)
    return [call for call in found if call[0] in modules]


def test_functions_in_the_design_exist_and_take_what_it_says() -> None:
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "mpstore").rglob("*.py")]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    assert len(calls_in_the_design()) > 40
    for module, function, arguments in calls_in_the_design():
        rooms = [importlib.import_module(name) for name in names if name.rpartition(".")[2] == module]
        known = [one for room in rooms if (one := getattr(room, function, None)) is not None]
        assert known, f"{module}.{function}"
        own = re.sub(r"\([^()]*\)", "", arguments)
        given = set(re.findall(r"(\w+)=", own))
        assert any(given <= set(inspect.signature(one).parameters) for one in known), f"{module}.{function}"


def test_readme_commands_are_found_by_ci() -> None:
    text = (ROOT / "README.md").read_text()
    for name in ("first", "second"):
        block = re.search(rf"<!-- {name} command -->\n```\n(.*)\n```\n<!-- end -->", text)
        assert block, name
        assert "pip install" in block[1]
        assert "\n" not in block[1], "a command is one line"
    script = (ROOT / ".ci" / "run").read_text()
    assert "second command" in script
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0


def test_python_example_runs_as_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    write_family(tmp_path)
    with contextlib.chdir(tmp_path):
        exec(compile(block, "python.md", "exec"), {})
    assert "linear" in capsys.readouterr().out
    assert (tmp_path / "out" / "config.json").exists()
    assert sys.modules["mpstore"]


def test_every_method_is_in_the_page_on_python() -> None:
    methods = {name for name in dir(mpstore.Repository) if not name.startswith("_")}
    table = (ROOT / "docs" / "python.md").read_text().partition("| open |")[2]
    assert not methods - set(re.findall(r"`(\w+)`", table))


def test_shell_example_runs(tmp_path: Path) -> None:
    """examples/main_job.sh with the `mp` of this environment."""
    from command import clean_environment

    write_family(tmp_path)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "mp").write_text(f'#!/bin/sh\nexec {sys.executable} -m mpstore.cli "$@"\n')
    (tools / "mp").chmod(0o755)
    environment = clean_environment({"WORK": str(tmp_path / "work")})
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    command = [ROOT / "examples" / "main_job.sh", "base", "math", "code"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no damage" in done.stdout
    assert (tmp_path / "work" / "out" / "config.json").exists()
