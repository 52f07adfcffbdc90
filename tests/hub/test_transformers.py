"""transformers loads models from `mp serve`, in a process and a Python of its own.

Its Python is the first that has transformers and torch: MP_TRANSFORMERS_PYTHON, this one, /opt/torchvenv's.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Inline, clean_environment

from mpstore.api import Repository

SCRIPT = Path(__file__).parents[2] / "examples" / "serve_transformers.py"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@functools.cache
def python_with_transformers() -> str | None:
    for path in (os.environ.get("MP_TRANSFORMERS_PYTHON"), sys.executable, "/opt/torchvenv/bin/python"):
        if path and Path(path).exists():
            probe = "import importlib.util as u; assert u.find_spec('transformers') and u.find_spec('torch')"
            if subprocess.run([path, "-c", probe], capture_output=True, check=False).returncode == 0:
                return path
    return None


@pytest.fixture
def address(tmp_path: Path, family: dict[str, Path]) -> Iterator[str]:
    """`mp serve` as a process, over a base, an expert and a merge."""
    repository = Repository.init(tmp_path / "served", block_elements=512)
    repository.add(family["base"], "base")
    repository.add(family["math"], "math", base="base")
    mp = Inline(tmp_path / "served")
    mp(
        "merge",
        "--base",
        "base",
        "--expert",
        "math:weight=0.5",
        "--op",
        "task_arithmetic",
        "--branch",
        "merged",
        "-q",
    )
    mp("checkout", "merged", tmp_path / "merged", "-q")
    with subprocess.Popen(
        [sys.executable, "-m", "mpstore.cli", "serve", "--port", "0"],
        cwd=tmp_path / "served",
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("HF_ENDPOINT="), line
            yield line.strip().partition("=")[2]
        finally:
            process.terminate()


def loaded(address: str, home: Path, name: str, directory: Path) -> tuple[int, dict[str, object]]:
    """How the example ends, and what it prints."""
    python = python_with_transformers()
    if python is None:
        pytest.skip("no Python with transformers and torch: name one in MP_TRANSFORMERS_PYTHON")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON"))}
    own = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [python, str(SCRIPT), name, str(directory)],
        env={**kept, **own},
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def test_models_load_by_their_branch(address: str, family: dict[str, Path], tmp_path: Path) -> None:
    code, math = loaded(address, tmp_path / "hf", "math", family["math"])
    assert (code, math["same"], math["differing_tensors"]) == (0, True, [])
    assert math["class"] == "LlamaModel"
    code, merged = loaded(address, tmp_path / "hf", "org/merged", tmp_path / "merged")
    assert (code, merged["same"]) == (0, True)
    assert merged["output_norm"] != math["output_norm"]
    code, other = loaded(address, tmp_path / "hf", "merged", family["math"])
    assert (code, other["same"]) == (1, False), "the comparison can fail"
