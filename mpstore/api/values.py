"""What the Python interface answers with, where a room below has no value of its own for it.

Relies on records. Promises: frozen plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

from mpstore.ids import ObjectId
from mpstore.records.model import FileEntry


class MergeWords(TypedDict, total=False):
    """What `merge` and `plan` are told, all of it optional.

    recipe: a YAML file in mergekit's schema, or its text; otherwise base, experts, operator, parameters.
    base: a revision, or a directory. experts: "math:weight=1,density=.2" or ("math", {"weight": 1}).
    operator: "linear", "ties", …; parameters: the operator's own, {"lambda": 0.5} or ["lambda=0.5"].
    out_dtype: of the output ("BF16"; default: the base's). budget: bytes, "2GiB", or "25%" of the experts'
    raw size. max_error: relative to the base's norm. seed: of random masks. policy: how blocks are chosen.
    plan: the id of a stored plan, instead of all of these. directory: where relative paths start.
    threads, memory_bytes: how much of the machine may be used.
    """

    recipe: str | PathLike[str] | None
    base: str | None
    experts: Sequence[str | tuple[str, Mapping[str, Any]]]
    operator: str | None
    parameters: Sequence[str] | Mapping[str, Any]
    out_dtype: str | None
    budget: int | str | None
    max_error: float | str | None
    seed: int | None
    policy: str | None
    plan: str | None
    directory: Path | None
    threads: int | None
    memory_bytes: int | None


@dataclass(frozen=True)
class NamedCommit:
    """A branch or tag and the commit it is at."""

    name: str
    commit: ObjectId
    message: str
    time_ns: int


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a revision; raw_bytes without any header."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    blocks: int
    raw_bytes: int


@dataclass(frozen=True)
class Listing:
    """Files and tensors of a revision."""

    commit: ObjectId
    files: tuple[FileEntry, ...]
    tensors: tuple[TensorInfo, ...]
