"""The main job, end to end: what issue 2 says a user can do, and what it must show."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command import Command, Inline, clean_environment
from families import Family, base_tensors, fine_tuned, read_checkpoint, write_checkpoint, write_family
from test_content import digests

from mpstore.repository import Repo
from mpstore.store import pack

Words = Callable[..., list[str]]


def test_what_a_user_can_do(tmp_path: Path) -> None:
    """The commands of the issue as they stand there; in processes of their own: test_docs.py, main_job.sh."""
    write_family(tmp_path)
    mp = Inline(tmp_path)
    script = """
        init --block-elements 1024
        add ./base --branch base
        add ./math --branch math --base base
        add ./code --branch code --base base
        plan {recipe} --budget 25%
        merge {recipe} --budget 25% --branch merged
        log merged --graph
        show merged
        diff base merged --stat
        explain merged
        replay merged
        checkout merged ./out
        fsck --read-data
        stats
    """
    experts = "--expert math:weight=1,density=.2 --expert code:weight=1,density=.2"
    for line in script.format(recipe=f"--base base {experts} --op ties").strip().splitlines():
        assert mp(*line.split()).out
    out, base = tmp_path / "out", tmp_path / "base"
    assert {path.name for path in out.iterdir()} >= {path.name for path in base.iterdir()}
    for name in ("config.json", "tokenizer.json", "model.safetensors.index.json"):
        assert (out / name).read_bytes() == (base / name).read_bytes()
    merged, before = read_checkpoint(out), read_checkpoint(base)
    assert {key: array.dtype for key, array in merged.items()} == {key: a.dtype for key, a in before.items()}
    assert any(not np.array_equal(merged[key], before[key]) for key in merged)


def test_output_loads_with_the_safetensors_library(mp: Command, merge_words: Words) -> None:
    from safetensors import safe_open

    mp("merge", *merge_words(density=0.2), "--branch", "merged")
    mp("checkout", "merged", "out")
    weight_map = json.loads((mp.directory / "out" / "model.safetensors.index.json").read_text())["weight_map"]
    for name, file in weight_map.items():
        with safe_open(mp.directory / "out" / file, framework="np") as opened:
            assert opened.get_slice(name).get_dtype() == "BF16"


def test_output_loads_with_transformers(mp: Command, merge_words: Words) -> None:
    transformers = pytest.importorskip("transformers")
    mp("merge", *merge_words(density=0.2), "--branch", "merged")
    mp("checkout", "merged", "out")
    model = transformers.AutoModelForCausalLM.from_pretrained(mp.directory / "out")
    assert model.config.hidden_size == 64


def copies(filled: Path, tmp_path: Path, count: int) -> list[Command]:
    made = []
    for number in range(count):
        shutil.copytree(filled / ".mp", tmp_path / str(number) / ".mp")
        made.append(Inline(tmp_path / str(number)))
    return made


@pytest.mark.parametrize("operator", ["linear", "ties", "dare_ties"])
def test_invariant_10_ids_agree_run_after_run_and_with_any_threads(
    filled: Path, tmp_path: Path, merge_words: Words, operator: str
) -> None:
    params = {} if operator == "linear" else {"density": 0.3}
    words = [*merge_words(operator, **params), "--budget", "30%", "--seed", "7"]
    seen = set()
    for mp, threads in zip(copies(filled, tmp_path, 3), ("1", "1", "5"), strict=True):
        planned = mp.json("plan", *words)
        merged = mp.json("merge", *words, "--threads", threads, "--branch", "merged")
        replayed = mp.json("replay", "merged", "--threads", threads)
        assert replayed["same"]
        seen.add((planned["plan"], merged["plan"], replayed["plan"], merged["manifest"]))
    assert len(seen) == 1


@pytest.mark.parametrize("operator", ["ties", "dare_linear"])
def test_invariant_08_files_do_not_depend_on_the_block_size(
    tmp_path: Path, merge_words: Words, operator: str
) -> None:
    """4 Ki, 64 Ki and 1 Mi elements; the tensor is longer than the first two and has an odd length."""
    generator = np.random.default_rng(5)
    base = {"w": generator.standard_normal(150_001).astype(np.float32), **base_tensors("F32")}
    paths = {"base": base, "math": fine_tuned(base, 1), "code": fine_tuned(base, 2, untouched=["w"])}
    for name, tensors in paths.items():
        write_checkpoint(tmp_path / name, tensors)
    params = {} if operator == "linear" else {"density": 0.3}
    outputs = []
    for block_elements in (4096, 65536, 1048576):
        mp = Inline(tmp_path / str(block_elements))
        mp.directory.mkdir()
        mp("init", "--block-elements", str(block_elements), "--compression", "fast")
        for name in paths:
            mp("add", f"../{name}", "--branch", name, "-q")
        mp("merge", *merge_words(operator, **params), "--branch", "merged")
        mp("checkout", "merged", "out")
        files = digests(mp.directory / "out")
        files.pop("README.md", None)  # the card names the plan
        outputs.append(files)
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize("operator", ["linear", "task_arithmetic", "ties", "dare_ties"])
def test_invariant_08_a_budget_that_covers_everything_changes_nothing(
    filled: Path, tmp_path: Path, merge_words: Words, operator: str
) -> None:
    params = {"density": 0.4} if operator in ("ties", "dare_ties") else {}
    words = merge_words(operator, **params)
    unlimited, covered, beyond = copies(filled, tmp_path, 3)
    free = unlimited.json("merge", *words, "--branch", "merged")
    assert free["exact"]
    stored = str(free["full_stored_bytes"])
    assert covered.json("merge", *words, "--budget", stored, "--branch", "m")["manifest"] == free["manifest"]
    assert beyond.json("merge", *words, "--budget", "100%", "--branch", "m")["manifest"] == free["manifest"]


def test_budget_of_nothing_gives_the_base_back(mp: Command, merge_words: Words) -> None:
    merged = mp.json("merge", *merge_words(density=0.2), "--budget", "0", "--branch", "merged")
    assert (merged["expert_read_bytes"], merged["planned_bytes"], merged["new_blocks"]) == (0, 0, 0)
    assert mp.json("diff", "base", "merged")["tensors"] == []


PACK = re.compile(r"objects/packs/([0-9a-f]{64})\.pack")
OPENED = re.compile(r"^\d+\s+openat\(.*\"([^\"]*)\".*\)\s+= (\d+)")
READ = re.compile(r"^\d+\s+(?:pread64|read|preadv|preadv2|readv)\((\d+),.*\)\s+= (\d+)")
MAPPED = re.compile(r"^\d+\s+(?:mmap|sendfile|copy_file_range|splice)\((.*)")


def bytes_read_from_packs(trace: str) -> dict[str, int]:
    """Pack id -> bytes, from strace's lines of one process and its threads."""
    packs: dict[str, str] = {}
    counted: defaultdict[str, int] = defaultdict(int)
    for line in joined(trace):
        if opened := OPENED.match(line):
            found = PACK.search(opened[1])
            packs.pop(opened[2], None)
            if found:
                packs[opened[2]] = found[1]
        elif read := READ.match(line):
            if read[1] in packs:
                counted[packs[read[1]]] += int(read[2])
        elif mapped := MAPPED.match(line):
            assert not any(re.search(rf"\b{fd}\b, (?:0|0x)", mapped[1]) for fd in packs), "a pack is mapped"
    return counted


def joined(trace: str) -> list[str]:
    """Calls that strace split over two lines, put together."""
    begun: dict[str, str] = {}
    lines = []
    for line in trace.splitlines():
        thread = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        elif "resumed>" in line:
            lines.append(begun.pop(thread, "") + line.split("resumed>", 1)[1])
        else:
            lines.append(line)
    return lines


def packs_of(directory: Path, branch: str) -> set[str]:
    """The packs that hold blocks of a branch which the base does not have."""
    repo = Repo.open(directory)
    own: set[bytes] = set()
    shared: set[bytes] = set()
    for name, found in ((branch, own), ("base", shared)):
        tip = repo.tip(name)
        assert tip is not None
        manifest = repo.manifest(repo.commit(tip).manifest)
        for record in repo.tensors(manifest).values():
            found |= {record.block(number) for number in range(record.blocks)}
    packs = set()
    with audited() as seen:
        for block in own - shared:
            places = repo.objects.locate(block)
            for _ in repo.objects.fetch(places):
                pass
    packs = set(seen)
    assert packs
    return packs


@contextlib.contextmanager
def audited() -> Iterator[dict[str, int]]:
    """Pack id -> bytes read from it meanwhile, told by the one module that reads packs."""
    seen: defaultdict[str, int] = defaultdict(int)

    def observe(path: str, offset: int, count: int, *_: object) -> None:
        del offset
        seen[Path(path).stem] += count

    pack.set_read_observer(observe)
    try:
        yield seen
    finally:
        pack.set_read_observer(None)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed; the audit below runs")
@pytest.mark.parametrize("percent", [5, 15, 30])
def test_invariant_07_strace_sees_no_more_than_the_budget(
    real_mp: Command, merge_words: Words, tmp_path: Path, percent: int
) -> None:
    trace = tmp_path / "trace"
    calls = "trace=openat,pread64,read,preadv,preadv2,readv,mmap,sendfile,copy_file_range,splice"
    words = [*merge_words(density=0.2), "--budget", f"{percent}%", "--branch", "merged", "--json"]
    done = subprocess.run(
        [
            "strace",
            "-f",
            "-s",
            "300",
            "-e",
            calls,
            "-o",
            trace,
            sys.executable,
            "-m",
            "mpstore.cli",
            "merge",
            *words,
        ],
        cwd=real_mp.directory,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("tracing is not allowed here")
    assert done.returncode == 0, done.stderr
    merged = json.loads(done.stdout)
    experts = packs_of(real_mp.directory, "math") | packs_of(real_mp.directory, "code")
    counted = bytes_read_from_packs(trace.read_text())
    read = sum(count for pack, count in counted.items() if pack in experts)
    assert read > 0
    assert read == merged["expert_read_bytes"]
    assert read <= merged["planned_bytes"] <= merged["budget_bytes"]
    assert merged["budget_bytes"] == merged["full_raw_bytes"] * percent // 100


@pytest.mark.parametrize("percent", [5, 15, 30])
@pytest.mark.parametrize("operator", ["linear", "ties", "dare_ties"])
def test_invariant_07_audit_of_the_one_module_that_reads_packs(
    mp: Command, merge_words: Words, percent: int, operator: str
) -> None:
    experts = packs_of(mp.directory, "math") | packs_of(mp.directory, "code")
    params = {} if operator == "linear" else {"density": 0.2}
    words = [*merge_words(operator, **params), "--budget", f"{percent}%", "--branch", "merged"]
    with audited() as seen:
        merged = mp.json("merge", *words)
    read = sum(count for name, count in seen.items() if name in experts)
    assert 0 < read == merged["expert_read_bytes"]
    assert read <= merged["planned_bytes"] <= merged["budget_bytes"]


def test_invariant_03_what_is_published_never_changes(
    mp: Command, family: Family, merge_words: Words
) -> None:
    packs = mp.directory / ".mp" / "objects" / "packs"
    logs = mp.directory / ".mp" / "logs"
    for words in (
        ["merge", *merge_words("linear"), "--branch", "merged"],
        ["merge", *merge_words("ties", density=0.1), "--branch", "merged"],
        ["add", family.base, "--branch", "again", "-m", "again"],
        ["branch", "-d", "merged"],
        ["gc", "--keep-reflog", "0", "--repack"],
        ["fsck", "--repair"],
    ):
        before = {**digests(packs), **digests(logs)}
        mp(*words)
        after = {**digests(packs), **digests(logs)}
        changed = [name for name in before.keys() & after.keys() if before[name] != after[name]]
        assert not changed, words


def test_nan_and_infinity_are_kept_and_reported(empty: Command, tmp_path: Path, merge_words: Words) -> None:
    base = {"w": np.linspace(-1, 1, 3000, dtype=np.float32), "v": np.ones(7, np.float32)}
    base["w"][5] = np.nan
    broken = {"w": base["w"] + np.float32(0.01), "v": base["v"]}
    broken["w"][700] = np.inf
    healthy = {"w": base["w"] * np.float32(1.01), "v": base["v"]}
    for name, tensors in (("base", base), ("math", broken), ("code", healthy)):
        empty("add", write_checkpoint(tmp_path / name, tensors, shards=1), "--branch", name)
        empty("checkout", name, f"out-{name}")
        assert digests(empty.directory / f"out-{name}") == digests(tmp_path / name)
    merged = empty.json("merge", *merge_words("linear"), "--branch", "merged")
    (warning,) = [text for text in merged["warnings"] if "NaN" in text]
    assert "'w'" in warning
    assert "math" in warning


def test_pre_merge_hook_stops_before_anything_is_read(mp: Command, merge_words: Words) -> None:
    hook = mp.directory / ".mp" / "hooks" / "pre-merge"
    hook.write_text("#!/bin/sh\ncat > seen.json\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)
    refused = mp("merge", *merge_words(), "--budget", "10%", "--branch", "merged", code=9)
    assert "not today" in refused.err
    assert "merged" not in mp("branch").out
    seen = json.loads((mp.directory / "seen.json").read_text())
    assert seen["event"] == "pre-merge"
    assert seen["planned_bytes"] <= seen["budget_bytes"]
    assert seen["branch"] == "merged"
    mp("fsck")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_in_130_and_says_what_is_kept(
    real_mp: Command, family: Family, number: signal.Signals
) -> None:
    """A hook that waits holds the command at a known place."""
    hook = real_mp.directory / ".mp" / "hooks" / "pre-add"
    hook.write_text("#!/bin/sh\ntouch begun\nexec sleep 60\n")
    hook.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-m", "mpstore.cli", "add", str(family.base), "--branch", "late"],
        cwd=real_mp.directory,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (real_mp.directory / "begun").exists():
            assert process.poll() is None
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "mp: error: interrupted" in said
    assert "late is where it was" in said
    hook.unlink()
    assert "late" not in real_mp("branch").out


def test_plan_is_stored_and_merged_by_its_id(mp: Command, merge_words: Words) -> None:
    planned = mp.json("plan", *merge_words("linear"), "--budget", "20%")
    assert planned["curve"][0]["bound"] > planned["curve"][-1]["bound"] == 0
    merged = mp.json("merge", "--plan", planned["plan"][:12], "--branch", "merged")
    assert merged["plan"] == planned["plan"]
    assert merged["planned_bytes"] == planned["planned_bytes"]
    assert mp.json("plan", "--plan", planned["plan"])["planned_bytes"] == planned["planned_bytes"]


def test_dry_run_writes_nothing(mp: Command, merge_words: Words) -> None:
    before = sorted((mp.directory / ".mp").rglob("*"))
    planned = mp.json("merge", *merge_words("linear"), "--budget", "20%", "--dry-run")
    assert planned["planned_bytes"] > 0
    assert sorted((mp.directory / ".mp").rglob("*")) == before


def test_recipe_merges_as_flags_do(mp: Command, merge_words: Words, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        "merge_method: ties\nbase_model: base\nmodels:\n"
        "  - model: math\n    parameters: {weight: 1.0, density: 0.2}\n"
        "  - model: code\n    parameters: {weight: 1.0, density: 0.2}\n"
    )
    by_recipe = mp.json("merge", recipe, "--branch", "a")
    by_flags = mp.json("merge", *merge_words(density=0.2), "--branch", "b")
    assert by_recipe["manifest"] == by_flags["manifest"]
    assert "merge_method: ties" in mp.json("show", "a")["how"]["recipe"]


def test_merge_json_has_the_keys_of_the_contract(mp: Command, merge_words: Words) -> None:
    merged = mp.json("merge", *merge_words(), "--budget", "20%", "--branch", "merged")
    expected = """branch commit manifest plan operator experts budget_bytes full_raw_bytes full_stored_bytes
        planned_bytes expert_read_bytes base_read_bytes written_bytes new_blocks reused_blocks omitted_blocks
        bound bound_kind exact seconds"""
    assert set(merged) >= set(expected.split())
    stats = mp.json("stats")
    expected = "commits blocks raw_bytes stored_bytes index_bytes stats_bytes packs"
    assert set(stats) >= set(expected.split())
    assert stats["commits"] == 4


def test_certificate_holds_and_max_error_is_kept(mp: Command, merge_words: Words) -> None:
    words = merge_words("task_arithmetic")
    full = mp.json("merge", *words, "--branch", "full")
    assert full["bound"] == 0
    for limits in (["--budget", "20%"], ["--max-error", "0.01"]):
        merged = mp.json("merge", *words, *limits, "--branch", "partial")
        assert merged["bound_kind"] == "certificate"
        mp("checkout", "full", "out-full", "--force")
        mp("checkout", "partial", "out-partial", "--force")
        a, b = (flat(mp.directory / name) for name in ("out-full", "out-partial"))
        assert 0 < np.linalg.norm(a - b) <= merged["bound"]


def flat(directory: Path) -> np.ndarray:
    """All weights of a checkpoint in one vector."""
    return np.concatenate([array.astype(np.float64).ravel() for array in read_checkpoint(directory).values()])
