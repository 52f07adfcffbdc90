"""What a command imports, and how names of packages that come later behave: start-up stays cheap.

Each case is a process of its own, since this one has imported everything.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import Command, clean_environment
from families import Family

HEAVY = {"huggingface_hub", "hypothesis", "matplotlib", "rich", "safetensors", "scipy", "torch"}
"""What no verb imports but those that speak to the Hub, draw or show progress."""
NO_REPOSITORY = HEAVY | {"blake3", "ml_dtypes", "msgpack", "numpy", "threadpoolctl", "yaml", "zstandard"}
LOOKING = HEAVY | {"concurrent.futures", "difflib", "hashlib", "importlib.resources", "ml_dtypes", "numpy.ma"}
LOOKING |= {"socket", "subprocess", "threadpoolctl", "yaml"}
ROOMS = {
    "adapters",
    "diff",
    "dtypes",
    "explain",
    "export",
    "fsck",
    "gc",
    "ingest",
    "merge",
    "overlap",
    "remotes",
}
ROOMS |= {"statistics", "usage", "codecs.choice", "kernels.codec_batch_numpy", "kernels.prefix_numpy"}
PACKAGES = ("mpstore", "mpstore.api", "mpstore.codecs")
"""Those whose names come from their rooms when they are asked for."""


def run(code: str, directory: Path) -> str:
    """What a Python process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_of(*words: str | Path, directory: Path) -> set[str]:
    """The modules that are there when a command has ended."""
    code = (
        "import atexit, sys\n"
        "from mpstore.cli.main import main\n"
        "atexit.register(lambda: print('\\nMODULES', *sys.modules))\n"
        f"main({[str(word) for word in words]!r})"
    )
    return set(run(code, directory).rpartition("MODULES")[2].split())


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--help"], ["merge", "--help"], ["add", "--help"], ["completion", "bash"]],
    ids=" ".join,
)
def test_without_a_repository_there_is_little_but_click(tmp_path: Path, words: list[str]) -> None:
    loaded = modules_of(*words, directory=tmp_path)
    assert "click" in loaded
    assert not NO_REPOSITORY & loaded
    ours = {name for name in loaded if name.startswith("mpstore.") and not name.startswith("mpstore.cli")}
    assert ours <= {"mpstore.errors", "mpstore.events", "mpstore.later"}


@pytest.mark.parametrize(
    "words",
    [["log"], ["log", "--oneline", "--graph"], ["branch"], ["tag"], ["reflog"], ["show", "math"], ["hooks"]],
    ids=" ".join,
)
def test_looking_at_history_imports_neither_codecs_of_numbers_nor_merges(
    filled: Path, words: list[str]
) -> None:
    loaded = modules_of(*words, directory=filled)
    assert "numpy" in loaded
    assert not LOOKING & loaded
    assert not {f"mpstore.{room}" for room in ROOMS} & loaded


def test_filling_imports_nothing_of_merges_and_merging_nothing_of_filling(
    mp: Command, family: Family
) -> None:
    added = modules_of(
        "add", family.experts["code"], "--branch", "again", "--base", "base", directory=mp.directory
    )
    assert "mpstore.ingest" in added
    assert not (HEAVY | {"yaml", "threadpoolctl", "mpstore.merge", "mpstore.remotes"}) & added
    words = ["--base", "base", "--expert", "math", "--op", "linear", "--branch", "merged"]
    merged = modules_of("merge", *words, directory=mp.directory)
    assert "mpstore.merge.execute.executor" in merged
    assert not (HEAVY | {"threadpoolctl", "mpstore.ingest", "mpstore.remotes.hub"}) & merged


def test_planning_imports_nothing_of_executing(mp: Command) -> None:
    words = ["--base", "base", "--expert", "math", "--op", "linear", "--budget", "40%"]
    planned = modules_of("plan", *words, directory=mp.directory)
    assert "mpstore.merge.planner" in planned
    executing = {f"mpstore.merge.execute.{one}" for one in ("executor", "execution", "machine", "work")}
    assert not (HEAVY | executing | {"numpy.ma", "mpstore.merge.modelcard"}) & planned


@pytest.mark.parametrize("package", PACKAGES)
def test_names_that_come_later_are_names_like_others(tmp_path: Path, package: str) -> None:
    names = importlib.import_module(package).__all__
    seen = run(f"import {package} as it\nprint(*dir(it))", tmp_path).split()
    assert set(names) <= set(seen)
    assert (
        run(
            f"from {package} import *\nprint(*[n for n in {names!r} if n not in globals()])", tmp_path
        ).split()
        == []
    )
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_that_comes_later_is_that_of_a_module(package: str) -> None:
    """Importing the module would put it in the name's place."""
    module = importlib.import_module(package)
    modules = {one.name for one in pkgutil.iter_modules(module.__path__)}
    assert not modules & set(module.__all__)


def test_ctrl_c_while_a_command_is_imported_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    environment = clean_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "mpstore.cli", "log"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "mp: error: interrupted; nothing was changed\n"
