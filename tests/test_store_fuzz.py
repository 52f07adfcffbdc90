"""Packs and indexes made hostile: whatever the bytes, only our own errors, and never wrong content."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpstore import fsck
from mpstore.errors import MpError
from mpstore.repository import Repo
from mpstore.store import ObjectStore
from mpstore.store.frame import MAGIC
from tests.repository_material import commit, new_repository, some_content, tuned_content

Mutation = Callable[[random.Random, bytes], bytes]


def flip(randomly: random.Random, data: bytes) -> bytes:
    bits = bytearray(data)
    for _ in range(randomly.choice([1, 1, 1, 4, 40])):
        place = randomly.randrange(len(bits) * 8)
        bits[place // 8] ^= 1 << place % 8
    return bytes(bits)


def cut(randomly: random.Random, data: bytes) -> bytes:
    return data[: randomly.randrange(len(data))]


def splice(randomly: random.Random, data: bytes) -> bytes:
    start, stop = sorted(randomly.randrange(len(data)) for _ in range(2))
    return (
        data[:start]
        + randomly.choice([b"", MAGIC * 3, randomly.randbytes(stop - start), data[start:stop] * 2])
        + data[stop:]
    )


def numbers(randomly: random.Random, data: bytes) -> bytes:
    """A number somewhere becomes an extreme one."""
    place = randomly.randrange(max(1, len(data) - 8))
    extreme = randomly.choice([b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\x40"])
    return data[:place] + extreme + data[place + len(extreme) :]


def swap(randomly: random.Random, data: bytes) -> bytes:
    size = randomly.randrange(1, len(data) // 2 + 1)
    return data[size:] + data[:size]


MUTATIONS: tuple[Mutation, ...] = (flip, flip, cut, splice, numbers, numbers, swap)


def fuzz(tmp_path: Path, seed: int, seconds: float) -> tuple[int, int]:
    """Rounds, and how many reads an error refused."""
    randomly = random.Random(seed)
    repo = new_repository(tmp_path / "original", 2000)
    base = some_content(1, 2, 3)
    commit(repo, "base", base)
    commit(repo, "expert", tuned_content(base, 2), base)
    ids = [own_id.tobytes() for numbered in repo.objects.packs.tables() for own_id in numbered.table.ids()]
    content = {own_id: bytes(repo.objects.read(own_id)) for own_id in ids}
    end = time.monotonic() + seconds
    rounds = refused = 0
    while time.monotonic() < end:
        root = tmp_path / "mutated"
        shutil.copytree(tmp_path / "original", root)
        victims = sorted((root / ".mp" / "objects" / "packs").iterdir())
        for path in randomly.sample(victims, randomly.choice([1, 1, 2, len(victims)])):
            path.write_bytes(randomly.choice(MUTATIONS)(randomly, path.read_bytes()))
        store = ObjectStore.open(str(root / ".mp"))
        for own_id, raw in content.items():
            try:
                assert bytes(store.read(own_id)) == raw
            except MpError:
                refused += 1
        if rounds % 8 == 0:
            report = fsck.repair(Repo.open(root))
            lost = {one.name for one in report.damage_left}
            again = ObjectStore.open(str(root / ".mp"))
            for own_id, raw in content.items():
                if again.contains(own_id) and own_id.hex() not in lost:
                    assert bytes(again.read(own_id)) == raw
        shutil.rmtree(root)
        rounds += 1
    print(f"fuzz: {rounds} mutated stores, {refused} reads refused, none wrong")
    return rounds, refused


def test_invariant_11_hostile_packs_and_indexes_give_errors_not_crashes(tmp_path: Path) -> None:
    rounds, refused = fuzz(tmp_path, 1, 2.0)
    assert rounds > 5
    assert refused


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_invariant_11_hostile_packs_and_indexes_for_minutes(tmp_path: Path, seed: int) -> None:
    rounds, _ = fuzz(tmp_path, seed, 120.0)
    assert rounds > 200
