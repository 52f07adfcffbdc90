"""Revisions: what each spelling means, and what is said when it means nothing or too much."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from commit_material import commit
from hypothesis import given
from hypothesis import strategies as st

from mpstore import revisions
from mpstore.errors import AmbiguousError, NotFoundError
from mpstore.records.config import Config
from mpstore.records.model import Parent
from mpstore.repository import Repo

ONE = {"w": np.ones(3, np.float32)}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repo, dict[str, bytes]]:
    repo = Repo.init(tmp_path_factory.mktemp("home"), Config(block_elements=64, pack_bytes=4096))
    ids = {}
    ids["main~2"] = commit(repo, "main", ONE, message="first")
    ids["main~1"] = commit(repo, "main", ONE, message="second")
    ids["main"] = commit(repo, "main", ONE, message="third")
    ids["math"] = commit(repo, "experts/math", ONE, message="math")
    ids["code"] = commit(repo, "experts/code", ONE, message="code")
    experts = [Parent("base", ids["main~1"]), Parent("expert", ids["math"]), Parent("expert", ids["code"])]
    ids["merged"] = commit(repo, "merged", ONE, parents=experts, message="merge")
    repo.refs.move("tags/v1", None, ids["main~1"], "", "")
    repo.refs.move("tags/main", None, ids["main"], "", "")
    repo.refs.move("heads/both", None, ids["math"], "", "")
    repo.refs.move("tags/both", None, ids["code"], "", "")
    repo.refs.move("heads/gone", None, ids["math"], "", "")
    repo.refs.move("heads/gone", ids["math"], None, "", "")
    return repo, ids


@pytest.mark.parametrize(
    ("revision", "means"),
    [
        ("main", "main"),
        ("heads/main", "main"),
        ("tags/v1", "main~1"),
        ("v1", "main~1"),
        ("main~", "main~1"),
        ("main~0", "main"),
        ("main~1", "main~1"),
        ("main~2", "main~2"),
        ("main~~", "main~2"),
        ("main^", "main~1"),
        ("main^^", "main~2"),
        ("main^previous~1", "main~2"),
        ("v1~1", "main~2"),
        ("experts/math", "math"),
        ("merged^base", "main~1"),
        ("merged^base~1", "main~2"),
        ("merged^expert", "math"),
        ("merged^expert1", "math"),
        ("merged^expert2", "code"),
        ("main@{0}", "main"),
        ("main@{2}", "main~2"),
        ("main@{1}~1", "main~2"),
        ("heads/both", "math"),
        ("tags/both", "code"),
        ("gone@{1}", "math"),
    ],
)
def test_what_a_revision_means(family: tuple[Repo, dict[str, bytes]], revision: str, means: str) -> None:
    repo, ids = family
    assert revisions.resolve(repo, revision) == ids[means]


@pytest.mark.parametrize("digits", [10, 20, 63, 64])
def test_an_id_prefix_means_its_commit(family: tuple[Repo, dict[str, bytes]], digits: int) -> None:
    repo, ids = family
    text = ids["main"].hex()[:digits]
    assert revisions.resolve(repo, text) == ids["main"]
    assert revisions.resolve(repo, text.upper() + "~2") == ids["main~2"]


@pytest.mark.parametrize(
    ("revision", "words", "hint"),
    [
        ("mian", "'mian'", "main"),
        ("expert/math", "expert/math", "experts/math"),
        ("nothing-like-it", "nothing", "known: "),
        ("main~3", "it is the first of its branch", None),
        ("main^base", "has no base parent", None),
        ("merged^expert3", "no expert 3", None),
        ("merged^expert0", "expert", None),
        ("merged^uncle", "uncle", None),
        ("main@{3}", "moved only 3 times", None),
        ("gone@{0}", "deleted", "gone@{1}"),
        ("gone", "gone", None),
        ("abc", "abc", None),
        ("0123456789", "0123456789", None),
        ("f" * 65, "ffff", None),
        ("", "no revision", "REV is"),
        ("~1", "no revision", None),
        ("a..b", "a..b", None),
        ("a b", "a b", None),
        ("main@{x}", "main@", None),
        ("main\n", "main", None),
        ("main~99999999999", "no revision", None),
    ],
)
def test_what_means_nothing(
    family: tuple[Repo, dict[str, bytes]], revision: str, words: str, hint: str | None
) -> None:
    with pytest.raises(NotFoundError, match=words) as caught:
        revisions.resolve(family[0], revision)
    assert caught.value.exit_code == 3
    if hint is not None:
        assert hint in (caught.value.hint or "")


def test_a_branch_and_a_tag_that_differ_are_ambiguous(family: tuple[Repo, dict[str, bytes]]) -> None:
    with pytest.raises(AmbiguousError, match="both") as caught:
        revisions.resolve(family[0], "both")
    assert "heads/both" in (caught.value.hint or "")


def test_ids_of_other_objects_are_no_commits(family: tuple[Repo, dict[str, bytes]]) -> None:
    repo, ids = family
    with pytest.raises(NotFoundError, match="no commit"):
        revisions.resolve(repo, repo.commit(ids["main"]).manifest.hex())


def test_a_prefix_of_several_commits_lists_them(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path, Config(block_elements=64))
    made: dict[str, list[bytes]] = {}
    with repo.objects.writer("test") as writer:
        manifest = b"m" * 32
        for number in range(2000):  # 65 536 prefixes of four digits: two of 2 000 share one for certain
            parents = (Parent("previous", bytes(32)),)
            from mpstore.records.model import Commit

            record = Commit(manifest, parents, "full", "me", number, f"number {number}", {})
            own = repo.put(writer, record)
            made.setdefault(own.hex()[:4], []).append(own)
        writer.finish()
    prefix, shared = max(made.items(), key=lambda item: len(item[1]))
    assert len(shared) > 1
    with pytest.raises(AmbiguousError, match=f"{prefix} fits {len(shared)} commits") as caught:
        revisions.resolve(repo, prefix)
    assert all(one.hex()[:10] in caught.value.message for one in shared)
    assert "number " in caught.value.message
    alone = next(ids[0] for ids in made.values() if len(ids) == 1)
    assert revisions.resolve(repo, alone.hex()[:4]) == alone


def test_a_branch_named_like_an_id_wins(tmp_path: Path) -> None:
    repo = Repo.init(tmp_path, Config(block_elements=64))
    first = commit(repo, "main", ONE)
    second = commit(repo, first.hex()[:8], ONE)
    assert revisions.resolve(repo, first.hex()[:8]) == second
    assert revisions.resolve(repo, first.hex()[:9]) == first


@given(
    st.text(max_size=10) | st.from_regex(r"(main|v1|[0-9a-f]{4})([~^][a-z]{0,3}[0-9]{0,3}|@\{[0-9]\}){0,3}")
)
def test_any_words_are_an_answer_or_an_error_of_ours(
    family: tuple[Repo, dict[str, bytes]], revision: str
) -> None:
    repo, ids = family
    with contextlib.suppress(NotFoundError):
        assert revisions.resolve(repo, revision) in ids.values()
