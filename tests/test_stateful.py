"""The repository against a dictionary: any sequence of commits, names, deletions, collections, crashes of
indexes and re-openings, with fsck at each step."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpstore import fsck, gc
from mpstore.codecs import Level
from mpstore.ids import ObjectId
from mpstore.records.model import Parent
from mpstore.repository import Repo
from mpstore.usage import usage
from tests.repository_material import Content, commit, content_of, new_repository, remove_branch
from tests.store_material import bf16_block, fine_tuned

BRANCHES = st.sampled_from(["a", "b", "c"])
BLOCKS = st.builds(
    lambda seed, step: bf16_block(seed) if step is None else fine_tuned(bf16_block(seed), step),
    st.integers(0, 5),
    st.none() | st.integers(0, 2),
)
CONTENTS = st.dictionaries(st.sampled_from(["x", "y"]), st.lists(BLOCKS, max_size=4), max_size=2)


class RepositoryAgainstDictionary(RuleBasedStateMachine):
    """`tips`: what the branches are at; `contents`: what any commit made holds; `parents`: its edges."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.repo = new_repository(self.directory, 700)
        self.tips: dict[str, ObjectId] = {}
        self.contents: dict[ObjectId, Content] = {}
        self.parents: dict[ObjectId, list[ObjectId]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @rule(branch=BRANCHES, content=CONTENTS, based=st.booleans(), merged=st.booleans(), data=st.data())
    def commit(self, branch: str, content: Content, based: bool, merged: bool, data: st.DataObject) -> None:
        base = self.contents[self.tips[branch]] if based and branch in self.tips else None
        others = sorted(self.tips)
        expert = self.tips[data.draw(st.sampled_from(others))] if merged and others else None
        parents = () if expert is None else (Parent("expert", expert),)
        made = commit(self.repo, branch, content, base, parents)
        edges = [one for one in (self.tips.get(branch), expert) if one is not None]
        self.tips[branch] = made
        self.contents[made] = content
        self.parents[made] = edges

    @precondition(lambda self: self.tips)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        branch = data.draw(st.sampled_from(sorted(self.tips)))
        remove_branch(self.repo, branch)
        del self.tips[branch]

    @precondition(lambda self: self.tips)
    @rule(data=st.data(), name=BRANCHES)
    def branch_from(self, data: st.DataObject, name: str) -> None:
        source = self.tips[data.draw(st.sampled_from(sorted(self.tips)))]
        old = self.tips.get(name)
        if old != source:
            self.repo.refs.move(f"heads/{name}", old, source, "moved", "")
            self.tips[name] = source

    @rule(
        repack=st.booleans(), level=st.none() | st.sampled_from([Level.FAST, Level.MAX]), keep=st.booleans()
    )
    def collect(self, repack: bool, level: Level | None, keep: bool) -> None:
        keep_ns = gc.KEEP_REFLOG_NS if keep else 0
        gc.collect(self.repo, keep_reflog_ns=keep_ns, repack_all=repack, compression=level)
        if not keep:
            found = usage(Repo.open(self.directory))
            assert found.commits == len(self.reachable())
            if repack:
                assert found.unreachable_objects == 0

    @rule()
    def reopen(self) -> None:
        self.repo = Repo.open(self.directory)

    @rule(number=st.integers(0, 1000), way=st.sampled_from(["delete", "truncate", "flip"]))
    def damage_an_index(self, number: int, way: str) -> None:
        # How many packs there are depends on the clock in the commits: hypothesis must not draw from these.
        indexes = sorted((self.directory / ".mp" / "objects" / "packs").glob("*.idx"))
        if indexes:
            path = indexes[number % len(indexes)]
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 1
            path.unlink()
            if way != "delete":
                path.write_bytes(raw if way == "flip" else raw[: len(raw) // 2])
            self.repo = Repo.open(self.directory)
            assert fsck.repair(self.repo).damage_left == ()

    def reachable(self) -> set[ObjectId]:
        waiting, seen = list(self.tips.values()), set()
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += self.parents[one]
        return seen

    @invariant()
    def everything_named_is_whole(self) -> None:
        assert {name: self.repo.tip(name) for name in "abc" if self.repo.tip(name)} == self.tips
        for one in self.reachable():
            assert content_of(self.repo, one) == self.contents[one]
        fresh = Repo.open(self.directory)
        assert fsck.check(fresh, read_data=True).damage == ()
        for numbered in fresh.objects.packs.tables():  # a delta never leans on a delta
            bases = numbered.table.base_ids(np.arange(numbered.table.rows))
            assert not fresh.objects.packs.locate(bases[bases.any(axis=1)]).based.any()


quick = settings(
    max_examples=12, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRepositoryAgainstDictionary = RepositoryAgainstDictionary.TestCase
TestRepositoryAgainstDictionary.settings = quick


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_repository_against_a_dictionary_for_long() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    long = settings(quick, max_examples=150, stateful_step_count=40)
    run_state_machine_as_test(RepositoryAgainstDictionary, settings=long)
