"""processes: dead only when provably so. Real processes are started and ended."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from dataclasses import replace

from mpstore import processes


def test_a_token_can_be_read_back() -> None:
    here = processes.current()
    assert processes.parse(here.token + "-17.session") == here
    assert processes.parse("whatever") is None


def test_this_process_and_its_parent_live() -> None:
    assert not processes.provably_dead(processes.current())


def test_a_child_is_dead_once_it_has_ended_even_unreaped() -> None:
    code = "from mpstore import processes; print(processes.current().token, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        identity = processes.parse(child.stdout.readline())
        assert identity is not None
        assert identity.pid == child.pid
        assert not processes.provably_dead(identity)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, a zombie still
        assert processes.provably_dead(identity)
    assert processes.provably_dead(identity)


def test_a_pid_that_was_given_to_another_process_is_told_apart() -> None:
    here = processes.current()
    if here.started != "0":
        assert processes.provably_dead(replace(here, started=str(int(here.started) + 1)))


def test_an_earlier_boot_is_dead_and_another_host_is_not_known() -> None:
    here = processes.current()
    assert processes.provably_dead(replace(here, boot="0" * 8))
    assert not processes.provably_dead(replace(here, host="0" * 8))
    assert not processes.provably_dead(replace(here, host="0" * 8, boot="0" * 8))


def test_one_that_cannot_be_looked_at_is_not_dead() -> None:
    """Without a file descriptor left, /proc tells nothing."""
    here = processes.current()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        dead = processes.provably_dead(here)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not dead
    unread = hashlib.sha256(b"").hexdigest()[:8]  # of a boot id that could not be read
    assert not processes.provably_dead(replace(here, boot=unread))
