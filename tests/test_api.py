"""The Python interface: what the command line does, typed and importable."""

from __future__ import annotations

import errno
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import clean_environment
from families import Family, read_checkpoint, write_family

import mpstore
from mpstore import Repository, files

MERGE: dict[str, Any] = {"base": "base", "experts": ["math", ("code", {"weight": 0.5})], "operator": "linear"}


class Heard:
    """A progress sink that counts."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.advanced: dict[str, int] = {}
        self.totals: dict[str, int | None] = {}

    def task(self, label: str, total: int | None, unit: str) -> Any:
        del unit
        heard = self
        self.totals[label] = total
        self.advanced.setdefault(label, 0)

        class Task:
            def advance(self, amount: int) -> None:
                heard.advanced[label] += amount

            def finish(self) -> None:
                pass

        return Task()

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return write_family(tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, family: Family) -> Repository:
    made = Repository.init(tmp_path_factory.mktemp("repository"), block_elements=1024)
    made.add(family.base, "base", message="the base")
    for name, path in family.experts.items():
        made.add(path, name, base="base")
    return made


def test_a_budget_may_be_a_number(repository: Repository) -> None:
    share: Any = 0.25  # which no type checker lets pass
    with pytest.raises(mpstore.UsageError) as caught:
        repository.plan(store=False, budget=share, **MERGE)
    assert caught.value.hint == "did you mean 25%?"
    whole: Any = 2e5
    assert repository.plan(store=False, budget=whole, **MERGE).plan.budget_bytes == 200_000


def test_importing_costs_nothing() -> None:
    script = "import sys, mpstore; print([m for m in ('numpy', 'click', 'rich') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_public_names_are_there() -> None:
    import mpstore.api

    for module in (mpstore, mpstore.api):
        for name in module.__all__:
            assert getattr(module, name) is not None, name
        with pytest.raises(AttributeError):
            _ = module.no_such_name


def test_every_error_has_the_exit_code_of_the_contract() -> None:
    codes = {
        "UsageError": 2,
        "RecipeError": 2,
        "NotFoundError": 3,
        "AmbiguousError": 3,
        "DamagedError": 4,
        "ConflictError": 5,
        "BudgetError": 6,
        "RemoteError": 7,
        "IncompatibleError": 8,
        "HookError": 9,
        "InterruptedByUser": 130,
    }
    assert {name: getattr(mpstore, name).exit_code for name in codes} == codes


def test_opening_finds_the_repository(repository: Repository, tmp_path: Path) -> None:
    directory = repository.mp_dir.parent
    assert Repository.open(directory).mp_dir == repository.mp_dir
    assert Repository.open(repository.mp_dir).mp_dir == repository.mp_dir
    deep = directory / "a" / "b"
    deep.mkdir(parents=True, exist_ok=True)
    assert Repository.discover(deep).mp_dir == repository.mp_dir
    with pytest.raises(mpstore.NotFoundError):
        Repository.open(tmp_path)


@pytest.mark.parametrize("moved", [True, False])
def test_a_repository_that_has_gone_is_not_made_again(family: Family, tmp_path: Path, moved: bool) -> None:
    repository = Repository.init(tmp_path / "r", block_elements=1024)
    commit = repository.add(family.base, "base").commit
    inner = repository._repo
    if moved:
        shutil.move(tmp_path / "r", tmp_path / "elsewhere")
    else:
        shutil.rmtree(tmp_path / "r")
    for act in (
        lambda: repository.add(family.experts["math"], "math"),
        lambda: repository.create_branch("side", "base"),
        repository.log,
        repository.branches,
        repository.stats,
        repository.gc,
        repository.fsck,
        # gone only after a method had begun
        lambda: inner.objects.writer("late"),
        lambda: inner.refs.move("heads/late", None, commit, "late", ""),
    ):
        with pytest.raises(mpstore.NotFoundError):
            act()
    assert not (tmp_path / "r").exists()
    if moved:
        assert [one.name for one in Repository.open(tmp_path / "elsewhere").branches()] == ["base"]


def test_tensors_are_read_without_a_checkout(repository: Repository, family: Family) -> None:
    found = repository.tensors("math")
    expected = read_checkpoint(family.experts["math"])
    assert set(found) == set(expected)
    assert len(found) == len(expected)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        assert np.array_equal(found[key], array)
    with pytest.raises(mpstore.NotFoundError) as caught:
        found["lm_haed.weight"]
    assert "lm_head.weight" in (caught.value.hint or "")
    assert found.get("lm_haed.weight") is None


def test_plan_merge_replay_explain(repository: Repository) -> None:
    planned = repository.plan(**MERGE, budget="30%")
    assert planned.plan.cost_bytes <= (planned.plan.budget_bytes or 0)
    bounds = [point.bound for point in planned.curve]
    assert bounds == sorted(bounds, reverse=True)
    assert planned.curve[-1].exact
    merged = repository.merge("merged", plan=planned.id.hex(), message="third")
    assert merged.plan_id == planned.id
    assert repository.replay("merged").same
    explained = repository.explain("merged")
    assert explained.as_planned
    assert [expert.model for expert in explained.experts] == ["math", "code"]
    shown = repository.show("merged")
    assert shown.info.refs == ("heads/merged",)
    assert [parent.role for parent in shown.info.commit.parents] == ["base", "expert", "expert"]


def test_merge_again_has_the_one_before_as_its_parent(repository: Repository) -> None:
    first = repository.merge("twice", **MERGE).commit
    second = repository.merge("twice", **{**MERGE, "experts": ["math"]}).commit
    parents = {parent.role: parent.commit for parent in repository.show("twice").info.commit.parents}
    assert parents["previous"] == first
    assert [info.id for info in repository.log("twice", limit=1)] == [second]
    assert repository.diff("twice~1", "twice").tensors


def test_budget_may_be_bytes_or_words(repository: Repository) -> None:
    whole = repository.plan(**MERGE).plan.full_raw_bytes
    assert repository.plan(**MERGE, budget=10_000).plan.budget_bytes == 10_000
    assert repository.plan(**MERGE, budget="10KiB").plan.budget_bytes == 10_240
    assert repository.plan(**MERGE, budget="50%").plan.budget_bytes == whole // 2
    with pytest.raises(mpstore.UsageError, match="budget"):
        repository.plan(**MERGE, budget="much")


def test_recipe_may_be_a_file_or_its_text(repository: Repository, tmp_path: Path) -> None:
    text = "merge_method: linear\nmodels:\n  - model: math\n    parameters: {weight: 1}\nbase_model: base\n"
    (tmp_path / "recipe.yml").write_text(text)
    by_text = repository.plan(recipe=text)
    assert repository.plan(recipe=tmp_path / "recipe.yml").id == by_text.id
    with pytest.raises(mpstore.NotFoundError, match="nowhere"):
        repository.plan(recipe="nowhere.yml")


def test_a_directory_can_be_an_expert(repository: Repository, family: Family) -> None:
    stored = repository.merge("stored", **{**MERGE, "experts": ["math"]})
    loose = repository.merge("loose", **{**MERGE, "experts": [str(family.experts["math"])]})
    assert not repository.diff("stored", "loose").tensors
    assert stored.plan_id != loose.plan_id
    assert "merge-inputs" not in " ".join(branch.name for branch in repository.branches())


def test_directories_of_a_merge_come_in_together_once_every_model_is_known(
    repository: Repository, family: Family
) -> None:
    paths = [str(path) for path in family.experts.values()]
    before = repository.stats().blocks
    with pytest.raises(mpstore.NotFoundError, match="nowhere"):
        repository.merge("none", **{**MERGE, "experts": [*paths, "nowhere"]})
    assert repository.stats().blocks == before
    stored = repository.merge("stored", **{**MERGE, "experts": list(family.experts)})
    loose = repository.merge("loose", **{**MERGE, "experts": paths})
    assert not repository.diff("stored", "loose").tensors
    assert stored.plan_id != loose.plan_id
    assert "merge-inputs" not in " ".join(branch.name for branch in repository.branches())


def test_a_merge_that_fails_while_directories_come_in_leaves_no_name(
    repository: Repository, family: Family, tmp_path: Path
) -> None:
    """What headers show is said before the base is stored; what fails later takes the names away again."""
    base = tmp_path / "base"
    shutil.copytree(family.base, base)
    (base / "extra.txt").write_text("so that it is new")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"x")
    before = repository.stats().commits
    with pytest.raises(mpstore.IncompatibleError, match="pickled"):
        repository.merge("none", **{**MERGE, "base": str(base), "experts": [str(pickled)]})
    assert repository.stats().commits == before
    paths = [str(path) for path in family.experts.values()]
    named: set[str] = set()

    def full_at_the_second_expert(operation: files.Operation) -> None:
        if "merge-inputs" in operation.target and "/logs/" in operation.target:
            named.add(operation.target)
            if len(named) == 3:  # of the base, of the first expert
                raise OSError(errno.ENOSPC, "no space left")

    files.set_observer(full_at_the_second_expert)
    try:
        with pytest.raises(mpstore.StorageError):
            repository.merge("none", **{**MERGE, "base": str(base), "experts": paths})
    finally:
        files.set_observer(None)
    assert len(named) >= 3
    assert "merge-inputs" not in " ".join(branch.name for branch in repository.branches())


def test_status_names_the_nearest_branch(repository: Repository, family: Family, tmp_path: Path) -> None:
    assert repository.status(family.experts["code"]).revision == "code"
    repository.checkout("math", tmp_path / "out")
    assert repository.status(tmp_path / "out", "math").clean
    (tmp_path / "out" / "config.json").write_text("{}")
    (tmp_path / "out" / "new.txt").write_text("new")
    (tmp_path / "out" / "tokenizer.json").unlink()
    states = {file.path: file.state for file in repository.status(tmp_path / "out").files}
    assert states["config.json"] == "changed"
    assert states["new.txt"] == "new"
    assert states["tokenizer.json"] == "missing"
    against = repository.status(family.experts["math"], "base")
    assert sum(file.changed_tensors for file in against.files) == len(repository.diff("base", "math").tensors)


def test_progress_is_told_of_all_the_work(repository: Repository, family: Family, tmp_path: Path) -> None:
    heard = Heard()
    opened = Repository.open(repository.mp_dir, progress=heard)
    fresh = Path(shutil.copytree(family.base, tmp_path / "fresh"))  # a file that is known is not read
    opened.add(fresh, "progress", message="again")
    opened.checkout("math", tmp_path / "out")
    assert heard.totals
    for label, total in heard.totals.items():
        assert total is None or heard.advanced[label] == total, label


def test_answers_have_a_json_form(repository: Repository, tmp_path: Path) -> None:
    merged = repository.merge("json", **MERGE)
    documents = [
        merged.as_json(),
        repository.plan(**MERGE).as_json(),
        repository.replay("json").as_json(),
        repository.checkout("json", tmp_path / "out").as_json(),
        repository.gc(dry_run=True).as_json(),
        repository.stats().as_json(),
        repository.fsck().as_json(),
    ]
    for document in documents:
        assert json.loads(json.dumps(document)) is not None


def test_names_and_their_history(repository: Repository) -> None:
    commit = repository.create_branch("side", "math")
    assert commit == repository.create_branch("side", "math"), "the same again is no conflict"
    with pytest.raises(mpstore.ConflictError):
        repository.create_branch("side", "code")
    repository.create_branch("side", "code", force=True)
    assert repository.delete_branch("side") != commit
    assert [entry.seq for entry in repository.reflog("side")] == [3, 2, 1]
    repository.create_tag("v1", "math")
    with pytest.raises(mpstore.ConflictError) as caught:
        repository.create_tag("v1", "code")
    assert "never moves" in (caught.value.hint or "")
    assert [tag.name for tag in repository.tags()] == ["v1"]
    repository.delete_tag("v1")


def test_analyze_tells_what_is_known(repository: Repository) -> None:
    known = repository.analyze("math")
    assert not known.computed
    assert known.equal_blocks > 0
    other = repository.analyze("code", base="math")
    assert other.computed
    assert other.relative_l2 > 0
    assert repository.based_branches()[:2] == ("code", "math")


def test_hooks_of_a_merge_hear_of_plan_and_result(repository: Repository) -> None:
    directory = repository.mp_dir / "hooks"
    for event in ("pre-merge", "post-merge", "post-commit"):
        (directory / event).write_text(f"#!/bin/sh\ncat > {event}.json\necho heard {event}\n")
        (directory / event).chmod(0o755)
    said: list[str] = []
    try:
        merged = Repository.open(repository.mp_dir, say=said.append).merge("hooked", **MERGE)
    finally:
        for event in ("pre-merge", "post-merge", "post-commit"):
            (directory / event).unlink()
    heard = {
        event: json.loads((repository.mp_dir.parent / f"{event}.json").read_text())
        for event in ("pre-merge", "post-merge", "post-commit")
    }
    assert heard["pre-merge"]["plan"] == merged.plan_id.hex()
    assert heard["post-merge"]["commit"] == merged.commit.hex()
    assert heard["post-commit"]["verb"] == "merge"
    assert said == [
        "pre-merge: heard pre-merge",
        "post-merge: heard post-merge",
        "post-commit: heard post-commit",
    ]


def test_fsck_after_all_this(repository: Repository) -> None:
    assert not repository.fsck(read_data=True).damage


@pytest.mark.parametrize(
    ("word", "meant"), [("memory", "memory_bytes"), ("operater", "operator"), ("zz", "")]
)
def test_a_keyword_that_is_none_is_named(tmp_path: Path, word: str, meant: str) -> None:
    repository = mpstore.Repository.init(tmp_path / "r")
    with pytest.raises(mpstore.UsageError, match=f"no such keyword: '{word}'") as caught:
        repository.merge("x", **{word: "1"})  # type: ignore[arg-type]
    assert meant in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda r: r.gc(compression="x"), "compression = 'x': fast, default, small or max is expected"),
        (lambda r: r.gc(keep_reflog_seconds=-1), "keep_reflog_seconds = -1"),
        (lambda r: r.gc(keep_reflog_seconds=math.inf), "keep_reflog_seconds = inf"),
        (lambda r: r.log(limit=-1), "limit = -1: a whole number from 0"),
        (lambda r: r.add_all(["./math"]), "a list of (path, branch)"),
        (lambda r: r.add("./math", 7), "branch = 7: a text"),
        (lambda r: r.add("./math", "x", kind="x"), "kind = 'x': full, delta or lora"),
        (lambda r: r.add("./math", "x", threads=-1), "threads = -1"),
        (lambda r: r.merge("x", **MERGE, memory_bytes="1GiB"), "memory_bytes = '1GiB': a whole number"),
        (lambda r: r.replay("merged", memory_bytes="1GiB"), "memory_bytes = '1GiB': a whole number"),
        (lambda r: r.plan(**MERGE, max_error=-1), "max_error = -1: a number from 0"),
        (lambda r: r.plan(**MERGE, max_error=math.nan), "max_error = nan: a number from 0"),
        (lambda r: r.plan(**MERGE, seed="x"), "seed = 'x': a whole number"),
        (lambda r: r.plan(**MERGE, seed=10**22), "seed = 10000000000000000000000: a whole number"),
        (lambda r: r.plan(**MERGE, budget=[1]), "budget = [1]: a number of bytes"),
        (lambda r: r.plan(base="base", experts="math", operator="ties"), "experts = 'math': a list of"),
        (lambda r: r.plan(base="base", experts=[7], operator="ties"), "experts = [7]: a list of"),
        (lambda r: r.plan(**MERGE, parameters="lambda=1"), "parameters = 'lambda=1'"),
        (lambda r: r.merge(7, **MERGE), "branch = 7: a text"),
        (lambda r: r.create_branch(7, "base"), "name = 7: a text"),
        (lambda r: r.checkout("base", "nowhere", tensors="layers*"), "tensors = 'layers*': a list of texts"),
        (lambda r: r.compare("math"), "experts = 'math': a list of"),
        (lambda r: r.ls("math", "layers*"), "patterns = 'layers*': a list of texts"),
        (lambda r: r.fsck(repair=True, sources="./x"), "sources = './x': a list of texts"),
        (lambda r: r.pull("hf://org/x", include="*.json"), "include = '*.json': a list of texts"),
        (lambda r: r.show(7), "revision = 7"),
    ],
)
def test_what_an_argument_cannot_be_is_said_by_its_name(repository: Repository, call: Any, says: str) -> None:
    before = repository.branches()
    with pytest.raises(mpstore.UsageError) as caught:
        call(repository)
    assert says in caught.value.message
    assert "is expected" in caught.value.message
    assert repository.branches() == before


def test_a_key_that_is_no_text_is_no_tensor(repository: Repository) -> None:
    found: Any = repository.tensors("math")
    with pytest.raises(mpstore.NotFoundError, match="no tensor 3"):
        found[3]
    assert found.get(3) is None
