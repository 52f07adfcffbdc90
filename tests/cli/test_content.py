"""Checkpoints in, looked at, out again: byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import Command, Inline, in_shell
from families import Family, read_checkpoint, safetensors_bytes, write_checkpoint

from mpstore.store.pack import BLOCKS


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["base", "math"])
def test_checkout_gives_back_every_byte(mp: Command, family: Family, name: str) -> None:
    done = mp.json("checkout", name, "out")
    source = family.base if name == "base" else family.experts[name]
    assert digests(mp.directory / "out") == digests(source)
    assert done["files"] == 5
    assert done["raw_bytes"] == sum(path.stat().st_size for path in source.iterdir())


def test_checkout_of_some_tensors_is_a_checkpoint_of_them(mp: Command, family: Family) -> None:
    mp("checkout", "math", "norms", "--tensor", "*norm*")
    found = read_checkpoint(mp.directory / "norms")
    whole = read_checkpoint(family.experts["math"])
    assert set(found) == {key for key in whole if "norm" in key}
    assert all(np.array_equal(found[key], whole[key]) for key in found)


def test_checkout_into_a_full_directory_needs_force(mp: Command) -> None:
    target = mp.directory / "out"
    target.mkdir()
    (target / "precious.txt").write_text("mine")
    refused = mp("checkout", "base", "out", code=2)
    assert "not empty" in refused.err
    assert "--force" in refused.err
    assert digests(target) == {"precious.txt": hashlib.sha256(b"mine").hexdigest()}
    mp("checkout", "base", "out", "--force")
    assert "precious.txt" not in digests(target)


def test_update_rewrites_what_differs(mp: Command, family: Family) -> None:
    mp("checkout", "base", "out")
    again = mp.json("checkout", "math", "out", "--update")
    assert 0 < again["written_bytes"] < again["raw_bytes"]
    assert digests(mp.directory / "out") == digests(family.experts["math"])


def test_add_says_what_the_contract_promises(empty: Command, family: Family) -> None:
    first = empty.json("add", family.base, "--branch", "base")
    expected = "branch commit manifest tensors blocks new_blocks raw_bytes stored_bytes base seconds"
    assert set(first) == set(expected.split())
    assert first["base"] is None
    second = empty.json("add", family.experts["math"], "--branch", "math")
    assert second["base"] == "base"
    assert second["new_blocks"] < second["blocks"]


def test_several_are_added_at_once_each_on_a_branch_called_as_it_is(empty: Command, family: Family) -> None:
    """The base goes ahead, wherever it stands, and the others lean on it."""
    told = empty.json("add", *family.experts.values(), family.base, "--base", "base", "-m", "all")
    assert [one["branch"] for one in told["added"]] == [*family.experts, "base"]
    assert [one["base"] for one in told["added"]] == ["base", "base", None]
    assert set(told) == {"added", "raw_bytes", "stored_bytes", "seconds"}
    assert told["raw_bytes"] == sum(one["raw_bytes"] for one in told["added"])
    for name, path in {"base": family.base, **family.experts}.items():
        empty("checkout", name, f"out-{name}")
        assert digests(empty.directory / f"out-{name}") == digests(path)
        assert empty.json("log", name)["commits"][0]["message"] == "all"
    text = empty("add", *family.experts.values()).out
    assert "math has this very checkpoint already" in text
    assert "code has this very checkpoint already" in text


def test_without_a_base_the_first_is_there_for_the_others_to_be_found(empty: Command, family: Family) -> None:
    told = empty.json(
        "add", family.base, *family.experts.values(), "--branch", "b", "--branch", "x", "--branch", "y"
    )
    assert [(one["branch"], one["base"]) for one in told["added"]] == [("b", None), ("x", "b"), ("y", "b")]


def test_branches_and_paths_must_match(empty: Command, family: Family) -> None:
    said = empty("add", family.base, "--branch", "a", "--branch", "b", code=2)
    assert "--branch is given 2 times for 1 PATH" in said.err
    said = empty(
        "add", family.base, *family.experts.values(), *2 * ("--branch", "a"), "--branch", "b", code=2
    )
    assert "two checkpoints for the branch a" in said.err


def test_several_of_which_one_is_wrong_store_nothing(empty: Command, family: Family) -> None:
    said = empty("add", family.base, "nowhere", "--base", "base", code=3)
    assert "nowhere" in said.err
    assert empty.json("branch")["branches"] == []
    assert empty.json("stats")["blocks"] == 0


def test_the_base_among_several_may_be_named_in_full(empty: Command, family: Family) -> None:
    told = empty.json("add", family.experts["math"], family.base, "--base", "heads/base")
    assert [one["base"] for one in told["added"]] == ["heads/base", None]
    assert empty.json("show", "math")["parents"][0]["commit"] == told["added"][1]["commit"]


def test_a_base_that_is_a_tag_too_is_asked_about_before_anything_is_stored(
    mp: Command, family: Family
) -> None:
    mp("branch", "-d", "base")
    mp("tag", "base", "math")
    said = mp("add", family.base, family.experts["code"], "--base", "base", code=3)
    assert "heads/base" in said.err
    assert "base" not in [one["branch"] for one in mp.json("branch")["branches"]]
    told = mp.json("add", family.base, family.experts["math"], "--base", "heads/base")
    assert told["added"][0]["branch"] == "base"


@pytest.mark.parametrize(
    ("base", "hint"),
    [
        ("bas", "did you mean 'base'?"),
        ("{path}", "that directory's branch is called base"),
        ("{other}", "add that directory first"),
    ],
)
def test_a_base_that_is_no_revision_is_said_how_to_name(
    empty: Command, family: Family, base: str, hint: str
) -> None:
    base = base.format(path=f"{family.base}/", other=family.experts["code"])
    said = empty("add", family.base, family.experts["math"], "--base", base, code=3)
    assert hint in said.err
    assert empty.json("stats")["blocks"] == 0


def test_branches_that_cannot_be_beside_each_other_are_said_before_anything_is_stored(
    empty: Command, family: Family
) -> None:
    pair = (family.base, family.experts["math"])
    said = empty("add", *pair, "--branch", "a/b", "--branch", "a", code=2)
    assert "'a' and 'a/b'" in said.err
    assert empty.json("stats")["blocks"] == 0
    empty("add", family.base, "--branch", "a")
    before = empty.json("stats")["blocks"]
    assert "branch 'a' exists" in empty("add", pair[1], "--branch", "a/b", code=2).err
    assert empty.json("stats")["blocks"] == before


def test_what_does_not_fit_its_base_is_said_before_the_base_is_stored(
    empty: Command, family: Family, tmp_path: Path
) -> None:
    other = write_checkpoint(tmp_path / "other", {"w": np.ones(5, np.float32)})
    assert "no tensor" in empty("add", family.base, other, "--base", "base", code=8).err
    said = empty("add", family.base, other, "--base", "base", "--kind", "lora", code=2)
    assert f"{other} has no adapter_config.json" in said.err
    assert empty.json("stats")["blocks"] == 0


def test_the_kind_is_not_said_of_the_base(empty: Command, family: Family) -> None:
    deltas = family.experts["math"]  # as good as any
    empty("add", family.base, deltas, "--base", "base", "--kind", "delta")
    kinds = [empty.json("log", name, "-n", "1")["commits"][0]["kind"] for name in ("base", "math")]
    assert kinds == ["full", "delta"]


def test_a_hook_that_refuses_one_of_several_is_told_of_which(empty: Command, family: Family) -> None:
    hook = empty.directory / ".mp/hooks/pre-add"
    hook.write_text('#!/bin/sh\nif grep -q \'"branch": "math"\'; then echo no math; exit 1; fi\n')
    hook.chmod(0o755)
    said = empty("add", family.base, *family.experts.values(), "--base", "base", code=9)
    assert f"{family.experts['math']}: hook 'pre-add' refused: no math" in said.err
    assert empty.json("stats")["blocks"] == 0


def test_a_directory_of_a_recipe_that_is_no_checkpoint_is_said_with_its_line(
    mp: Command, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    recipe = tmp_path / "recipe.yml"
    model = f"{{model: {tmp_path}/none, parameters: {{weight: 1}}}}"
    recipe.write_text(f"merge_method: linear\nbase_model: base\nmodels:\n  - {model}\n")
    said = mp("merge", recipe, "--branch", "m", code=8).err
    assert "recipe.yml, line 4: " in said
    assert f"{tmp_path}/none is empty" in said


def test_seconds_of_several_are_those_of_the_whole_call(empty: Command, family: Family) -> None:
    told = empty.json("add", family.base, family.experts["math"], "--base", "base")
    assert told["seconds"] >= sum(one["seconds"] for one in told["added"]) - 0.002


@pytest.mark.parametrize(
    ("directory", "branch"),
    [("a..b", "a-b"), ("x.lock", "x-lock"), ("...", "model"), ("ä" * 120, "ä" * 100)],
)
def test_any_directory_s_name_makes_a_branch_s(
    empty: Command, family: Family, tmp_path: Path, directory: str, branch: str
) -> None:
    shutil.copytree(family.base, tmp_path / directory)
    assert empty.json("add", tmp_path / directory)["branch"] == branch


def test_a_directory_whose_name_is_no_unicode_is_added(
    empty: Command, family: Family, tmp_path: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "bad") + b"\xff"))
    try:
        shutil.copytree(family.base, odd)
    except OSError:
        pytest.skip("this file system has names in Unicode only")
    told = empty.json("add", odd, family.experts["math"])
    assert [one["branch"] for one in told["added"]] == ["bad", "math"]
    assert empty.json("log", "bad")["commits"][0]["message"] == "add bad\ufffd"
    words = ("merge", "--base", "math", "--expert", f"{odd}:weight=1", "--op", "linear", "--branch", "m")
    assert "is not Unicode" in empty(*words, code=2).err


def test_a_file_whose_name_is_not_utf_8_is_to_be_renamed(
    empty: Command, family: Family, tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copytree(family.base, tmp_path / "model"))
    try:
        Path(os.fsdecode(os.fsencode(checkpoint / "bad") + b"\xff.txt")).write_text("x")
    except OSError:
        pytest.skip("this file system has names in Unicode only")
    refused = empty("add", checkpoint, code=4).err
    assert "its name is not UTF-8" in refused
    assert "rename the file" in refused
    assert "codec" not in refused


def test_a_branch_is_called_as_what_it_was_made_from(empty: Command, family: Family, tmp_path: Path) -> None:
    odd = Path(shutil.copytree(family.base, tmp_path / "My model (v2)"))
    assert empty.json("add", odd)["branch"] == "My-model-v2"
    single = tmp_path / "one.safetensors"
    single.write_bytes(safetensors_bytes({"w": np.arange(5, dtype=np.float32)}))
    assert empty.json("add", single)["branch"] == "one"


def test_blocks_and_new_blocks_count_the_same_things(empty: Command, tmp_path: Path) -> None:
    """The tensors' blocks: neither headers nor other files; what a checkpoint repeats is new once."""
    tensors = {"a": np.arange(3000, dtype=np.float32), "b": np.ones(2048, np.float32)}
    first = empty.json("add", write_checkpoint(tmp_path / "one", tensors), "--branch", "one")
    assert (first["blocks"], first["new_blocks"]) == (3 + 2, 3 + 1)
    tensors["a"] = np.concatenate([tensors["a"][:2900], np.zeros(100, np.float32)])
    second = empty.json("add", write_checkpoint(tmp_path / "two", tensors), "--branch", "two")
    assert (second["blocks"], second["new_blocks"]) == (3 + 2, 1)


def test_the_same_checkpoint_again_stores_nothing(mp: Command, family: Family) -> None:
    again = mp.json("add", family.base, "--branch", "copy")
    assert again["new_blocks"] == 0
    assert again["manifest"] == mp.json("show", "base")["manifest"]


def test_a_single_file_is_a_checkpoint(empty: Command, tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(safetensors_bytes({"w": np.arange(5, dtype=np.float32)}))
    empty("add", path, "--branch", "one")
    empty("checkout", "one", "out")
    assert (empty.directory / "out" / "one.safetensors").read_bytes() == path.read_bytes()


def test_odd_tensors_survive(empty: Command, tmp_path: Path) -> None:
    """An empty tensor, a zero-dimensional one, one of a prime size, NaN payloads, infinities."""
    bits = np.array([0x7FC0, 0x7FC1, 0xFFFF, 0x7F80, 0xFF80, 0x0001, 0x8000], np.uint16)
    tensors = {
        "empty": np.zeros((0, 7), np.float32),
        "scalar": np.array(3.5, np.float32),
        "prime": np.arange(10007, dtype=np.float32),
        "nan": bits.view("V2").view(read_bfloat16()),
        "flags": np.array([True, False]),
    }
    path = tmp_path / "odd" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(safetensors_bytes(tensors))
    empty("add", path.parent, "--branch", "odd")
    empty("checkout", "odd", "out")
    assert (empty.directory / "out" / "model.safetensors").read_bytes() == path.read_bytes()
    shapes = {one["tensor"]: one["shape"] for one in empty.json("ls", "odd")["tensors"]}
    assert shapes == {key: list(array.shape) for key, array in tensors.items()}
    assert empty.json("cat", "odd", "nan")["nonfinite"] == 5
    assert empty.json("cat", "odd", "scalar")["values"] == 3.5
    assert empty.json("cat", "odd", "empty")["values"] == []


def read_bfloat16() -> np.dtype:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def test_cat_saves_what_numpy_reads(mp: Command, family: Family) -> None:
    key = "model.layers.0.mlp.up_proj.weight"
    mp("cat", "math", key, "-o", "w.npy")
    saved = np.load(mp.directory / "w.npy")
    assert saved.dtype == np.float32
    assert np.array_equal(saved, read_checkpoint(family.experts["math"])[key].astype(np.float32))


@pytest.mark.parametrize("piece_elements", [1, 3, 10_000])
def test_figures_of_a_tensor_do_not_depend_on_how_it_is_cut(
    empty: Inline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_elements: int
) -> None:
    from mpstore.cli import cat

    monkeypatch.setattr(cat, "_PIECE_ELEMENTS", piece_elements)
    values = np.array([1.5, np.nan, -2.25, np.inf, 0.5, 4.0, -np.inf], np.float32)
    (tmp_path / "odd.safetensors").write_bytes(safetensors_bytes({"few": values, "none": values[[1, 3]]}))
    empty("add", tmp_path / "odd.safetensors", "--branch", "odd")
    found = empty.json("cat", "odd", "few")
    assert [found[key] for key in ("nonfinite", "min", "max", "mean")] == [3, -2.25, 4.0, 0.9375]
    assert found["norm"] == pytest.approx(np.linalg.norm([1.5, 2.25, 0.5, 4.0]), rel=1e-15)
    assert not {"min", "max", "mean", "norm"} & empty.json("cat", "odd", "none").keys()


def test_ls_lists_branches_files_and_tensors(mp: Command, family: Family) -> None:
    assert [one["branch"] for one in mp.json("ls")["branches"]] == ["base", "code", "math"]
    listing = mp.json("ls", "base")
    assert {one["path"]: one["raw_bytes"] for one in listing["files"]} == {
        path.name: path.stat().st_size for path in family.base.iterdir()
    }
    assert len(listing["tensors"]) == len(read_checkpoint(family.base))
    assert [one["tensor"] for one in mp.json("ls", "base", "*.norm.weight")["tensors"]] == [
        "model.norm.weight"
    ]


def test_diff_counts_and_measures(mp: Command, family: Family) -> None:
    key = "model.layers.0.mlp.up_proj.weight"
    found = {one["tensor"]: one for one in mp.json("diff", "base", "math")["tensors"]}
    a, b = (read_checkpoint(path)[key].astype(np.float64) for path in (family.base, family.experts["math"]))
    assert found[key]["relative_l2"] == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a))
    assert found[key]["max_abs"] == pytest.approx(np.abs(b - a).max())
    assert not any(name.startswith("model.layers.0.self_attn") for name in found)
    assert "+++" in mp("diff", "base", "math", "--stat").out


def test_diff_with_a_directory_agrees_with_diff_of_revisions(mp: Command, family: Family) -> None:
    stored = mp.json("diff", "base", "math")
    loose = mp.json("diff", "base", family.experts["math"])
    assert [one["tensor"] for one in stored["tensors"]] == [one["tensor"] for one in loose["tensors"]]
    for one, other in zip(stored["tensors"], loose["tensors"], strict=True):
        assert one["changed_blocks"] == other["changed_blocks"]
        assert one["relative_l2"] == pytest.approx(other["relative_l2"], rel=1e-6)


def test_diff_of_two_directories_counts_the_repository_s_blocks(mp: Command, family: Family) -> None:
    loose = mp.json("diff", family.base, family.experts["math"])
    assert loose["tensors"] == mp.json("diff", "base", family.experts["math"])["tensors"]


def test_paths_are_taken_from_where_option_c_points(mp: Command, family: Family, tmp_path: Path) -> None:
    shutil.copytree(family.experts["math"], mp.directory / "loose")
    elsewhere = Inline(tmp_path)
    elsewhere("-C", mp.directory, "diff", "loose", "math", "--exit-code")
    elsewhere("-C", "work", "-C", "loose", "status", ".", "math", "--exit-code")
    plan = elsewhere.json(
        "-C", mp.directory, "plan", "--base", "base", "--expert", "./loose", "--op", "linear"
    )
    assert plan["experts"][0]["model"] == "./loose"


def test_diff_exit_code(mp: Command) -> None:
    mp("diff", "base", "math", code=0)
    mp("diff", "base", "math", "--exit-code", code=1)
    mp("diff", "base", "base", "--exit-code", code=0)
    mp("diff", "base", "nowhere", "--exit-code", code=3)


def test_log_shows_newest_first_with_names(mp: Command) -> None:
    commits = mp.json("log")["commits"]
    assert [one["message"] for one in commits] == ["tuned for code", "tuned for math", "the base"]
    assert commits[0]["refs"] == ["heads/code"]
    assert commits[0]["author"] == "tester"
    assert [one["message"] for one in mp.json("log", "math")["commits"]] == ["tuned for math", "the base"]
    assert len(mp.json("log", "-n", "1")["commits"]) == 1


def test_log_as_dot(mp: Command) -> None:
    text = mp("log", "--dot").out
    assert text.startswith("digraph")
    assert text.count(" -> ") == sum(len(one["parents"]) for one in mp.json("log")["commits"])
    mp("log", "--dot", "--graph", code=2)


def test_log_graph_joins_lines_at_the_base(mp: Command) -> None:
    lines = mp("log", "--graph", "--oneline").out.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["*", "|", "|/", "*"]
    assert "(base) the base" in lines[-1]


def test_show_lists_files_with_their_digests(mp: Command, family: Family) -> None:
    shown = mp.json("show", "math")
    assert {one["path"]: one["sha256"] for one in shown["files"]} == digests(family.experts["math"])
    assert [one["role"] for one in shown["parents"]] == ["base"]


def test_revisions_can_be_named_in_every_way(mp: Command) -> None:
    commit = mp.json("show", "math")["commit"]
    mp("tag", "v1", "math")
    for name in (commit, commit[:10], "v1", "tags/v1", "heads/math"):
        assert mp.json("show", name)["commit"] == commit, name
    assert mp.json("show", "math^base")["commit"] == mp.json("show", "base")["commit"]


def test_branches_are_made_moved_and_deleted(mp: Command) -> None:
    mp("branch", "experiment", "math")
    assert "exists" in mp("branch", "experiment", "code", code=5).err
    mp("branch", "-f", "experiment", "code")
    branches = {one["branch"]: one["commit"] for one in mp.json("branch")["branches"]}
    assert branches["experiment"] == branches["code"]
    mp("branch", "-d", "experiment")
    assert "experiment" not in mp("branch").out
    entries = mp.json("reflog", "experiment")["entries"]
    assert [entry["sequence"] for entry in entries] == [3, 2, 1]
    assert entries[0]["new"] is None
    mp("branch", "experiment", str(entries[0]["old"]))


def test_the_reflog_knows_who_moved_a_name(mp: Command) -> None:
    mp("branch", "mine", "math")
    mp("branch", "-f", "mine", "code")
    mp("branch", "-d", "mine")
    mp("tag", "v1", "math")
    mp("tag", "-d", "v1")
    entries = mp.json("reflog", "mine")["entries"] + mp.json("reflog", "v1")["entries"]
    assert [one["who"] for one in entries] == ["tester"] * 5


def test_who_commits_may_stand_in_the_settings(mp: Command) -> None:
    config = mp.directory / ".mp" / "config"
    config.write_text(config.read_text().replace('author = ""', 'author = "the lab"'))
    mp("tag", "theirs", "math", MP_AUTHOR="")
    mp("tag", "mine", "math", MP_AUTHOR="me")
    assert [mp.json("reflog", name)["entries"][0]["who"] for name in ("theirs", "mine")] == ["the lab", "me"]


def test_a_branch_that_shares_its_name_with_a_tag_is_still_looked_at(mp: Command, family: Family) -> None:
    mp("tag", "math", "base")
    found = mp.json("status", family.experts["math"], "--exit-code")
    assert found["revision"] == "heads/math"
    assert [one["revision"] for one in mp.json("analyze")["pairs"]] == ["code", "heads/math"]


def test_a_damaged_pack_is_named_with_what_to_do(mp: Command) -> None:
    packs = list((mp.directory / ".mp" / "objects" / "packs").glob("*.pack"))
    for pack in packs:
        with pack.open("r+b") as stream:
            stream.truncate(pack.stat().st_size - 4)
    said = [mp("checkout", name, "out", code=None).err for name in ("base", "math", "code")]
    assert any(".pack" in one and "mp: hint: `mp fsck" in one for one in said)


@pytest.mark.parametrize("base", [(), ("--base", "base")], ids=["no base", "base"])
def test_an_add_that_meets_damage_says_that_what_it_shares_is_damaged(
    mp: Command, family: Family, base: tuple[str, ...]
) -> None:
    """Blocks that indexes list are not stored again, so that the branch cannot be read either."""
    for pack in (mp.directory / ".mp" / "objects" / "packs").glob("*.pack"):
        bits = bytearray(pack.read_bytes())
        if int.from_bytes(bits[6:8], "little") == BLOCKS:
            bits[100::50] = bytes(len(bits[100::50]))
            pack.chmod(0o644)
            pack.write_bytes(bits)
    said = mp("add", family.base, "--branch", "again", *base).err
    assert "blocks in common" in said.splitlines()[-1]
    assert "`mp fsck --read-data`" in said.splitlines()[-1]
    mp("checkout", "again", "out", code=4)


def test_tags_never_move(mp: Command) -> None:
    mp("tag", "v1", "math")
    mp("tag", "v1", "math")
    assert "never moves" in mp("tag", "v1", "code", code=5).err
    assert [one["tag"] for one in mp.json("tag")["tags"]] == ["v1"]
    mp("tag", "-d", "v1")
    assert mp.json("tag")["tags"] == []


def test_hooks_stop_and_follow_an_add(mp: Command, family: Family) -> None:
    hooks = mp.directory / ".mp" / "hooks"
    (hooks / "pre-add.sample").rename(hooks / "pre-add")
    (hooks / "post-commit.sample").rename(hooks / "post-commit")
    refused = mp("add", family.base, "--branch", "again", code=9)
    assert "-m" in refused.err
    assert "again" not in mp("branch").out
    mp("add", family.base, "--branch", "again", "-m", "trained by us")
    (line,) = (mp.directory / "commits.log").read_text().splitlines()
    assert "add again" in line


def test_quiet_says_nothing_but_answers(mp: Command, family: Family) -> None:
    assert mp("add", family.base, "--branch", "again", "-q").out == ""
    assert "again" in mp("branch", "-q").out


def test_answers_go_through_a_pipe_that_closes(mp: Command) -> None:
    done = in_shell(mp.directory, "mp cat base lm_head.weight --json | head -n 1")
    assert (done.code, done.out, done.err) == (0, "{\n", "")


def test_log_of_json_is_json_for_every_question(mp: Command) -> None:
    for words in (
        ["log"],
        ["show", "base"],
        ["ls", "base"],
        ["diff", "base", "math"],
        ["branch"],
        ["reflog"],
        ["hooks"],
    ):
        json.loads(mp(*words, "--json").out)


def test_deltas_that_do_not_say_what_they_are_are_pointed_out(
    mp: Command, family: Family, tmp_path: Path
) -> None:
    base, expert = read_checkpoint(family.base), read_checkpoint(family.experts["math"])
    deltas = {key: (expert[key].astype(np.float32) - base[key].astype(np.float32)) for key in base}
    directory = write_checkpoint(tmp_path / "delta", deltas)
    asked = mp("add", directory, "--branch", "asked", "--base", "base")
    assert "--kind delta adds it as one" in asked.err
    assert mp.json("show", "asked")["kind"] == "full"
    said = mp("add", directory, "--branch", "said", "--base", "base", "--kind", "delta")
    known = mp("add", directory, "--branch", "known", "--base", "base", "--kind", "full")
    full = mp("add", family.experts["code"], "--branch", "full", "--base", "base")
    assert "delta" not in said.err + known.err + full.err
