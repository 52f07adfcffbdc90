"""Which known checkpoint was this one made from? Found by comparing a few blocks with every branch's.

Relies on repository and checkpoint_dir. Promises: reads a few hundred KB a candidate; the answer depends only
on the checkpoint and the branches; nobody's base is guessed where nothing is near.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import blocks
from mpstore.checkpoint_dir import Checkpoint, SourceFile, tensor_keys, tensor_names
from mpstore.errors import DamagedError, StorageError
from mpstore.ids import ObjectId, short
from mpstore.repository import Repo
from mpstore.safetensors_file import TensorInfo

ReadAt: TypeAlias = Callable[[SourceFile, int, int], bytes]
PERHAPS_SHARED: Final = (
    "a checkpoint that has blocks in common with it is damaged, too: `mp fsck --read-data` says which"
)
"""Of damage that an add meets: blocks that indexes list are taken as stored, and not read."""
_SAMPLES: Final = 6
_SAMPLE_ELEMENTS: Final = 16384
_SHARED: Final = 0.9
"""A candidate must have this share of the tensors."""
_NEAR: Final = 0.5
"""Mean bits of distance over bits of an item, below which two checkpoints are of one family. Independent bf16
weights come to about 0.9, fine-tunes to 0.05 to 0.25."""
_WORD: Final = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


@dataclass(frozen=True)
class FoundBase:
    """A commit and the branch that it was found by. `inherited`: the branch's last commit has this base."""

    branch: str
    commit: ObjectId
    inherited: bool = False


@dataclass(frozen=True)
class _Sample:
    """A piece of a tensor: elements [start, stop) lie in block `block` of the tensor with that key."""

    key: str
    tensor: TensorInfo
    block: int
    words: npt.NDArray[Any]


def find_base(
    repo: Repo, checkpoint: Checkpoint, branch: str, read: ReadAt | None = None
) -> FoundBase | None:
    """The nearest known checkpoint of the same shapes among the tips of branches, or None.

    A branch that has a base already keeps it while it is near: a branch is one model's history. `read` gives
    bytes of a source file (file, offset, size) where it is not a local one.
    """
    if checkpoint.kind != "full":
        return None
    keys = {key for own in _keys(checkpoint).values() for key in own}
    candidates = list(_alike(repo, branch, keys))
    if not candidates:  # then nothing need be read
        return None
    samples = list(_samples(checkpoint, repo.config.block_elements, read or _read))
    if not samples:
        return None
    best: tuple[float, FoundBase] | None = None
    for candidate in candidates:
        try:
            distance = _distance(repo, candidate.commit, samples)
        except DamagedError as error:
            _warn(repo, candidate, error)
            continue
        if distance is None or distance >= _NEAR:
            continue
        if candidate.inherited:
            return candidate
        if best is None or distance < best[0]:
            best = (distance, candidate)
    return None if best is None else best[1]


def _warn(repo: Repo, candidate: FoundBase, error: DamagedError) -> None:
    message = f"branch {candidate.branch} cannot be compared with: {error.message}; {PERHAPS_SHARED}"
    repo.progress.warn(message)


def _candidates(repo: Repo, branch: str) -> Iterator[FoundBase]:
    """The base of the branch's last commit first, then the tips of the other branches by name."""
    tip = repo.tip(branch)
    names = [name.removeprefix("heads/") for name in repo.refs.names("heads/")]
    tips = {name: commit for name in sorted(names) if (commit := repo.tip(name)) is not None}
    if tip is not None:
        for parent in repo.commit(tip).parents:
            if parent.role == "base":
                named = next((name for name, commit in tips.items() if commit == parent.commit), None)
                yield FoundBase(short(parent.commit) if named is None else named, parent.commit, True)
    for name, commit in tips.items():
        if name != branch:
            yield FoundBase(name, commit)


def _keys(checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    return tensor_keys(tensor_names(checkpoint.headers))


def _samples(checkpoint: Checkpoint, block_elements: int, read: ReadAt) -> Iterator[_Sample]:
    """A piece out of the middle of a few float tensors, spread over the checkpoint, large ones preferred."""
    sources = {file.path: file for file in checkpoint.files}
    found: list[tuple[str, TensorInfo, SourceFile, int]] = []
    for path, own in _keys(checkpoint).items():
        header = checkpoint.headers[path]
        for key, tensor in zip(own, header.tensors, strict=True):
            if tensor.dtype.is_float and tensor.elements:
                found.append((key, tensor, sources[path], len(header.raw)))
    largest = max((tensor.elements for _, tensor, _, _ in found), default=0)
    large = [entry for entry in found if entry[1].elements * 8 >= largest]
    step = max(1, len(large) // _SAMPLES)
    for key, tensor, source, header_bytes in large[::step][:_SAMPLES]:
        block = (blocks.count(tensor.elements, block_elements) - 1) // 2
        start = block * block_elements
        count = min(block_elements, tensor.elements - start, _SAMPLE_ELEMENTS)
        item = tensor.dtype.bits // 8
        raw = read(source, header_bytes + tensor.start + start * item, count * item)
        yield _Sample(key, tensor, block, np.frombuffer(raw, _WORD[tensor.dtype.bits]))


def _read(source: SourceFile, offset: int, size: int) -> bytes:
    try:
        with open(source.source, "rb") as stream:
            stream.seek(offset)
            data = stream.read(size)
    except OSError as error:
        raise StorageError(f"{source.source}: {error.strerror or error}") from error
    if len(data) != size:
        raise DamagedError(f"{source.source}: changed while it was read", hint="add it again")
    return data


def _alike(repo: Repo, branch: str, keys: set[str]) -> Iterator[FoundBase]:
    for candidate in _candidates(repo, branch):
        try:
            if _is_alike(repo, candidate.commit, keys):
                yield candidate
        except DamagedError as error:
            _warn(repo, candidate, error)


def _is_alike(repo: Repo, commit: ObjectId, keys: set[str]) -> bool:
    """Whether a commit has full weights under nearly the same names."""
    record = repo.commit(commit)
    named = repo.manifest(record.manifest).tensors.keys()
    return record.kind == "full" and len(keys & named) >= _SHARED * max(len(keys), len(named))


def _distance(repo: Repo, commit: ObjectId, samples: list[_Sample]) -> float | None:
    """Mean over the samples of bits of distance over bits of an item; None: not the same shapes."""
    manifest = repo.manifest(repo.commit(commit).manifest)
    total = 0.0
    for sample in samples:
        record_id = manifest.tensors.get(sample.key)
        tensor = repo.tensor(record_id) if record_id else None
        if tensor is None or tensor.shape != sample.tensor.shape or tensor.dtype != sample.tensor.dtype.name:
            return None
        if tensor.block_elements != repo.config.block_elements:
            return None
        raw = repo.objects.read(tensor.block(sample.block), "base")
        words = np.frombuffer(raw, sample.words.dtype)[: sample.words.size]
        total += _mean_bits(words, sample.words) / sample.tensor.dtype.bits
    return total / len(samples)


def _mean_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Mean of log2(1 + distance in units in the last place): about what a delta costs to store."""
    distance = np.abs(_ordered(a) - _ordered(b))
    return float(np.log2(1.0 + distance).mean())


def _ordered(words: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sign-magnitude patterns as numbers that order as the values do."""
    bits = words.dtype.itemsize * 8
    magnitude = words & words.dtype.type((1 << (bits - 1)) - 1)
    negative = (words >> words.dtype.type(bits - 1)).astype(np.bool_)
    size = magnitude.astype(np.float64)
    ordered: npt.NDArray[np.float64] = np.where(negative, -size, size)
    return ordered
