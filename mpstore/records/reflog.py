"""The files that refs are made of: log entries and ref files, each sealed with a checksum.

Relies on encoding and errors. Promises: a file that reads back is whole and belongs to the name and number
it stands under; anything else is DamagedError naming the file. Writing is the business of `refs`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from mpstore.errors import DamagedError, StorageError
from mpstore.ids import ID_BYTES, ObjectId, record_id
from mpstore.records.encoding import pack_kind, unpack_kind
from mpstore.records.refnames import MAX_NAME_BYTES
from mpstore.records.shapes import Maybe, Octets, Structure, Text, Whole
from mpstore.regular_file import read_regular

MAX_FILE_BYTES: Final = 1 << 20
MAX_WHY_CHARACTERS: Final = 4096
_SEAL: Final = b"\xc4\x20"  # msgpack's header of 32 bytes
_SEAL_BYTES: Final = len(_SEAL) + ID_BYTES


@dataclass(frozen=True)
class Ref:
    """The value of a ref, and number and digest (b"": unknown) of the log entry that gave it."""

    name: str
    seq: int
    value: ObjectId
    entry: bytes


@dataclass(frozen=True)
class LogEntry:
    """One move of a ref. `old` None: it did not exist; `new` None: it was deleted.

    `previous` is the digest of the entry before (b"": there is none, or it cannot be read); `mark` is random,
    so that no two entries have the same digest.
    """

    name: str
    seq: int
    old: ObjectId | None
    new: ObjectId | None
    time_ns: int
    who: str
    why: str
    previous: bytes = b""
    mark: bytes = b""

    @property
    def digest(self) -> bytes:
        return record_id("log", pack_kind("log", _ENTRY, self))


_NAME = Text()
_ID = Octets(lengths=(ID_BYTES,))
_DIGEST = Octets(lengths=(0, ID_BYTES))
_REF = Structure(Ref, (("name", _NAME), ("seq", Whole(1)), ("value", _ID), ("entry", _DIGEST)))
_ENTRY = Structure(
    LogEntry,
    (
        ("name", _NAME),
        ("seq", Whole(1)),
        ("old", Maybe(_ID)),
        ("new", Maybe(_ID)),
        ("time_ns", Whole()),
        ("who", Text()),
        ("why", Text()),
        ("previous", _DIGEST),
        ("mark", Octets()),
    ),
)


def ref_bytes(ref: Ref) -> bytes:
    """The content of a ref file."""
    return _sealed("ref", _REF, ref)


def entry_bytes(entry: LogEntry) -> bytes:
    """The content of a log entry's file."""
    return _sealed("log", _ENTRY, entry)


def read_ref(path: str, name: str) -> Ref | None:
    """The ref file at `path`; None: there is none. DamagedError when it is not what it claims to be."""
    try:
        ref: Ref | None = _unsealed("ref", _REF, path)
    except DamagedError:
        if os.path.isdir(path):  # of names that begin with this one
            return None
        raise
    if ref is not None and ref.name != name:
        raise DamagedError(f"{path}: damaged: this is the file of {ref.name!r}")
    return ref


def read_entry(path: str, name: str, seq: int) -> LogEntry | None:
    """The log entry at `path`; None: there is none. DamagedError when it is not what it claims to be."""
    entry: LogEntry | None = _unsealed("log", _ENTRY, path)
    if entry is not None and (entry.name, entry.seq) != (name, seq):
        raise DamagedError(f"{path}: damaged: this is entry {entry.seq} of {entry.name!r}")
    return entry


def read_digest(path: str) -> bytes | None:
    """The digest of the log entry at `path`, its content unread; None: there is none, or it is damaged."""
    try:
        data = read_small(path, MAX_FILE_BYTES)
    except DamagedError:
        return None
    return None if data is None or not _seal_holds("log", data) else data[-ID_BYTES:]


def _sealed(kind: str, shape: Structure, value: Any) -> bytes:
    body = pack_kind(kind, shape, value)
    return body + _SEAL + record_id(kind, body)


def _unsealed(kind: str, shape: Structure, path: str) -> Any:
    data = read_small(path, MAX_FILE_BYTES)
    if data is None:
        return None
    if not _seal_holds(kind, data):
        raise DamagedError(f"{path}: damaged: its checksum does not match")
    try:
        return unpack_kind(kind, shape, data[:-_SEAL_BYTES])
    except DamagedError as error:
        raise DamagedError(f"{path}: {error.message}", hint=error.hint) from None


def _seal_holds(kind: str, data: bytes) -> bool:
    return data[-_SEAL_BYTES:] == _SEAL + record_id(kind, data[:-_SEAL_BYTES])


def read_small(path: str, limit_bytes: int) -> bytes | None:
    """A small file's content; None where there is no such file. DamagedError past the limit, or where it is
    no file."""
    try:
        data = read_regular(path, limit_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
    if len(data) > limit_bytes:
        raise DamagedError(f"{path}: damaged: larger than any such file ({limit_bytes} bytes)")
    return data


def entry_numbers(directory: str) -> list[int]:
    """Ascending numbers of the entries in a log directory; empty where there is none."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"{directory}: {error.strerror or error}") from error
    digits = (name[1:] for name in names if name.startswith("@"))
    return sorted(
        int(number) for number in digits if number.isascii() and number.isdigit() and len(number) < 19
    )


__all__ = [
    "MAX_NAME_BYTES",
    "LogEntry",
    "Ref",
    "entry_bytes",
    "entry_numbers",
    "read_entry",
    "read_ref",
    "ref_bytes",
]
