"""Bad input through the real command: the right exit code, a message that names the culprit and says what to
do, and nothing lost. One item of each exit code is tried in a process of its own (`real`), the others in this
one.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import MP, Command, Ended, Inline, process
from families import Family, base_tensors, fine_tuned, write_checkpoint

from mpstore import files
from mpstore.repository import Repo

Words = Callable[..., list[str]]


@pytest.fixture
def real(tmp_path: Path, filled: Path) -> Command:
    """`mp` as a process, in a copy of the filled repository."""
    shutil.copytree(filled / ".mp", tmp_path / "real" / ".mp")
    return Command(tmp_path / "real")


@pytest.fixture
def quick(real: Command) -> Command:
    """The same repository, without a process for each command."""
    return Inline(real.directory)


@pytest.fixture
def unharmed(quick: Command) -> Iterator[None]:
    """After the test: the same branches, and fsck content."""
    before = quick.json("branch")
    yield
    assert quick.json("branch") == before
    quick("fsck")


def header_of(entries: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file whose header says just that."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str = "F32", shape: tuple[Any, ...] = (2,), start: int = 0, stop: int = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


EIGHT = b"\0" * 8
DUPLICATE = (
    b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
)
LIES: dict[str, bytes] = {
    "empty file": b"",
    "truncated length": b"\x10\0\0",
    "truncated header": header_of({"w": entry()}, EIGHT)[:20],
    "truncated data": header_of({"w": entry()}, EIGHT[:5]),
    "bytes left over": header_of({"w": entry()}, EIGHT + b"x"),
    "offsets past the end": header_of({"w": entry(shape=(4,), stop=16)}, EIGHT),
    "offsets backwards": header_of({"w": entry(start=8, stop=0)}, EIGHT),
    "overlap": header_of({"v": entry(), "w": entry(start=4, stop=12)}, EIGHT + b"\0" * 4),
    "hole": header_of({"v": entry(), "w": entry(start=12, stop=20)}, b"\0" * 20),
    "negative shape": header_of({"w": entry(shape=(-2,))}, EIGHT),
    "huge shape": header_of({"w": entry(shape=(2**62, 2**62))}, EIGHT),
    "shape that is no number": header_of({"w": entry(shape=(2.5,))}, EIGHT),
    "shape that does not fit": header_of({"w": entry(shape=(3,))}, EIGHT),
    "unknown dtype": header_of({"w": entry(dtype="Q7")}, EIGHT),
    "duplicate name": struct.pack("<Q", 112) + DUPLICATE.ljust(112) + EIGHT,
    "header longer than the file": header_of({"w": entry()}, EIGHT, length=2**40),
    "header of 2^63 bytes": header_of({"w": entry()}, EIGHT, length=2**63),
    "not JSON": struct.pack("<Q", 8) + b"{{{{{{{{" + EIGHT,
    "header is a list": struct.pack("<Q", 2) + b"[]",
    "no such fields": header_of({"w": {"dtype": "F32"}}, EIGHT),
    "deeply nested": struct.pack("<Q", 20000) + b"[" * 20000,
}


@pytest.mark.usefixtures("unharmed")
def test_lying_safetensors_headers(real: Command, quick: Command, tmp_path: Path) -> None:
    for number, (what, raw) in enumerate(LIES.items()):
        path = tmp_path / f"lie{number}" / "model.safetensors"
        path.parent.mkdir()
        path.write_bytes(raw)
        refused = (quick if number else real)("add", path.parent, "--branch", "lie", code=4)
        assert "model.safetensors" in refused.err, what
        assert "mp: hint: " in refused.err, what


@pytest.mark.usefixtures("unharmed")
def test_only_pickled_weights(real: Command, tmp_path: Path) -> None:
    directory = tmp_path / "pickled"
    directory.mkdir()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps({"w": [1.0]}))
    (directory / "config.json").write_text("{}")
    refused = real("add", directory, "--branch", "pickled", code=8)
    assert "pytorch_model.bin" in refused.err
    assert "unpickle" in refused.err


@pytest.mark.usefixtures("unharmed")
def test_what_is_not_there(real: Command, quick: Command, tmp_path: Path) -> None:
    assert "nowhere" in quick("add", tmp_path / "nowhere", "--branch", "x", code=3).err
    (tmp_path / "void").mkdir()
    assert "is empty" in quick("add", tmp_path / "void", "--branch", "x", code=8).err
    for words in (["checkout", "mth", "out"], ["log", "mth"], ["diff", "base", "mth"], ["ls", "mth"]):
        refused = (real if words[0] == "checkout" else quick)(*words, code=3)
        assert "mth" in refused.err
        assert "math" in refused.err, "the nearest known name is named"
    assert "lm_head.weight" in quick("cat", "base", "lm_haed.weight", code=3).err
    assert not (real.directory / "out").exists()


@pytest.mark.usefixtures("unharmed")
def test_a_message_that_is_not_utf_8(quick: Command, merge_words: Words, tmp_path: Path) -> None:
    """Refused before anything is looked at: the model is not there either."""
    for words in (
        ["add", tmp_path / "nowhere"],
        ["merge", *merge_words()],
        ["pull", "hf://a/b"],
        ["push", "hf://a/b"],
    ):
        refused = quick(*words, "-m", "\udcff", code=2)
        assert "-m: the message is not UTF-8" in refused.err


@pytest.mark.usefixtures("unharmed")
def test_output_into_a_directory_that_is_not_there(real: Command, quick: Command, merge_words: Words) -> None:
    refused = quick("cat", "base", "model.norm.weight", "-o", "nowhere/w.npy", code=3)
    assert "-o: there is no directory" in refused.err
    refused = quick("plan", *merge_words("linear"), "--plot", "nowhere/c.png", code=3)
    assert "--plot: there is no directory" in refused.err
    assert not (real.directory / "nowhere").exists()


def test_ambiguous_prefix_lists_what_fits(real: Command, quick: Command) -> None:
    """Enough commits that two of them begin with the same sixteen bits."""
    repo = Repo.open(real.directory)
    tip = repo.tip("base")
    assert tip is not None
    commit = repo.commit(tip)
    with repo.objects.writer("test") as writer:
        made = [repo.put(writer, replace(commit, message=str(number))).hex() for number in range(1500)]
        writer.finish()
    by_prefix: dict[str, list[str]] = {}
    for one in made:
        by_prefix.setdefault(one[:4], []).append(one)
    prefix, several = next(item for item in by_prefix.items() if len(item[1]) > 1)
    refused = quick("show", prefix, code=3)
    for one in several:
        assert one[:10] in refused.err
        quick("show", one[:12])
    assert "more digits" in refused.err


@pytest.mark.usefixtures("unharmed")
def test_names_that_no_branch_may_have(real: Command, quick: Command, family: Family) -> None:
    assert ".." in quick("add", family.base, "--branch", "a..b", code=2).err
    assert "\x1b" not in quick("add", family.base, "--branch", "a\x1bb", code=2).err
    for name in (
        "..",
        "../x",
        "a/../b",
        "/abs",
        "a//b",
        "a\nb",
        "a\x7fb",
        "-x",
        "@",
        "a@{1}",
        "a~1",
        "x" * 300,
        "heads/math",
        "tags/v1",
        "refs/heads/math",
    ):
        refused = quick("add", family.base, f"--branch={name}", code=2)
        assert refused.err.startswith("mp: error: "), name
        assert "\x7f" not in refused.err
    quick("branch", "a..b", "base", code=2)
    quick("tag", "a..b", "base", code=2)
    assert not (real.directory / ".mp" / "x").exists()


@pytest.mark.usefixtures("unharmed")
def test_another_shape(quick: Command, tmp_path: Path) -> None:
    tensors = fine_tuned(base_tensors(), seed=9)
    key = "model.norm.weight"
    bent = {**tensors, key: np.ones(65, np.float32).astype(tensors[key].dtype)}
    quick("add", write_checkpoint(tmp_path / "bent", bent), "--branch", "bent", "--base", "base", "-q")
    words = ["--base", "base", "--expert", "bent", "--expert", "math", "--op", "linear"]
    for refused in (quick("plan", *words, code=8), quick("merge", *words, "--branch", "merged", code=8)):
        assert key in refused.err
        assert "bent" in refused.err
    quick("branch", "-d", "bent")


@pytest.mark.usefixtures("unharmed")
def test_integers_that_differ(quick: Command, tmp_path: Path) -> None:
    """Floats of another width are merged; integers must be the base's."""
    for name, ids in (("old", np.arange(4)), ("new", np.arange(4) + 1), ("odd", np.arange(4, dtype=np.int8))):
        tensors = {"w": np.ones(300, np.float32), "position_ids": ids}
        write_checkpoint(tmp_path / name, tensors, shards=1)
        quick("add", tmp_path / name, "--branch", name, "-q")
    for expert in ("new", "odd"):
        words = ["--base", "old", "--expert", expert, "--op", "linear", "--branch", "merged"]
        assert "position_ids" in quick("merge", *words, code=8).err
    for name in ("old", "new", "odd"):
        quick("branch", "-d", name)


@pytest.mark.usefixtures("unharmed")
def test_budgets_that_are_none(real: Command, quick: Command, merge_words: Words) -> None:
    for budget in ("-1", "-5%", "lots", "25 percent", "1e9x", "", "%", "9" * 5000):
        run = real if budget == "-1" else quick
        refused = run("merge", *merge_words(), f"--budget={budget}", "--branch", "merged", code=2)
        assert "--budget" in refused.err
        assert "mp: hint: " in refused.err


@pytest.mark.usefixtures("unharmed")
def test_density_outside_its_interval(quick: Command, merge_words: Words) -> None:
    for density in ("0", "-0.1", "1.5", "nan", "much"):
        words = merge_words()
        words[3] = f"math:weight=1,density={density}"
        refused = quick("merge", *words, "--branch", "merged", code=2)
        assert "density" in refused.err


@pytest.mark.usefixtures("unharmed")
def test_recipes_that_cannot_be_meant(quick: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yml"
    good = "merge_method: linear\nbase_model: base\nmodels:\n  - model: math\n    parameters: {weight: 1}\n"
    for text, code, said in (
        (good.replace("merge_method", "merge_metod"), 2, "merge_method"),
        (good.replace("weight", "wieght"), 2, "weight"),
        (good.replace("linear", "linaer"), 2, "linear"),
        (good.replace("model: math", "model: mth"), 3, "math"),
        (good + "modules: {}\n", 2, "modules"),
        ("- [", 2, "line"),
        ("", 2, "empty"),
        ("a: &a [*a]", 2, "a"),
        ("!!python/object/apply:os.system ['true']", 2, "recipe"),
    ):
        recipe.write_text(text)
        assert said in quick("merge", recipe, "--branch", "merged", code=code).err, text
    assert "nowhere.yml" in quick("merge", "nowhere.yml", "--branch", "merged", code=3).err


@pytest.mark.usefixtures("unharmed")
def test_recipes_that_are_other_files(quick: Command, tmp_path: Path) -> None:
    """A model's weights by mistake: neither read into memory nor quoted."""
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 << 40)
    for path in (tmp_path / "model.safetensors", "/dev/zero"):
        assert f"{path} has more than" in quick("merge", path, "--branch", "merged", code=2).err
    assert "/proc/self/mem: " in quick("merge", "/proc/self/mem", "--branch", "merged", code=1).err
    (tmp_path / "long.yml").write_text(f"merge_method: linear\n? {'k' * 100_000}\n: 1\n")
    said = quick("merge", tmp_path / "long.yml", "--branch", "merged", code=2).err
    assert "unknown key" in said
    assert len(said) < 10_000


def test_messages_do_not_steer_the_terminal(quick: Command, family: Family) -> None:
    quick("add", family.base, "--branch", "steered", "-m", "\x1b]0;title\x07 and\ttext")
    for verb in ("log", "show"):
        said = quick(verb, "steered").out
        assert "\\x1b]0;title\\x07 and\ttext" in said
        assert "\x1b" not in said
    assert quick.json("log", "steered")["commits"][0]["message"] == "\x1b]0;title\x07 and\ttext"
    quick("branch", "-d", "steered")


@pytest.mark.usefixtures("unharmed")
def test_numbers_of_thousands_of_digits(quick: Command, merge_words: Words) -> None:
    for flag, words in (("--memory", merge_words()), ("--keep-reflog", ["--dry-run"])):
        verb = "plan" if flag == "--memory" else "gc"
        assert flag in quick(verb, *words, flag, "9" * 5000 + "d"[: verb == "gc"], code=2).err


@pytest.mark.usefixtures("unharmed")
def test_a_missing_parameter_is_asked_for_as_it_would_be_said(quick: Command, tmp_path: Path) -> None:
    said = quick("merge", "--base", "base", "--expert", "math", "--op", "slerp", "--branch", "m", code=2)
    assert "add --set t=…" in said.err
    quick("merge", "--base", "base", "--expert", "math", "--op", "slerp", "--set", "t=0.5", "--dry-run")
    recipe = tmp_path / "recipe.yml"
    recipe.write_text("merge_method: slerp\nbase_model: base\nmodels: [{model: math}]\n")
    said = quick("merge", recipe, "--branch", "m", code=2)
    assert "add parameters: {t: …}" in said.err
    assert "--set" not in said.err


@pytest.mark.usefixtures("unharmed")
def test_a_stranger_is_told_what_was_meant(quick: Command, tmp_path: Path) -> None:
    """Words that look right to whoever typed them: what is said names the thing and how to write it."""
    recipe = tmp_path / "recipe.yml"
    start = ["plan", "--base", "base", "--op", "linear"]
    for text, words, code, said in (
        (
            "merge_method: linear\nbase_model: base\nmodels: math\n",
            None,
            2,
            "must be a list, and here is 'math'",
        ),
        ("merge_method: linear\nmodels:\n- math\n- base\n", None, 2, "write `- model: NAME`"),
        ("merge_method: linear\nmodels: {model: math}\n", None, 2, "must be a list, and here is a mapping"),
        (None, [*start, "--expert", "math:weight=a"], 2, "math: weight is a number, not 'a'"),
        (None, [*start, "--expert", "math:weigth=1"], 2, "math: linear has no parameter 'weigth'"),
        (None, [*start, "--expert", "math:weight"], 3, "a parameter has a value: math:weight=1"),
        (None, [*start, "--expert", "math:"], 3, "a parameter has a value: math:weight=1"),
    ):
        if text is not None:
            recipe.write_text(text)
        refused = quick(*(words or ["plan", recipe]), code=code)
        assert said in refused.err, refused.err


@pytest.mark.usefixtures("unharmed")
def test_a_model_of_another_kind_is_no_expert(quick: Command, tmp_path: Path) -> None:
    """No tensor in common: nothing would be merged, and that is not what anybody meant."""
    write_checkpoint(tmp_path / "other", {"w": np.ones(10, np.float32), "none": np.zeros((0, 5), np.float32)})
    quick("add", tmp_path / "other", "--branch", "other", "-q")
    for base, expert in (("base", "other"), ("other", "math")):
        words = ["--base", base, "--expert", expert, "--op", "linear", "--branch", "merged"]
        refused = quick("merge", *words, code=8)
        assert f"{expert} and the base have no tensor in common" in refused.err
    quick("branch", "-d", "other")


@pytest.mark.usefixtures("unharmed")
def test_a_hub_that_is_not_there(quick: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpstore.remotes.hub.PATIENCE_SECONDS", 0.001)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for words in (["pull", "hf://org/name"], ["push", "math", "hf://org/name"]):
        refused = quick(*words, code=7)
        assert "http://127.0.0.1:9 cannot be reached (Connection refused)" in refused.err
        assert "Errno" not in refused.err


@pytest.mark.usefixtures("unharmed")
def test_the_repository_is_not_checked_out_over(quick: Command) -> None:
    for target in (".", "./", "sub/.."):
        (quick.directory / "sub").mkdir(exist_ok=True)
        assert "holds the repository" in quick("checkout", "math", target, "--force", code=2).err
    assert "own .mp" in quick("checkout", "math", ".mp/x", code=2).err


def test_names_in_any_script_stand_in_columns(quick: Command) -> None:
    for name in ("模型", "e\u0301te\u0301", "plain"):
        quick("branch", name, "base")
    lines = quick("branch").out.splitlines()
    wide = {"模型": 4, "e\u0301te\u0301": 3}
    starts = set()
    for line in lines:
        name = line.split()[0]
        starts.add(wide.get(name, len(name)) + len(line) - len(name) - len(line[len(name) :].lstrip()))
    assert len(starts) == 1, lines
    assert "模型" in quick("log", "--oneline").out
    quick("checkout", "模型", "出")


@pytest.mark.usefixtures("unharmed")
def test_a_share_without_its_sign_is_no_budget(quick: Command, merge_words: Words) -> None:
    refused = quick("merge", *merge_words(), "--budget", ".25", "--branch", "merged", code=2)
    assert "did you mean 25%?" in refused.err
    assert "merged" not in quick("branch").out


def test_a_budget_of_a_byte(quick: Command, merge_words: Words) -> None:
    merged = quick.json("merge", *merge_words("linear"), "--budget", "1", "--branch", "tiny")
    assert (merged["expert_read_bytes"], merged["budget_bytes"], merged["exact"]) == (0, 1, False)
    assert quick.json("diff", "base", "tiny")["changed_tensors"] == 0
    quick("branch", "-d", "tiny")


@pytest.mark.usefixtures("unharmed")
def test_words_that_contradict_each_other(quick: Command, tmp_path: Path, merge_words: Words) -> None:
    (tmp_path / "recipe.yml").write_text("merge_method: linear\n")
    for words, said in (
        (["merge", str(tmp_path / "recipe.yml"), "--op", "ties", "--branch", "m"], "--op"),
        (["merge", *merge_words()], "--branch"),
        (["merge", "--base", "base", "--branch", "m"], "--op"),
        (["merge", "--base", "base", "--op", "linear", "--branch", "m"], "--expert"),
        (["merge", *merge_words()[:-2], "--branch", "m"], "--op"),
        (["merge", *merge_words("teis"), "--branch", "m"], "ties"),
        (["merge", *merge_words(), "--set", "lambda", "--branch", "m"], "name=value"),
        (["merge", *merge_words(), "--max-error", "tiny", "--branch", "m"], "--max-error"),
        (["merge", *merge_words(), "--memory", "big", "--branch", "m"], "--memory"),
        (["merge", *merge_words(), "--threads", "0", "--branch", "m"], "--threads"),
        (["merge", "--plan", "0" * 64, *merge_words(), "--branch", "m"], "--plan"),
        (["plan", "--plan", "0" * 64, *merge_words()], "--plan"),
        (["plan", "--plan", "0" * 64, "--budget", "5%"], "leave --budget out"),
        (["plan", "--plan", "0" * 64, "--op", "ties"], "leave --op out"),
        (["merge", *merge_words("linear", weight=1e300), "--branch", "m"], "float32"),
        (["merge", *merge_words(), "--budget", "9" * 30, "--branch", "m"], "any disk"),
        (["merge", "--base", "base", "--expert", "", "--op", "linear", "--branch", "m"], "name is empty"),
        (
            [
                "merge",
                "--base",
                "base",
                "--expert",
                "math:weight=1:density=.5",
                "--op",
                "ties",
                "--branch",
                "m",
            ],
            "weight=1,density",
        ),
        (["fsck", "--from", str(tmp_path)], "--repair"),
        (["fsck", "--read-data", "--read-data-subset", "1/2"], "--read-data-subset"),
    ):
        assert said in quick(*words, code=2).err, words
    quick("merge", "--plan", "0" * 64, "--branch", "m", code=3)


@pytest.mark.usefixtures("unharmed")
def test_a_base_that_cannot_be_meant(quick: Command, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "other", {"else.weight": np.zeros((4, 4), np.float32)})
    said = quick("add", tmp_path / "other", "--branch", "other", "--base", "base", code=8).err
    assert "the base base have no tensor" in said
    assert "a path is empty" in quick("add", "", "--branch", "other", code=2).err


@pytest.mark.usefixtures("unharmed")
def test_output_onto_a_directory(quick: Command, tmp_path: Path) -> None:
    said = quick("cat", "base", "model.norm.weight", "-o", str(tmp_path), code=2).err
    assert f"-o: {tmp_path} is a directory" in said


@pytest.mark.usefixtures("unharmed")
def test_a_pattern_that_fits_nothing_is_no_equality(quick: Command) -> None:
    quick("diff", "base", "math", "--tensor", "*norm*", "--exit-code", code=None)
    said = quick("diff", "base", "math", "--tensor", "model.norm.wieght", "--exit-code", code=3).err
    assert "'model.norm.wieght'" in said
    assert "did you mean 'model.norm.weight'" in said
    assert "mp ls" in quick("cat", "base", "zzzz", code=3).err


@pytest.mark.usefixtures("unharmed")
def test_impossible_limits_name_the_figure_that_would_do(
    real: Command, quick: Command, merge_words: Words
) -> None:
    limits = ["--max-error", "1e-9", "--budget", "1KiB"]
    refused = real("merge", *merge_words("linear"), *limits, "--branch", "merged", code=6)
    assert "would do" in refused.err
    budget = refused.err.rpartition("--budget ")[2].split()[0]
    quick("plan", *merge_words("linear"), "--max-error", "1e-9", "--budget", budget)


def test_disk_full(quick: Command, family: Family) -> None:
    """Every write from the n-th on fails as on a full disk; then there is room again."""
    before = quick.json("branch")
    for allowed in (0, 3, 8):
        room = allowed

        def full(operation: files.Operation) -> None:
            nonlocal room
            if operation.kind in ("write", "create", "mkdir"):
                room -= 1
                if room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), operation.path)

        files.set_observer(full)
        try:
            refused = quick("add", family.base, "--branch", "new", "--base", "math", code=1)
        finally:
            files.set_observer(None)
        assert "No space left" in refused.err
        assert "free some space" in refused.err
        assert quick.json("branch") == before
        left = json.loads(quick("fsck", "--read-data", "--json", code=None).out)["damage"]
        assert {one["what"] for one in left} <= {"index"}, "a pack whose index found no room is whole"
    quick("add", family.base, "--branch", "new", "--base", "math")
    quick("fsck", "--repair")
    quick("fsck")
    room = 0
    files.set_observer(full)
    try:
        said = quick("gc", code=1).err
    finally:
        files.set_observer(None)
    assert "cache may be deleted" in said, "who collects garbage has no other space to free"


def test_process_that_may_not_write_large_files(real: Command, quick: Command) -> None:
    """A real process that the kernel refuses to write for."""
    limited = Limited(real.directory)
    assert "mp: error: " in limited("checkout", "base", "out", code=1).err
    assert not (real.directory / "out").exists()
    quick("fsck")
    quick("checkout", "base", "out")


def test_read_only_directories(real: Command, quick: Command, family: Family, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    for above in (tmp_path, *tmp_path.parents, family.base.parent):  # pytest makes them private
        if above.name.startswith(("pytest-", "popen-", "family", tmp_path.name)):
            above.chmod(0o755)
    as_nobody = Unprivileged(real.directory)
    as_nobody.check()
    directories = [path for path in (real.directory / ".mp").rglob("*") if path.is_dir()]
    for directory in directories:
        directory.chmod(0o555)
    try:
        as_nobody("log")
        planned = as_nobody("plan", "--base", "base", "--expert", "math", "--op", "linear")
        assert "the plan is not stored" in planned.err
        for words in (
            ["add", family.base, "--branch", "new"],
            ["branch", "new", "base"],
            ["checkout", "base", locked / "out"],
            ["init", locked],
        ):
            refused = as_nobody(*words, code=1)
            assert "ermission" in refused.err or "read-only" in refused.err, words
    finally:
        for directory in directories:
            directory.chmod(0o755)
    assert [one["branch"] for one in quick.json("branch")["branches"]] == ["base", "code", "math"]
    quick("fsck")


class Unprivileged(Command):
    """`mp` by a user who may not write everywhere, which root may."""

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> Ended:
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        return process(self.directory, [*drop, *MP, *words], {**environment, "PYTHONDONTWRITEBYTECODE": "1"})

    def check(self) -> None:
        """Skip where another user cannot even start Python (it lies in root's home, say)."""
        try:
            ended = self.run(["--version"], {})
        except FileNotFoundError as error:
            pytest.skip(f"no way to drop privileges: {error}")
        if ended.code:
            pytest.skip(f"another user cannot run mp here: {ended.err}")


class Limited(Command):
    """`mp` that may not write a file of more than 16 KiB."""

    def run(self, words: Sequence[str], environment: Mapping[str, str]) -> Ended:
        # Python would put compiled modules into place even where the limit has cut them short.
        own = {**environment, "PYTHONDONTWRITEBYTECODE": "1"}
        return process(self.directory, ["prlimit", "--fsize=16384", *MP, *words], own)
