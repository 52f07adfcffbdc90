"""Small repositories for the executor's tests, made through ingest, and merges of them through the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from families import safetensors_bytes

from mpstore import ingest
from mpstore.merge import engine, recipe
from mpstore.merge.engine import MergeResult, Request
from mpstore.merge.execute.executor import Limits
from mpstore.merge.models import Models
from mpstore.records.config import Config
from mpstore.records.model import Plan
from mpstore.repository import Repo

Tensors = Mapping[str, np.ndarray]
SHAPES = {
    "model.embed_tokens.weight": (97, 40),
    "model.layers.0.mlp.weight": (64, 50),
    "model.layers.1.mlp.weight": (64, 50),
    "model.norm.weight": (61,),
}


def base_tensors(dtype: Any = ml_dtypes.bfloat16, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: (rng.standard_normal(shape) * 0.05).astype(dtype) for key, shape in SHAPES.items()}


def tuned(
    base: Tensors, seed: int, still: Sequence[str] = (), scale: float = 4e-3, stretch: float = 0.25
) -> dict[str, np.ndarray]:
    """The base moved; tensors in `still` are not, and of every other the first `stretch` is not."""
    rng = np.random.default_rng(seed)
    moved = {}
    for key, array in base.items():
        step = (rng.standard_normal(array.shape) * scale).astype(np.float32)
        step.reshape(-1)[: int(array.size * stretch)] = 0
        moved[key] = array if key in still else (array.astype(np.float32) + step).astype(array.dtype)
    return moved


def write_model(directory: Path, tensors: Tensors, files: Mapping[str, str] | None = None) -> Path:
    directory.mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    for name, text in (files or {"config.json": '{"torch_dtype": "bfloat16"}'}).items():
        (directory / name).write_text(text)
    return directory


def add(
    repo: Repo, directory: Path, name: str, tensors: Tensors, base: str | None = None, **more: Any
) -> bytes:
    """Commit a model on the branch of its name; base: the branch it is encoded and measured against."""
    path = write_model(directory / name, tensors, more.pop("files", None))
    tip = None if base is None else repo.tip(base)
    return ingest.add(repo, path, name, base=tip, **more).commit


def family(
    directory: Path, experts: int = 3, block_elements: int = 64, dtype: Any = ml_dtypes.bfloat16
) -> Repo:
    """Branches base, e0, e1, …; each expert leaves one tensor as it is."""
    repo = Repo.init(directory / "repo", Config(block_elements=block_elements))
    base = base_tensors(dtype)
    add(repo, directory / "models", "base", base)
    for number in range(experts):
        still = [list(SHAPES)[number % len(SHAPES)]]
        add(repo, directory / "models", f"e{number}", tuned(base, 1 + number, still), "base")
    return repo


def plan(
    repo: Repo,
    operator: str = "ties",
    experts: Sequence[str] = ("e0", "e1", "e2"),
    *,
    budget: str | None = None,
    own: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    base: str = "base",
    out_dtype: str | None = None,
    seed: int = 0,
) -> Plan:
    if own is None:
        own = {"weight": 0.5} if operator == "linear" else {"weight": 0.5, "density": 0.4}
    said = recipe.from_flags(
        base, [(name, dict(own)) for name in experts], operator, dict(params or {}), out_dtype=out_dtype
    )
    with Models(repo) as models:
        return engine.prepare(repo, Request(said, budget=budget, seed=seed), models).plan


def merge(repo: Repo, planned: Plan, branch: str = "merged", **more: Any) -> MergeResult:
    return engine.merge(repo, planned, branch, **more)


def weights(repo: Repo, result: MergeResult) -> dict[str, bytes]:
    manifest = result.executed.manifest
    return {key: repo.read_tensor(manifest, key).tobytes() for key in manifest.tensors}


def forget(repo: Repo) -> None:
    """Delete the memo."""
    directory = Path(repo.root, "cache", "memo")
    for path in directory.glob("*") if directory.is_dir() else ():
        path.unlink()


TINY = Limits(threads=1, readers=1, memory_bytes=3000)
WIDE = Limits(threads=4, readers=3, memory_bytes=1 << 28)
