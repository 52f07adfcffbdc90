"""User's executables in `.mp/hooks`, run before and after what changes a repository.

Relies on files (samples are installed through it), events and plain_json. Promises: a hook gets one strict
JSON document on standard input; a `pre-` hook that fails, hangs or cannot start raises HookError and stops
the command; a `post-` hook can only warn. No hook outlives its time limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mpstore import files
from mpstore.errors import HookError
from mpstore.events import Progress, silent
from mpstore.plain_json import plain

if TYPE_CHECKING:
    import subprocess

EVENTS: Final[Mapping[str, str]] = {
    "pre-add": "before a checkpoint is read",
    "post-add": "after a checkpoint was committed by add",
    "pre-pull": "before a download starts",
    "post-pull": "after a checkpoint was committed by pull",
    "pre-merge": "after planning, before any expert is read",
    "post-merge": "after a merge was committed",
    "post-commit": "after any new commit: add, pull or merge",
    "pre-checkout": "before a directory is written",
    "post-checkout": "after a directory was written",
    "pre-gc": "before anything is removed",
    "post-gc": "after unreachable objects were removed",
    "pre-push": "before an upload starts",
    "post-push": "after an upload was committed",
}
TIMEOUT_SECONDS: Final = 60.0
_SAMPLES: Final = "hook_samples"
_SHOWN_CHARACTERS: Final = 4000


@dataclass(frozen=True)
class HookStatus:
    """One line of `mp hooks`: state is "active", "not executable", "sample", "unknown" or "absent"."""

    event: str
    state: str
    path: Path | None
    purpose: str


@dataclass(frozen=True)
class _Ended:
    """How a hook's process ended; code None means it could not start or ran out of time, `said` says why."""

    code: int | None
    said: str


class Hooks:
    """The hooks of one repository; `mp_dir` is its `.mp`."""

    def __init__(
        self,
        mp_dir: Path,
        progress: Progress = silent,
        say: Callable[[str], None] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """`say` gets each line that a successful hook prints; else they go to `progress` as warnings."""
        self._mp_dir = mp_dir
        self._say = say or progress.warn
        self._directory = mp_dir / "hooks"
        self._progress = progress
        self._timeout_seconds = timeout_seconds

    def run(self, event: str, details: Mapping[str, Any]) -> None:
        """Run the hook of `event`, if there is one, with `details` as JSON on its standard input.

        Raises HookError when a `pre-` hook exits non-zero, runs too long or cannot be started.
        """
        path = self._directory / event
        if not path.is_file():
            return
        if not os.access(path, os.X_OK):
            self._progress.warn(
                f"hook '{event}' is not executable and was ignored (to switch it on: chmod +x {path})"
            )
            return
        told = plain({"event": event, "repository": str(self._mp_dir), **details})
        document = json.dumps(told, sort_keys=True, allow_nan=False)
        ended = _run(path, document.encode(), self._mp_dir.parent, self._timeout_seconds)
        if ended.code == 0:
            for line in ended.said.splitlines():
                self._say(f"{event}: {line}")
            return
        reason = ended.said or f"exit status {ended.code}"
        if event.startswith("pre-"):
            raise HookError(
                f"hook '{event}' refused: {reason}", hint=f"the hook is {path}; nothing was changed"
            )
        self._progress.warn(f"hook '{event}' failed, what it follows is done all the same: {reason}")

    def active(self, event: str) -> bool:
        """Whether `event` has a hook that would run."""
        path = self._directory / event
        return path.is_file() and os.access(path, os.X_OK)

    def statuses(self) -> tuple[HookStatus, ...]:
        """Every event and what stands for it in the hooks directory; unknown names come last."""
        known = tuple(self._status(event, purpose) for event, purpose in EVENTS.items())
        names = {path.name for path in self._directory.iterdir()} if self._directory.is_dir() else set()
        strange = sorted(name for name in names if name.removesuffix(".sample") not in EVENTS)
        return known + tuple(
            HookStatus(name, "unknown", self._directory / name, "no command runs a hook of this name")
            for name in strange
        )

    def _status(self, event: str, purpose: str) -> HookStatus:
        path = self._directory / event
        sample = self._directory / f"{event}.sample"
        if path.is_file():
            state = "active" if os.access(path, os.X_OK) else "not executable"
            return HookStatus(event, state, path, purpose)
        if sample.is_file():
            return HookStatus(event, "sample", sample, purpose)
        return HookStatus(event, "absent", None, purpose)


def install_samples(mp_dir: Path) -> None:
    """Write the packaged samples into `.mp/hooks` as executable `.sample` files; renaming switches one on."""
    from importlib.resources import files as package_files

    directory = mp_dir / "hooks"
    files.make_directories(directory)
    for sample in package_files("mpstore").joinpath(_SAMPLES).iterdir():
        if sample.name in EVENTS:
            target = directory / f"{sample.name}.sample"
            files.write_whole(target, sample.read_bytes(), mp_dir / "tmp", durable=False, mode=0o777)


def _run(path: Path, document: bytes, directory: Path, timeout_seconds: float) -> _Ended:
    """Run one hook in a process group of its own, so that a time limit ends all it started."""
    import subprocess

    try:
        process = subprocess.Popen(
            [str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,
        )
    except OSError as error:
        return _Ended(None, f"it cannot be started ({error.strerror}); does it begin with a #! line?")
    try:
        output, _ = process.communicate(document, timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        return _Ended(None, f"it ran longer than {timeout_seconds:g} seconds and was ended")
    except BaseException:
        _kill(process)
        raise
    said = output[-_SHOWN_CHARACTERS:].decode("utf-8", "replace").strip()
    return _Ended(process.returncode, said)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself just now
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
