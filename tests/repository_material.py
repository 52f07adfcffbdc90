"""Commits of tiny checkpoints written straight into a repository, and what must be read back from them.

Relies on the repository and the store; ingest has tests of its own. Promises: the same seed, the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpstore import gc
from mpstore.codecs import Format
from mpstore.ids import ObjectId, block_id
from mpstore.records.config import Config
from mpstore.records.model import FileEntry, Manifest, Parent, TensorRecord
from mpstore.repository import Repo
from mpstore.store import Hint
from tests.store_material import ELEMENTS, bf16_block, fine_tuned

BLOCK_BYTES = 2 * ELEMENTS
Content = Mapping[str, list[bytes]]  # tensor key -> blocks


def new_repository(directory: Path, pack_bytes: int = 1024) -> Repo:
    return Repo.init(directory, Config(block_elements=ELEMENTS, pack_bytes=pack_bytes))


def collect(repo: Repo, **options: object) -> gc.GcReport:
    """A collection that no reflog entry holds back, by a process that opens the repository now."""
    return gc.collect(Repo.open(repo.root), keep_reflog_ns=0, **options)  # type: ignore[arg-type]


def some_content(seed: int, tensors: int = 3, blocks: int = 3) -> dict[str, list[bytes]]:
    return {
        f"layer{t}.weight": [bf16_block(10_000 * seed + 100 * t + b) for b in range(blocks)]
        for t in range(tensors)
    }


def tuned_content(content: Content, seed: int) -> dict[str, list[bytes]]:
    """Every second block moved by some units in the last place."""
    return {
        key: [fine_tuned(block, seed + i) if i % 2 == 0 else block for i, block in enumerate(blocks)]
        for key, blocks in content.items()
    }


def commit(
    repo: Repo,
    branch: str,
    content: Content,
    base: Content | None = None,
    parents: tuple[Parent, ...] = (),
    how: Mapping[str, object] | None = None,
) -> ObjectId:
    """Commit content on a branch; blocks of `base` at the same place are hints for deltas."""
    with repo.objects.writer("test") as writer:
        tip = repo.tip(branch)
        tensors = {}
        for key, blocks in sorted(content.items()):
            ids = []
            for i, block in enumerate(blocks):
                beside = base[key][i] if base is not None and key in base and i < len(base[key]) else None
                hint = Hint(Format.BF16)
                if beside is not None:
                    hint = Hint(Format.BF16, block_id(beside), beside)
                ids.append(writer.put(block, hint))
            record = TensorRecord("BF16", (ELEMENTS * len(blocks),), ELEMENTS, b"".join(ids))
            tensors[key] = repo.put(writer, record)
        header = repr(sorted(content)).encode()
        raw = header + b"".join(b"".join(content[key]) for key in sorted(content))
        entry = FileEntry(
            "model.safetensors",
            "safetensors",
            len(raw),
            hashlib.sha256(raw).digest(),
            writer.put(header),
            tuple(sorted(content)),
        )
        manifest = repo.put(writer, Manifest((entry,), tensors))
        return repo.advance(
            writer, branch, tip, manifest=manifest, parents=parents, how=how or {"verb": "add"}
        )


def content_of(repo: Repo, commit_id: ObjectId) -> dict[str, list[bytes]]:
    """What a commit holds, read block by block."""
    manifest = repo.manifest(repo.commit(commit_id).manifest)
    out = {}
    for key in manifest.tensors:
        raw = np.asarray(repo.read_tensor(manifest, key)).view(np.uint8).tobytes()
        out[key] = [raw[i : i + BLOCK_BYTES] for i in range(0, len(raw), BLOCK_BYTES)]
    return out


def remove_branch(repo: Repo, branch: str) -> None:
    tip = repo.tip(branch)
    assert tip is not None
    repo.refs.move(f"heads/{branch}", tip, None, "removed by a test", "")
