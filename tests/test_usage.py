"""usage: the figures add up, and what is said to go is what gc then removes."""

from __future__ import annotations

import os
from pathlib import Path

from mpstore import gc
from mpstore.repository import Repo
from mpstore.usage import own_bytes, usage
from tests.repository_material import commit, new_repository, remove_branch, some_content, tuned_content


def pack_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / ".mp" / "objects" / "packs").glob("*.pack"))


def test_figures_add_up(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    content = some_content(1, 2, 3)
    commit(repo, "base", content)
    commit(repo, "expert", tuned_content(content, 3), content)
    commit(repo, "copy", content)
    found = usage(Repo.open(tmp_path))
    assert found.commits == 3
    assert found.packs == 5
    assert found.stored_bytes == pack_bytes(tmp_path)
    assert found.blocks == sum(one.blocks for one in found.codecs) == 6 + 4 + 1
    assert found.distinct_bytes == sum(one.raw_bytes for one in found.codecs)
    assert found.raw_bytes == 3 * (6 * 128 + len(repr(sorted(content))))
    assert found.unreachable_objects == 0
    assert found.total_bytes == sum(p.stat().st_size for p in (tmp_path / ".mp").rglob("*") if p.is_file())
    assert found.index_bytes == sum(p.stat().st_size for p in (tmp_path / ".mp").rglob("*.idx"))
    by_name = {one.name: one for one in found.branches}
    assert set(by_name) == {"heads/base", "heads/expert", "heads/copy"}
    assert by_name["heads/expert"].own_objects == 4 + 2 + 2  # blocks, tensor records, manifest and commit
    assert by_name["heads/copy"].own_objects == by_name["heads/base"].own_objects == 1  # a commit each
    assert found.as_json()["commits"] == 3


def test_what_would_go_is_what_gc_removes(tmp_path: Path) -> None:
    repo = new_repository(tmp_path, 1 << 20)
    base = some_content(1, 3, 4)
    commit(repo, "base", base)
    commit(repo, "expert", tuned_content(base, 3), base)
    commit(repo, "other", some_content(2, 3, 4))
    own = {one.name: one.own_bytes for one in usage(Repo.open(tmp_path)).branches}
    assert (
        own_bytes(Repo.open(tmp_path), ["heads/base", "heads/expert"])
        > own["heads/base"] + own["heads/expert"]
    )
    for branch in ("other", "base"):
        before = pack_bytes(tmp_path)
        remove_branch(repo, branch)
        assert usage(Repo.open(tmp_path)).unreachable_bytes == own[f"heads/{branch}"]
        report = gc.collect(Repo.open(tmp_path), keep_reflog_ns=0, repack_all=True)
        released_bytes = report.released_bases_bytes - report.rebased_growth_bytes  # gc can do better still
        gone = before - pack_bytes(tmp_path) - released_bytes
        assert own[f"heads/{branch}"] <= gone <= own[f"heads/{branch}"] + 8 * 6  # and headers of packs
    assert os.listdir(repo.objects.layout.trash) == []
