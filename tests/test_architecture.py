"""The house rules that a machine can hold: sizes, names, and who may print, read the environment or write.

The floors themselves are held by import-linter (`lint-imports`, in run_checks.py).
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent / "mpstore"
SOURCES = sorted(path for path in ROOT.rglob("*.py"))
FILE_LINES = 400
FUNCTION_LINES = 40
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
WRITERS = {
    "os": {
        "rename",
        "replace",
        "unlink",
        "remove",
        "mkdir",
        "makedirs",
        "rmdir",
        "link",
        "symlink",
        "truncate",
        "pwrite",
    },
    "shutil": {"copy", "copy2", "copyfile", "copytree", "move", "rmtree"},
}
PATH_WRITERS = {"write_text", "write_bytes", "touch", "mkdir", "rmdir", "symlink_to", "hardlink_to"}
UNPICKLERS = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "torch"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(tree(path)))


def dotted(node: ast.expr) -> str:
    """ "os.path.join" of the expression, as far as it is names."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([*([node.id] if isinstance(node, ast.Name) else ["?"]), *reversed(parts)])


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in nodes(path):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_files_are_short_and_say_what_they_are_for() -> None:
    wrong = {}
    for path in SOURCES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES or (lines and not ast.get_docstring(tree(path))):
            wrong[relative(path)] = lines
    assert not wrong


def test_functions_are_short() -> None:
    """The limit is on statements: signature and docstring do not count."""
    long = {}
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > FUNCTION_LINES:
                    long[f"{relative(path)}: {node.name}"] = lines
    assert not long


def test_no_drawer_for_odds_and_ends() -> None:
    parts = {relative(path): set(Path(relative(path)).with_suffix("").parts) for path in SOURCES}
    assert not {name for name, words in parts.items() if words & FORBIDDEN_NAMES}


def test_only_the_command_line_prints_reads_the_environment_or_exits() -> None:
    forbidden = {"print", "input", "sys.exit", "exit", "quit", "os._exit", "os.getenv", "click.echo"}
    streams = {"os.environ", "sys.argv", "sys.stdout", "sys.stderr", "sys.stdin"}
    found = set()
    for path in SOURCES:
        if relative(path).startswith("cli/"):
            continue
        used = {dotted(node) for node in nodes(path) if isinstance(node, ast.Attribute)}
        used = (used & streams) | ({name for name, _ in calls(path)} & forbidden)
        used |= {"click", "rich"} & {name.partition(".")[0] for name in imports(path)}
        found |= {f"{relative(path)}: {name}" for name in used}
    assert not found


def test_invariant_03_only_files_writes_to_the_disk() -> None:
    assert not {
        relative(path): found
        for path in SOURCES
        if (found := writes(path)) and not relative(path).startswith("files/")
    }


def writes(path: Path) -> list[str]:
    """The calls that change the disk."""
    found = []
    for name, call in calls(path):
        module, _, function = name.rpartition(".")
        if function in WRITERS.get(module, set()) or (
            function in PATH_WRITERS and module not in ("files", "os")
        ):
            found.append(name)
        if name in ("open", "os.open", "os.fdopen", "io.open") or function == "open":
            found += [
                f"{name}({flag})" for flag in modes(call) if set(flag) & set("wax+") or "O_CREAT" in flag
            ]
    return found


def modes(call: ast.Call) -> Iterator[str]:
    """What a call of an `open` says about writing."""
    given = [*call.args[1:2], *(word.value for word in call.keywords if word.arg == "mode")]
    for node in given:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        else:
            yield from (dotted(part) for part in ast.walk(node) if isinstance(part, ast.Attribute))


def test_invariant_11_nothing_can_be_unpickled() -> None:
    found = set()
    for path in SOURCES:
        used = UNPICKLERS & {name.partition(".")[0] for name in imports(path)}
        for name, call in calls(path):
            if name in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "np.loadtxt"}:
                used.add(name)
            if name in ("np.load", "numpy.load") and any(
                word.arg == "allow_pickle" for word in call.keywords
            ):
                used.add(name)
        found |= {f"{relative(path)}: {name}" for name in used}
    assert not found


def test_a_source_distribution_is_whole_and_a_wheel_fits_every_python() -> None:
    top = ROOT.parent
    settings = tomllib.loads((top / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["include-package-data"] is False
    assert settings["package-data"] == {"mpstore": ["py.typed", "hook_samples/*"]}
    oldest = tomllib.loads((top / "pyproject.toml").read_text())["project"]["requires-python"]
    minor = int(oldest.removeprefix(">=3."))
    script = (top / "setup.py").read_text()
    assert f'"cp3{minor}"' in script, "the wheel's tag"
    assert f'"0x03{minor:02X}0000"' in script, "the limited API that kernels are compiled for"
    manifest = (top / "MANIFEST.in").read_text().splitlines()
    linked = {"docs", "examples", "hooks", "mpstore/kernels/native", "tests"}
    assert {f"graft {name}" for name in linked} <= set(manifest)
    assert not [name for name in linked if not (top / name).is_dir()]


def test_the_rules_find_what_they_forbid(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import pickle\nopen('x', 'w')\nopen('x', mode='ab')\nos.open('x', os.O_CREAT | os.O_RDWR)\n"
    )
    assert "pickle" in set(imports(bad))
    flags = [flag for _, call in calls(bad) for flag in modes(call)]
    assert flags[:2] == ["w", "ab"]
    assert "os.O_CREAT" in flags
    assert len(writes(bad)) == 3
