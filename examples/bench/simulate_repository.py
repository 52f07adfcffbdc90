"""A repository of made-up checkpoints, to time planning: its records and indexes are real.

    python examples/bench/simulate_repository.py DIR [--experts 20] [--smoke]
    cd DIR && mp plan --base base $(seq -f '--expert e%g' 0 19) --op linear --budget 10%

Shapes are a Llama-like decoder's of 8B parameters in bf16. Each checkpoint is one pack whose index lists
every block; the pack itself is a hole in a file of the right length, so nothing can be merged. Statistics
have a histogram for each tensor, as `mp add` makes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import simulate

from mpstore import statistics
from mpstore.ids import ID_BYTES
from mpstore.kernels.idrows_numpy import prefixes
from mpstore.records.model import FileEntry, Manifest, Parent, TensorRecord
from mpstore.repository import Repo
from mpstore.statistics import DeltaStatistics
from mpstore.statistics.histogram import Histogram, bins_for
from mpstore.store import packindex
from mpstore.store.layout import pack_name
from mpstore.store.pack import BLOCKS

DECODER = (32, 4096, 14336, 128256, 1024)
SMALL = (2, 256, 512, 1000, 64)
PLANES, DELTA = 2, 3


def write_index(repo: Repo, rng: np.random.Generator, ids: np.ndarray, bases: np.ndarray | None) -> None:
    """A pack of that many blocks, deltas of `bases` if any: an index, and a hole where frames would be."""
    count = len(ids)
    frame = (simulate.BLOCK * 2 * rng.uniform(0.15, 0.35, count) * (2 if bases is None else 1)).astype(
        np.uint32
    )
    offset = np.concatenate([[16], 16 + np.cumsum(frame, dtype=np.uint64)]).astype(np.uint64)
    pack_id = rng.bytes(ID_BYTES)
    order = np.argsort(prefixes(ids), kind="stable")
    table = packindex.IndexTable(
        packs=(packindex.PackInfo(pack_id, int(offset[-1]), BLOCKS),),
        bases=np.zeros((0, ID_BYTES), np.uint8) if bases is None else bases,
        prefix=prefixes(ids)[order],
        offset=offset[:-1][order],
        suffix=ids[order, 8:],
        frame_bytes=frame[order],
        raw_bytes=np.full(count, simulate.BLOCK * 2, np.uint32),
        base_row=np.full(count, 0xFFFFFFFF, np.uint32) if bases is None else order.astype(np.uint32),
        pack=np.zeros(count, np.uint32),
        codec=np.full(count, PLANES if bases is None else DELTA, np.uint8),
        form=np.zeros(count, np.uint8),
    )
    packs = Path(repo.objects.layout.packs)
    with (packs / pack_name(pack_id)).open("wb") as pack:
        pack.truncate(int(offset[-1]))
    (packs / f"{pack_id.hex()}.idx").write_bytes(packindex.to_bytes(table))


def add(repo: Repo, tensors: dict[str, int], rng: np.random.Generator, name: str, base: dict | None) -> dict:
    """Commit a checkpoint of random block ids on a branch; of an expert its statistics too."""
    counts = [-(-n // simulate.BLOCK) for n in tensors.values()]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    ids = rng.integers(0, 256, (int(offsets[-1]), ID_BYTES), np.uint8)
    write_index(repo, rng, ids, None if base is None else base["ids"])
    repo.objects.refresh()
    with repo.objects.writer("simulate") as writer:
        records = {
            key: repo.put(
                writer,
                TensorRecord("BF16", (n,), simulate.BLOCK, ids[offsets[t] : offsets[t + 1]].tobytes()),
            )
            for t, (key, n) in enumerate(tensors.items())
        }
        raw = 2 * sum(tensors.values())
        header = writer.put(name.encode().ljust(64))
        entry = FileEntry("model.safetensors", "safetensors", raw + 64, bytes(32), header, tuple(tensors))
        manifest = repo.put(writer, Manifest((entry,), records))
        parents = () if base is None else (Parent("base", base["commit"]),)
        how = {"verb": "add"} if base is None else {"verb": "add", "base": base["commit"].hex()}
        if base is not None:
            found = deltas(tensors, offsets, rng, base["manifest"], manifest, base["common"])
            record = repo.put(writer, statistics.to_columns(found))
        commit = repo.advance(writer, name, None, manifest=manifest, parents=parents, how=how)
    if base is not None:
        repo.name_statistics(base["manifest"], manifest, record)
    common = rng.standard_normal((len(ids), simulate.SKETCH_WIDTH)).astype(np.float32)
    return {"ids": ids, "manifest": manifest, "commit": commit, "common": common}


def deltas(
    tensors: dict[str, int],
    offsets: np.ndarray,
    rng: np.random.Generator,
    base: bytes,
    expert: bytes,
    common: np.ndarray,
) -> DeltaStatistics:
    """Statistics of a pair: lognormal sizes, sketches at a cosine of about .3."""
    rows = int(offsets[-1])
    elements = np.concatenate(
        [np.minimum(simulate.BLOCK, n - np.arange(0, n, simulate.BLOCK)) for n in tensors.values()]
    )
    sketch = np.sqrt(0.3) * common + np.sqrt(0.7) * rng.standard_normal(common.shape).astype(np.float32)
    return DeltaStatistics(
        base,
        expert,
        "full",
        simulate.BLOCK,
        tuple(tensors),
        offsets,
        equal=rng.random(rows) < 0.02,
        delta_sq=elements * 1e-7 * rng.lognormal(0, 1, rows),
        delta_max=np.full(rows, 1e-2, np.float32),
        dot_base_delta=rng.standard_normal(rows),
        base_sq=elements * 4e-4,
        nonfinite=np.zeros(rows, np.int64),
        sketch=np.clip(np.rint(sketch * 40), -127, 127).astype(np.int8),
        sketch_scale=np.full(rows, 1e-3, np.float32),
        histograms={key: histogram(n, rng) for key, n in tensors.items() if n > simulate.BLOCK},
    )


def histogram(elements: int, rng: np.random.Generator) -> Histogram:
    bins = bins_for(elements)
    counts = rng.multinomial(elements - bins, np.full(bins, 1 / bins)) + 1
    edges = np.sort(rng.choice(np.arange(12000, 15000), bins, replace=False)).astype(np.uint16)
    return Histogram(edges, counts, rng.binomial(counts, 0.002))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--experts", type=int, default=20)
    parser.add_argument("--smoke", action="store_true", help="a decoder of a million parameters")
    words = parser.parse_args()
    words.directory.mkdir()
    repo = Repo.init(words.directory)
    rng = np.random.default_rng(0)
    tensors = simulate.decoder_tensors(*(SMALL if words.smoke else DECODER))
    base = add(repo, tensors, rng, "base", None)
    for number in range(words.experts):
        add(repo, tensors, rng, f"e{number}", base)
        print(f"e{number}", flush=True)


if __name__ == "__main__":
    main()
