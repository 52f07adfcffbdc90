"""Runs one command and says what it cost: seconds, peak memory, bytes at the system call.

Nothing is counted by the command itself. Relies on Linux; on strace where it is there, else on /proc/self/io.
Promises: a command that fails ends the benchmark.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MP = (sys.executable, "-m", "mpstore.cli")
_READS, _WRITES = ("read", "readv", "pread64", "preadv"), ("write", "writev", "pwrite64", "pwritev")
_CALL = re.compile(r"^(\w+)\(\d+<([^>]*)>.*\) = (\d+)$")
_STARTED_ENV = "MP_BENCH_IO"
# Counts from after Python's start, in the process itself: /proc/PID/io is gone once it has been waited for.
_COUNTED = """
import atexit, json, os, runpy, sys
def io():
    return {k: int(v) for k, v in (line.split(": ") for line in open("/proc/self/io"))}
target = os.environ.pop("MP_BENCH_IO")
first = io()
def last():
    end = io()
    json.dump({k: end[k] - first[k] for k in ("rchar", "wchar")}, open(target, "w"))
atexit.register(last)
if sys.argv[1] == "-m":
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__")
else:
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Run:
    """One run of one command. `out` is its standard output."""

    seconds: float
    peak_bytes: int
    out: str = field(repr=False)

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Traffic:
    """Bytes that a command moved by read and write calls, by path; how they were found."""

    how: str
    read_bytes: Counter[str]
    write_bytes: Counter[str]

    def read_of(self, which: Callable[[str], bool]) -> int:
        return sum(size for path, size in self.read_bytes.items() if which(path))

    def written_of(self, which: Callable[[str], bool]) -> int:
        return sum(size for path, size in self.write_bytes.items() if which(path))


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MP_")}
    return {**kept, "PYTHONPATH": str(ROOT), "MP_AUTHOR": "bench"}


def run(words: Sequence[str | Path], **extra: str) -> Run:
    """Wall time and peak memory of a process of its own."""
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in words],
            env={**environment(), **extra},
            stdout=out,
            stdin=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, words))} ended with {process.returncode}")
        out.seek(0)
        return Run(seconds, usage.ru_maxrss * 1024, out.read().decode())


def traffic(words: Sequence[str | Path]) -> tuple[Traffic, Run]:
    """Every byte that read and write calls moved, file by file. Its seconds are not to be used.

    Pages of a mapped file (an index) are no calls, and not in it. Without strace there is one sum, under the
    path "".
    """
    with tempfile.TemporaryDirectory() as folder:
        if shutil.which("strace"):
            trace = ["strace", "-ff", "--seccomp-bpf", "-qq", "-y", "-s", "0", "-o", f"{folder}/t"]
            trace += ["-e", f"trace={','.join(_READS + _WRITES)}"]
            done = run([*trace, *words])
            return _traced(Path(folder)), done
        target = Path(folder, "io.json")
        done = run([words[0], "-c", _COUNTED, *words[1:]], **{_STARTED_ENV: str(target)})
        found = json.loads(target.read_text())
        return Traffic("/proc/self/io", Counter({"": found["rchar"]}), Counter({"": found["wchar"]})), done


def _traced(folder: Path) -> Traffic:
    found = Traffic("strace", Counter(), Counter())
    for file in folder.iterdir():
        for line in file.read_text(errors="replace").splitlines():
            if call := _CALL.match(line):
                kind = found.read_bytes if call[1] in _READS else found.write_bytes
                kind[call[2]] += int(call[3])
    return found


def forget_cache() -> bool:
    """Write dirty pages back and drop the page cache. False where that is not permitted."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True


def stored_bytes(path: Path) -> int:
    """Everything under a path, as file sizes."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def machine() -> dict[str, Any]:
    """What the figures were taken on; the load says how alone they were."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "load_1_minute": round(os.getloadavg()[0], 2),
        "cold_cache": forget_cache(),
    }


def experts_of(family: Path) -> list[Path]:
    """The expert checkpoints beside `base`, in the order of their numbers."""
    found = [path for path in family.iterdir() if path.is_dir() and path.name != "base"]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def small_family(folder: Path, experts: int = 3) -> Path:
    """A family for `--smoke`: Qwen3's names at a few hundred thousand parameters."""
    script = Path(__file__).with_name("families.py")
    run([sys.executable, script, "qwen", folder, "--experts", str(experts), "--scale", "0.0005"])
    return folder
