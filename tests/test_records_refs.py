"""Refs: compare-and-swap with real processes, every crash and fault in turn, and damage on either side."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore import files
from mpstore.errors import ConflictError, DamagedError, MpError, StorageError, UsageError
from mpstore.records import reflog
from mpstore.records.refnames import check_name
from mpstore.records.refs import Refs
from tests.warned import Warned

NAME = "heads/main"


def oid(number: int) -> bytes:
    return number.to_bytes(32, "big")


def number_of(value: bytes | None) -> int:
    return 0 if value is None else int.from_bytes(value, "big")


@pytest.fixture
def mp_dir(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.fixture
def refs(mp_dir: Path) -> Refs:
    return Refs(mp_dir, Warned())


def fill(refs: Refs, name: str = NAME, upto: int = 3) -> None:
    old = None
    for step in range(1, upto + 1):
        refs.move(name, old, oid(step), f"step {step}", "me", time_ns=step * 1000)
        old = oid(step)


def value(refs: Refs, name: str = NAME) -> int:
    ref = refs.read(name)
    return 0 if ref is None else number_of(ref.value)


def test_a_ref_moves_and_remembers(refs: Refs, mp_dir: Path) -> None:
    assert refs.read(NAME) is None
    assert refs.names() == []
    fill(refs)
    assert value(refs) == 3
    assert refs.names("heads/") == [NAME]
    assert refs.names("tags/") == []
    log = refs.log(NAME)
    assert [(entry.seq, number_of(entry.old), number_of(entry.new)) for entry in log] == [
        (3, 2, 3),
        (2, 1, 2),
        (1, 0, 1),
    ]
    assert (log[0].why, log[0].who, log[0].time_ns) == ("step 3", "me", 3000)
    assert os.listdir(mp_dir / "tmp") == []
    assert refs.damage(NAME) == []
    refs.move(NAME, oid(3), None, "gone", "me")
    assert refs.read(NAME) is None
    assert refs.names() == []
    assert refs.names(deleted=True) == [NAME]
    assert len(refs.log(NAME)) == 4
    assert not (mp_dir / "refs" / NAME).exists()
    refs.move(NAME, None, oid(9), "back", "me")
    assert value(refs) == 9
    assert refs.log(NAME)[0].seq == 5


def test_invariant_02_a_wrong_old_value_is_a_conflict(refs: Refs) -> None:
    fill(refs)
    for old in (None, oid(2), oid(7)):
        with pytest.raises(ConflictError, match="nothing was changed"):
            refs.move(NAME, old, oid(8), "", "")
    with pytest.raises(ConflictError):
        refs.move("heads/other", oid(1), oid(2), "", "")
    assert value(refs) == 3
    assert len(refs.log(NAME)) == 3


def test_tags_do_not_move(refs: Refs) -> None:
    refs.move("tags/v1", None, oid(1), "", "")
    with pytest.raises(ConflictError, match="tags do not move"):
        refs.move("tags/v1", oid(1), oid(2), "", "")
    assert value(refs, "tags/v1") == 1
    refs.move("tags/v1", oid(1), oid(2), "", "", force=True)
    assert value(refs, "tags/v1") == 2
    refs.move("tags/v1", oid(2), None, "", "")
    assert refs.names() == []


BAD_NAMES = [
    *(
        "",
        "a..b",
        "..",
        ".",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        ".a",
        "a/.b",
        "-a",
        "a/-b",
        "@",
        "@1",
        "a/@1",
        "a.lock",
    ),
    *(
        "a.lock/b",
        "a.",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "a@{1}",
        "a\x00",
        "a\n",
        "a\x7f",
        "a\u202e",
    ),
    *("x" * 201, "/".join(["x" * 100] * 11), "\ud800"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_refused_say_why(refs: Refs, name: str) -> None:
    for action in (
        lambda: refs.read("heads/" + name),
        lambda: refs.move("heads/" + name, None, oid(1), "", ""),
    ):
        with pytest.raises(UsageError, match="not allowed"):
            action()
    for full in (name, "refs/heads/a", "heads"):
        with pytest.raises(UsageError):
            check_name(full)
    assert refs.names(deleted=True) == []


@given(st.text(max_size=12), st.sampled_from(["heads", "tags", "stats"]))
def test_invariant_11_allowed_names_stay_inside(name: str, kind: str) -> None:
    try:
        full = check_name(f"{kind}/{name}")
    except UsageError:
        return
    parts = full.split("/")
    assert os.path.normpath(full) == full
    assert not {"", ".", ".."}.intersection(parts)
    assert not any(part.startswith("@") for part in parts)


@pytest.mark.parametrize(
    ("first", "second"), [("heads/a", "heads/a/b"), ("heads/a/b/c", "heads/a"), ("heads/a/b", "heads/a")]
)
def test_a_name_cannot_be_part_of_anothers_path(refs: Refs, first: str, second: str) -> None:
    refs.move(first, None, oid(1), "", "")
    with pytest.raises(UsageError, match=f"{first.removeprefix('heads/')}' exists"):
        refs.move(second, None, oid(2), "", "")
    refs.move(first, oid(1), None, "", "")
    refs.move(second, None, oid(2), "", "")
    assert refs.names() == [second]
    assert value(refs, second) == 2
    assert refs.progress.said == []
    assert [number_of(entry.new) for entry in refs.log(first)] == [0, 1]


def test_sibling_names_share_a_directory(refs: Refs) -> None:
    for name in ("heads/a/b", "heads/a/c", "heads/ab", "tags/a"):
        refs.move(name, None, oid(1), "", "")
    refs.move("heads/a/b", oid(1), None, "", "")
    assert refs.names() == ["heads/a/c", "heads/ab", "tags/a"]
    assert refs.names("heads/a") == ["heads/a/c", "heads/ab"]
    assert refs.names("heads/a/") == ["heads/a/c"]


# Many processes.


def count_up(mp_dir: str, times: int) -> None:
    refs = Refs(mp_dir)
    for _ in range(times):
        while True:
            ref = refs.read(NAME)
            old = ref.value if ref else None
            try:
                refs.move(NAME, old, oid(number_of(old) + 1), f"by {os.getpid()}", "me")
                break
            except ConflictError:
                continue


def prune_and_read(mp_dir: str, seconds: float) -> None:
    refs = Refs(mp_dir)
    end = time.monotonic() + seconds
    last = 0
    while time.monotonic() < end:
        refs.prune(NAME, time.time_ns() + 10**12)
        now = value(refs)
        assert now >= last, "a reader saw the ref go back"
        last = now


@pytest.mark.parametrize("pruners", [0, 1])
def test_invariant_02_no_update_is_lost_among_processes(mp_dir: Path, pruners: int) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=count_up, args=(str(mp_dir), 25)) for _ in range(6)]
    workers += [context.Process(target=prune_and_read, args=(str(mp_dir), 1.0)) for _ in range(pruners)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    refs = Refs(mp_dir)
    assert value(refs) == 150 or (
        pruners and value(refs) > 150
    )  # an unsure writer says conflict, and adds again
    log = refs.log(NAME)
    assert all(newer.old == older.new for newer, older in itertools.pairwise(log))
    assert pruners or len(log) == 150
    assert refs.damage(NAME) == []


def test_one_creation_wins(mp_dir: Path) -> None:
    def create(number: int) -> None:
        with contextlib.suppress(ConflictError):
            Refs(mp_dir).move("heads/new", None, oid(number), "", "")
            (mp_dir / f"won-{number}").touch()

    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=create, args=(number,)) for number in range(1, 7)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    winners = list(mp_dir.glob("won-*"))
    assert [path.name for path in winners] == [f"won-{value(Refs(mp_dir), 'heads/new')}"]


# Crashes and faults at every operation.


class Crash(BaseException):
    """The process stops here."""


@contextlib.contextmanager
def stopped_at(step: int, error: BaseException) -> Iterator[list[int]]:
    count = [0]

    def observer(operation: files.Operation) -> None:
        del operation
        count[0] += 1
        if count[0] == step or (count[0] > step and isinstance(error, Crash)):
            raise error

    files.set_observer(observer)
    try:
        yield count
    finally:
        files.set_observer(None)


MOVES = {
    "create": (None, 1),
    "move": (3, 4),
    "delete": (3, None),
}


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("error", [Crash(), OSError(28, "No space left on device")], ids=["crash", "fault"])
def test_invariant_05_a_move_cut_anywhere_is_whole_or_not_at_all(
    tmp_path: Path, kind: str, error: BaseException
) -> None:
    old, new = (None if number is None else oid(number) for number in MOVES[kind])
    for step in range(1, 60):
        mp_dir = tmp_path / str(step)
        (mp_dir / "tmp").mkdir(parents=True)
        refs = Refs(mp_dir, Warned())
        if old is not None:
            fill(refs)
        failed = False
        with stopped_at(step, error) as count:
            try:
                refs.move(NAME, old, new, "cut", "me")
            except (Crash, MpError):
                failed = True
        if count[0] < step:
            assert step > 5, "the move was watched"
            return
        after = value(refs)
        assert after in (number_of(old), number_of(new))
        if not failed:
            assert after == number_of(new)
        assert refs.names() == ([NAME] if after else [])
        refs.move(NAME, oid(after) if after else None, oid(after + 10), "next", "me")
        assert value(refs) == after + 10
        assert refs.damage(NAME) == []
        assert refs.repair(NAME) == []
    raise AssertionError("never ran to its end")


def test_a_ref_file_that_cannot_be_written_is_a_warning(refs: Refs, mp_dir: Path) -> None:
    fill(refs)

    def observer(operation: files.Operation) -> None:
        if operation.kind == "rename":
            raise OSError(28, "No space left on device")

    files.set_observer(observer)
    try:
        refs.move(NAME, oid(3), oid(4), "", "")
    finally:
        files.set_observer(None)
    assert "lags behind" in refs.progress.said[0]
    assert value(refs) == 4
    assert reflog.read_ref(str(mp_dir / "refs" / NAME), NAME).seq == 3
    assert refs.repair(NAME) != []
    assert reflog.read_ref(str(mp_dir / "refs" / NAME), NAME).seq == 4


def test_a_stalled_writer_cannot_win_an_old_number(refs: Refs, mp_dir: Path) -> None:
    """It has looked at entry 3, sleeps while others move to 6 and prune, then goes on."""
    fill(refs)
    stalled = Refs(mp_dir)
    seen = stalled._state(NAME)
    for step in (4, 5, 6):
        refs.move(NAME, oid(step - 1), oid(step), "", "", time_ns=step * 1000)
    assert refs.prune(NAME, 10**9) == 5
    states = iter([seen])
    stalled._state = lambda name: next(states, None) or Refs._state(stalled, name)  # it saw this long ago
    with pytest.raises(ConflictError):
        stalled.move(NAME, oid(3), oid(99), "", "")
    assert value(refs) == 6
    assert [entry.seq for entry in refs.log(NAME)] == [6]


def test_a_stalled_ref_file_does_not_turn_time_back(refs: Refs, mp_dir: Path) -> None:
    """A writer of entry 2 wrote its ref file only after others had moved on and pruned."""
    fill(refs, upto=2)
    late = (mp_dir / "refs" / NAME).read_bytes()
    refs.move(NAME, oid(2), oid(3), "", "", time_ns=3000)
    refs.move(NAME, oid(3), oid(4), "", "", time_ns=4000)
    (mp_dir / "refs" / NAME).write_bytes(late)
    assert value(refs) == 4
    refs.prune(NAME, 10**9)
    (mp_dir / "refs" / NAME).write_bytes(late)
    assert value(refs) == 4
    refs.move(NAME, oid(4), oid(5), "", "")
    assert value(refs) == 5


def test_prune_goes_upward_and_keeps_the_newest(refs: Refs) -> None:
    fill(refs, upto=5)
    assert refs.prune(NAME, 3500, dry_run=True) == 2
    assert len(refs.log(NAME)) == 5
    assert refs.prune(NAME, 3500) == 2  # 1 and 2 were superseded before; 3 only at 4000
    assert [entry.seq for entry in refs.log(NAME)] == [5, 4, 3]
    removed: list[str] = []
    files.set_observer(
        lambda operation: removed.append(operation.path) if operation.kind == "unlink" else None
    )
    try:
        assert refs.prune(NAME, 10**18) == 2
    finally:
        files.set_observer(None)
    assert [path.rsplit("@")[-1] for path in removed] == ["3", "4"]
    assert refs.prune(NAME, 10**18) == 0
    assert value(refs) == 5
    assert refs.damage(NAME) == []
    refs.move(NAME, oid(5), oid(6), "", "")
    assert value(refs) == 6


# Damage.


def harm(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "flip":
        path.write_bytes(data[:50] + bytes([data[50] ^ 4]) + data[51:])
    elif how == "grow":
        path.write_bytes(data + b"\0" * (1 << 20))


HARMS = ["delete", "truncate", "empty", "flip", "grow"]


@pytest.mark.parametrize("how", HARMS)
@pytest.mark.parametrize(
    "what", ["refs/heads/main", "logs/heads/main/@3", "logs/heads/main/@2", "logs/heads/main/@1"]
)
def test_either_side_survives_the_other(refs: Refs, mp_dir: Path, what: str, how: str) -> None:
    fill(refs)
    harm(mp_dir / what, how)
    assert value(refs) == 3
    noticed = refs.damage(NAME)
    refs.log(NAME)
    told = refs.progress.said
    if how != "delete":
        assert any(what in message for message in noticed)
        assert any(what in message for message in told)
    refs.repair(NAME)
    assert refs.damage(NAME) == []
    refs.move(NAME, oid(3), oid(4), "", "")
    assert value(refs) == 4
    assert refs.damage(NAME) == []
    numbers = [(number_of(entry.old), number_of(entry.new)) for entry in refs.log(NAME)]
    assert numbers[:1] == [(3, 4)]
    if what[-1] == "2":
        assert numbers == [(3, 4), (2, 3), (1, 2), (0, 1)]


@pytest.mark.parametrize("how", HARMS[1:])
def test_both_damaged_is_said_and_not_taken_for_absent(refs: Refs, mp_dir: Path, how: str) -> None:
    fill(refs, upto=1)
    harm(mp_dir / "refs" / NAME, how)
    harm(mp_dir / "logs" / NAME / "@1", how)
    with pytest.raises(DamagedError, match="main"):
        refs.read(NAME)
    with pytest.raises(DamagedError):
        refs.move(NAME, None, oid(7), "", "")
    assert refs.names() == [NAME]


def test_files_that_changed_places_are_damage(refs: Refs, mp_dir: Path) -> None:
    fill(refs, "heads/a")
    refs.move("heads/b", None, oid(9), "", "")
    (mp_dir / "refs/heads/b").write_bytes((mp_dir / "refs/heads/a").read_bytes())
    assert value(refs, "heads/b") == 9
    assert "heads/a" in refs.progress.said[0]
    (mp_dir / "logs/heads/a/@1").write_bytes((mp_dir / "logs/heads/a/@2").read_bytes())
    assert any("entry 2" in message for message in refs.damage("heads/a"))


def test_foreign_files_in_the_tree_are_no_refs(refs: Refs, mp_dir: Path) -> None:
    fill(refs)
    for name in (
        "refs/heads/.DS_Store",
        "refs/heads/x~",
        "logs/heads/notes",
        "refs/README",
        "logs/heads/main/@x",
    ):
        (mp_dir / name).write_bytes(b"?")
    assert refs.names(deleted=True) == [NAME]
    assert value(refs) == 3
    assert len(refs.log(NAME)) == 3
    (mp_dir / "logs/heads/main/@999999999999999").write_bytes(b"?")
    assert value(refs) == 3
    assert len(refs.damage(NAME)) == 1
    assert list(refs.values("heads/m")) == [NAME]
    assert refs.values("tags/") == {}


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=200))
def test_noise_in_a_ref_file_is_damage(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "ref"
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="ref"):
        reflog.read_ref(str(path), NAME)


def test_a_read_only_repository_can_be_read_but_not_moved(refs: Refs) -> None:
    fill(refs)

    def refuse(operation: files.Operation) -> None:
        raise OSError(30, f"Read-only file system: {operation.kind}")

    files.set_observer(refuse)
    try:
        assert value(refs) == 3
        assert refs.names() == [NAME]
        with pytest.raises(StorageError, match="Read-only"):
            refs.move(NAME, oid(3), oid(4), "", "")
    finally:
        files.set_observer(None)
    assert value(refs) == 3
