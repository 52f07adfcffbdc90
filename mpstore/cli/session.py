"""What one call of `mp` knows: where the repository is sought, how to answer, what to say when interrupted.

Relies on the api (imported when a repository is opened). Promises: with `--json` exactly one document goes
to standard output; reports of what was done respect `-q`, answers to questions do not.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpstore.cli import process
from mpstore.errors import NotFoundError, StorageError, UsageError

if TYPE_CHECKING:
    from mpstore.api import Repository
    from mpstore.events import Progress


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a message from outside could steer the terminal


class OutputClosed(Exception):
    """Nobody reads the answer any more (`mp log | head`). No OSError: click would make exit code 1 of it."""


@dataclass
class Session:
    """Mutable while options are parsed (they may stand before or after the verb), constant after."""

    moved: bool = False
    as_json: bool = False
    quiet: bool = False
    kept: str = "nothing was changed"
    warnings: list[str] = field(default_factory=list)

    def go_to(self, directory: str) -> None:
        """`-C DIR`: work there, so that every relative path, wherever it is looked at, starts there."""
        try:
            os.chdir(directory)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"-C: {directory} is not a directory") from None
        self.moved = True

    def path(self, text: str) -> Path:
        """A path argument, as messages show it: in full."""
        if not text:  # an unset variable of a script, which would mean the working directory
            raise UsageError("a path is empty", hint="name a file or a directory; '.' is this one")
        return _here() / Path(text).expanduser()

    def output_path(self, text: str, flag: str) -> Path:
        """A file to be written: its directory must be there, and is named if it is not."""
        path = self.path(text)
        if not path.parent.is_dir():
            raise NotFoundError(f"{flag}: there is no directory {path.parent}", hint="make it first")
        if path.is_dir():
            raise UsageError(f"{flag}: {path} is a directory", hint=f"name a file in it: {flag} {text}/FILE")
        if path.exists() and not path.is_file():
            raise UsageError(
                f"{flag}: {path} is there, and no file", hint="name another; it is left as it is"
            )
        return Path(os.path.realpath(path)) if path.is_symlink() else path

    def repository(self) -> Repository:
        """Open the repository: `-C` first, then `MP_DIR`, then upward from the working directory."""
        process.prepare()
        from mpstore.api import Repository

        named = os.environ.get("MP_DIR")
        if named and not self.moved:
            try:
                return Repository.open(Path(named), progress=self.progress(), say=self.say)
            except NotFoundError as error:
                raise NotFoundError(f"MP_DIR: {error.message}", hint=error.hint) from None
        return Repository.discover(_here(), progress=self.progress(), say=self.say)

    def author(self, repository: Repository) -> str:
        """Who commits: `MP_AUTHOR`, who the repository's settings say, or user@host."""
        import getpass
        import socket

        named = os.environ.get("MP_AUTHOR")
        if named and not named.isprintable():
            raise UsageError(f"MP_AUTHOR is {named!r}: one line of text is expected")
        if named := named or repository.config.author:
            return named
        try:
            return f"{getpass.getuser()}@{socket.gethostname()}"
        except (OSError, KeyError):  # a container's user without a name
            return f"{os.getuid()}@{socket.gethostname()}"

    def progress(self) -> Progress:
        """Bars on a terminal, warnings always; nothing but collected warnings with `--json`."""
        from mpstore.cli.progress import sink

        return sink(self.warnings, as_json=self.as_json, quiet=self.quiet)

    def say(self, line: str) -> None:
        """A line beside the answer (what a hook printed): standard error, not with `-q` or `--json`."""
        if not (self.quiet or self.as_json):
            click.echo(line, err=True)

    def answer(self, value: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print the answer to a question: the JSON document, or the lines."""
        if self.as_json:
            self._document(value)
            return
        for line in lines:
            print_out(_CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", line))

    def report(self, value: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print what was done: as `answer`, but `-q` silences the lines."""
        if self.as_json or not self.quiet:
            self.answer(value, lines)

    def _document(self, value: Mapping[str, Any]) -> None:
        if self.warnings:
            value = {**value, "warnings": self.warnings}
        print_out(to_json(value))


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise NotFoundError("the working directory is gone", hint="cd to another, or say -C DIR") from None


def print_out(text: str) -> None:
    """A line to standard output. StorageError: it cannot be written; OutputClosed: nobody reads it."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        hint = "what the command was to do is done; what it says of it is lost"
        raise StorageError(f"standard output: {error.strerror or error}", hint=hint) from None


def to_json(value: Any) -> str:
    """Strict JSON; see `plain` for what it makes of ids, paths and NaN."""
    from mpstore.plain_json import plain

    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
