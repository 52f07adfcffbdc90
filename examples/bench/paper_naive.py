"""The naive merge that the paper's budgets are measured against: every expert read in full, from plain files.

    python examples/bench/paper_naive.py JOB.json

An honest one: it streams (one tensor in memory per thread), reads each byte once with pread, works on all
cores, and runs the very operators and kernels of `mp` on them; it knows of no store, statistics or plan. JOB
has `base`, `experts` (checkpoint directories), `keys` (hex, what random masks hang on), `params` (one mapping
an expert), `operator`, `settings`, `out` (a directory). It writes a whole checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mpstore import dtypes
from mpstore.merge import recipe as recipes
from mpstore.merge import resolve
from mpstore.merge.operators import gram
from mpstore.merge.operators.protocol import Block, Facts, Operator, TensorContext
from mpstore.safetensors_file import Header, TensorInfo, read_header

RUN_ELEMENTS = 1 << 17


class Plain:
    """A checkpoint directory of one safetensors file."""

    def __init__(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        self.file = path.open("rb", buffering=0)
        self.header: Header = read_header(self.file.read, str(path), path.stat().st_size)
        self.tensors = {tensor.name: tensor for tensor in self.header.tensors}

    def read(self, name: str) -> np.ndarray:
        """A tensor as float32, flat: one pread of just its bytes."""
        tensor = self.tensors[name]
        raw = os.pread(self.file.fileno(), tensor.data_bytes, len(self.header.raw) + tensor.start)
        return dtypes.to_float32(raw, tensor.dtype)


def thresholds(deltas: Sequence[np.ndarray], asked: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], ...]:
    """Order statistics of |delta|: the bit patterns of magnitudes ascend as they do."""
    found = []
    for delta, ranks in zip(deltas, asked, strict=True):
        places = [rank - 1 for rank in ranks]
        if places and delta.size:
            patterns = np.partition(np.abs(delta).view(np.uint32), places).view(np.float32)
            found.append(tuple(float(patterns[place]) for place in places))
        else:
            found.append(())
    return tuple(found)


def products(base: np.ndarray, deltas: Sequence[np.ndarray]) -> np.ndarray:
    total = gram.start(len(deltas))
    for at in range(0, base.size, RUN_ELEMENTS):
        window = slice(at, at + RUN_ELEMENTS)
        gram.accumulate(total, base[window], [delta[window] for delta in deltas])
    return total


def merged(op: Operator, context: TensorContext, base: Plain, experts: Sequence[Plain]) -> bytes:
    """One tensor of the output, encoded in the base's dtype."""
    tensor: TensorInfo = base.tensors[context.name]
    values = base.read(context.name)
    deltas = [expert.read(context.name) - values for expert in experts]
    facts = Facts(
        thresholds(deltas, op.ranks(context)),
        products(values, deltas) if op.needs_gram(context) else None,
    )
    run = math.lcm(RUN_ELEMENTS, op.unit_elements(context))
    out = np.empty_like(values)
    for at in range(0, values.size, run):
        window = slice(at, at + run)
        parts = tuple(delta[window] for delta in deltas)
        out[window] = op.apply(Block(at, values[window], parts), facts, context)
    return dtypes.from_float32(out, tensor.dtype).tobytes()


def contexts(job: dict[str, Any], base: Plain) -> tuple[Operator, dict[str, TensorContext]]:
    models = list(zip(job["experts"], job["params"], strict=True))
    recipe = recipes.from_flags(job["base"], models, job["operator"], job["settings"])
    shapes = {name: tensor.shape for name, tensor in base.tensors.items()}
    keys = [bytes.fromhex(key) for key in job["keys"]]
    return recipe.method, resolve.contexts(resolve.resolve(recipe, shapes), 0, keys, shapes)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    base, experts = Plain(Path(job["base"])), [Plain(Path(path)) for path in job["experts"]]
    op, each = contexts(job, base)
    out = Path(job["out"])
    out.mkdir()
    for path in Path(job["base"]).iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, out)
    with (out / "model.safetensors").open("wb") as target, ThreadPoolExecutor(os.cpu_count()) as pool:
        target.write(base.header.raw)
        names = [tensor.name for tensor in base.header.tensors]
        for encoded in pool.map(lambda name: merged(op, each[name], base, experts), names):
            target.write(encoded)
        target.flush()
        os.fsync(target.fileno())


if __name__ == "__main__":
    main()
