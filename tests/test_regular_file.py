"""regular_file: what is no file is refused at once, whatever it is; what is lent out is waited for."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mpstore.errors import DamagedError
from mpstore.regular_file import open_regular, read_regular
from mpstore.repository import Repo
from tests.repository_material import collect, commit, content_of, new_repository, some_content
from tests.test_fsck import repair


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path must be short
        try:
            one.bind(path.name[:90])
        finally:
            os.chdir(here)
    (path.parent / path.name[:90]).rename(path)


NO_FILES: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, what: str) -> None:
    NO_FILES[what](tmp_path / "x")
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for read in (open_regular, read_regular):
        with pytest.raises(DamagedError, match="no file"):
            read(tmp_path / "x")
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


@pytest.mark.parametrize("size", [0, 1, 5000, (1 << 20) + 1])
def test_files_are_read_whole_or_up_to_the_limit(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "x").write_bytes(data)
    assert read_regular(tmp_path / "x") == data
    assert read_regular(tmp_path / "x", 100) == data[:100]
    fd, found = open_regular(tmp_path / "x")
    assert (found, stat.S_ISREG(os.fstat(fd).st_mode), os.get_inheritable(fd)) == (size, True, False)
    os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
def test_a_file_that_is_lent_out_is_waited_for(tmp_path: Path) -> None:
    """As file servers do: opened without waiting it is refused while it is called back."""
    import fcntl

    (tmp_path / "x").write_bytes(b"content")
    fd = os.open(tmp_path / "x", os.O_RDWR)
    called: list[int] = []

    def give_back(number: int, _: object) -> None:
        called.append(number)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    before = signal.signal(signal.SIGIO, give_back)
    try:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            pytest.skip("this file system lends nothing out")
        assert read_regular(tmp_path / "x") == b"content"
        assert called
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(fd)


CONTENT = some_content(1)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one") / "repo"
    repo = new_repository(root, 1 << 20)
    commit(repo, "main", CONTENT)
    repo.objects.packs.save_cache(always=True)
    return root


@pytest.mark.parametrize("what", NO_FILES)
@pytest.mark.parametrize(
    "victim", ["config", "refs/heads/main", "logs/heads/main/@1", "cache/packs.idx", "*.idx", "*.pack"]
)
def test_no_command_waits_for_what_is_no_file(copied: Path, tmp_path: Path, victim: str, what: str) -> None:
    """What can be read around is; the rest is damage, of which a copy makes good what it has."""
    root = tmp_path / "repo"
    shutil.copytree(copied, root)
    for path in [root / ".mp" / victim, *(root / ".mp" / "objects" / "packs").glob(victim)]:
        if path.exists():
            path.unlink()
            NO_FILES[what](path)
    if victim in ("config", "*.pack"):
        with pytest.raises(DamagedError):
            look(root)
    else:
        assert look(root) == CONTENT
    if victim != "config":
        assert repair(root, sources=[str(copied)]).damage_left == ()
        assert look(root) == CONTENT


def look(root: Path) -> dict[str, list[bytes]]:
    repo = Repo.open(root)
    return content_of(repo, repo.tip("main") or b"")


def test_a_command_ends_at_once_and_says_why(copied: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    shutil.copytree(copied, root)
    for path in (root / ".mp" / "objects" / "packs").glob("*.pack"):
        path.unlink()
        os.mkfifo(path)
    done = subprocess.run(
        [sys.executable, "-m", "mpstore.cli", "-C", str(root), "cat", "main", "layer0.weight"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 4
    assert b"no file" in done.stderr


def test_gc_refuses_to_guess_what_a_session_pins_that_is_no_file(copied: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    shutil.copytree(copied, root)
    os.mkfifo(root / ".mp" / "sessions" / "1.1.00000000.0-1.session")
    with pytest.raises(DamagedError, match="no file"):
        collect(Repo.open(root))
    assert look(root) == CONTENT
