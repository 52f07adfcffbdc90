"""`.mp/config`: the format version and a repository's settings, as TOML that people may edit.

Relies on files, codecs' levels and errors. Promises: an unknown version, key or value is an error that
names it (and the nearest known key); a file that is lost or does not parse is DamagedError with the remedy.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mpstore import files
from mpstore.codecs import Level
from mpstore.errors import DamagedError, UsageError
from mpstore.records.reflog import read_small
from mpstore.suggestions import nearest

FORMAT: Final = 1
BLOCK_ALIGN_ELEMENTS: Final = 64  # sums run over chunks of 64 elements, packed dtypes end on a byte
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Config:
    """Settings of a repository. Only `format` says how to read it; the rest are defaults for new work.

    block_elements: elements of a block (a multiple of 64); compression: "fast", "default", "small" or "max";
    pack_bytes: a pack is closed at this size; memory_bytes: what one command may hold; threads: 0 = as many
    as cores; author: who signs commits, "" = asked of the environment.
    """

    format: int = FORMAT
    block_elements: int = 131072
    compression: str = Level.DEFAULT.value
    pack_bytes: int = 256 << 20
    memory_bytes: int = 512 << 20
    threads: int = 0
    author: str = ""

    def __post_init__(self) -> None:
        for key, low, high in (
            ("block_elements", BLOCK_ALIGN_ELEMENTS, 1 << 26),
            ("pack_bytes", 1, 1 << 40),
            ("memory_bytes", 1 << 20, 1 << 50),
            ("threads", 0, 4096),
        ):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise UsageError(f"{key} = {value!r}: a whole number from {low} to {high} is expected")
        if self.block_elements % BLOCK_ALIGN_ELEMENTS:
            align = BLOCK_ALIGN_ELEMENTS
            raise UsageError(f"block_elements = {self.block_elements}: a multiple of {align} is expected")
        *others, last = [level.value for level in Level]
        if self.compression not in (*others, last):
            wanted = f"{', '.join(others)} or {last}"
            raise UsageError(f"compression = {self.compression!r}: {wanted} is expected")
        if not isinstance(self.author, str) or not self.author.isprintable():
            raise UsageError(f"author = {self.author!r}: one line of text is expected")

    @property
    def level(self) -> Level:
        return Level(self.compression)


def to_text(config: Config) -> str:
    """The file's content."""
    lines = ["# Settings of this mp repository; docs/format.md explains them.", ""]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        lines.append(f"{field.name} = {_quoted(value) if isinstance(value, str) else value}")
    return "\n".join(lines) + "\n"


def from_text(text: str, path: str) -> Config:
    """The settings. UsageError: what cannot be meant; DamagedError: no TOML, or no `format`."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DamagedError(f"{path} does not parse: {error}", hint=_restore_hint(path)) from None
    version = values.get("format")
    if not isinstance(version, int) or isinstance(version, bool):
        raise DamagedError(f"{path} does not say its `format`", hint=_restore_hint(path))
    if version != FORMAT:
        raise UsageError(
            f"{path}: this repository has format {version}; this mp knows format {FORMAT}",
            hint="a newer mp made it: upgrade" if version > FORMAT else None,
        )
    try:
        return from_values(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from None


def from_values(values: Mapping[str, Any]) -> Config:
    """Settings by name over the defaults. UsageError names an unknown key and the nearest known one."""
    known = [field.name for field in dataclasses.fields(Config)]
    for key in values:
        if key not in known:
            raise UsageError(
                f"unknown setting {key!r}", hint=nearest(key, known) or f"known: {', '.join(known)}"
            )
    return Config(**values)


def load(path: str) -> Config:
    """Read a repository's config."""
    try:
        data = read_small(path, _MAX_BYTES)
    except DamagedError as error:
        raise DamagedError(error.message, hint=_restore_hint(path)) from None
    if data is None:
        raise DamagedError(f"{path} is missing", hint=_restore_hint(path))
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DamagedError(f"{path} is not UTF-8 text", hint=_restore_hint(path)) from None
    return from_text(text, path)


def save(path: str, config: Config) -> None:
    """Write it, whole and durable; staged in `tmp` beside it."""
    files.write_whole(path, to_text(config).encode(), os.path.join(os.path.dirname(path), "tmp"))


def _quoted(text: str) -> str:
    """A TOML basic string; the text is printable."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _restore_hint(path: str) -> str:
    default = Config()
    return (
        f"nothing stored depends on it: write `format = {default.format}` into {path} "
        f"(and `block_elements = N` unless it was {default.block_elements})"
    )
