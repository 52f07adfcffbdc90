"""Records as bytes: canonical msgpack, `[kind, version, field, ...]`, strictly checked in both directions.

Relies on `structures`, `shapes` and msgpack. Promises: decode(encode(x)) == x; encode(decode(b)) == b for
every b that decode accepts (there is one spelling of each record); odd bytes raise DamagedError, and decoding
them allocates no more than a fixed multiple of their length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgpack  # type: ignore[import-untyped]

from mpstore.errors import DamagedError, UsageError
from mpstore.ids import Buffer
from mpstore.records import model
from mpstore.records.shapes import MAX_LIST, Odd, Shape, Structure, check_name, check_path, expect
from mpstore.records.structures import STRUCTURES, named_array_item_bytes

VERSION: Final = 1
_LARGE_BYTES: Final = 1 << 16
_LONG_BYTES: Final = 1 << 12
_DEEP: Final = 3
_FEW: Final = 64
R = TypeVar("R")


def encode(record: model.Record) -> bytes:
    """The canonical bytes of a record. Raises UsageError naming the field that cannot be stored."""
    return pack_kind(record.KIND, STRUCTURES[type(record)], record)


def decode(cls: type[R], data: Buffer) -> R:
    """The record of class `cls` that these bytes spell. Raises DamagedError on anything odd."""
    if cls is model.TensorRecord:
        return _tensor(data)  # type: ignore[return-value]
    record: R = unpack_kind(cls.KIND, STRUCTURES[cls], data)  # type: ignore[attr-defined]
    return record


_heads: Final[dict[int, list[tuple[bytes, model.TensorRecord]]]] = {}
_MOST_HEADS: Final = 1 << 12
_MOST_OF_A_LENGTH: Final = 8


def _tensor(data: Buffer) -> model.TensorRecord:
    """A tensor's record. One that begins as another of the same length, up to its block ids, has that one's
    fields: they come last, and nothing but their length is checked. A plan decodes thousands of records of a
    few hundred beginnings."""
    view = memoryview(data)
    for head, known in _heads.get(len(view), ()):
        if view[: len(head)] == head:
            ids = bytes(view[len(head) :])
            return model.TensorRecord(known.dtype, known.shape, known.block_elements, ids)
    record: model.TensorRecord = unpack_kind("tensor", STRUCTURES[model.TensorRecord], data)
    if len(_heads) < _MOST_HEADS and len(_heads.get(len(view), ())) < _MOST_OF_A_LENGTH:
        ids_bytes = len(record.block_ids)
        head = bytes(view[: len(view) - ids_bytes])
        of_no_block = model.TensorRecord(record.dtype, record.shape, record.block_elements, b"")
        _heads.setdefault(len(view), []).append((head, of_no_block))
    return record


def pack_kind(kind: str, shape: Structure, value: Any) -> bytes:
    """`[kind, version, fields...]` of a value in canonical msgpack; also used for refs and log entries."""
    try:
        packed: bytes = msgpack.packb([kind, VERSION, *shape.pack(value)], use_bin_type=True)
    except (Odd, ValueError, OverflowError) as error:  # ValueError: lone surrogates, lengths past 2**32
        raise UsageError(f"{kind} record cannot be stored: {error}") from None
    return packed


def unpack_kind(kind: str, shape: Structure, data: Buffer) -> Any:
    """The reverse of `pack_kind`. Raises DamagedError on bytes it could not have produced."""
    if len(data) < _LARGE_BYTES:
        data = bytes(data)  # which compares in an instant
    try:
        plain = msgpack.unpackb(data, max_array_len=min(MAX_LIST, len(data)), strict_map_key=True)
        expect(isinstance(plain, list) and len(plain) >= 2, "no list of kind, version and fields")
        if plain[0] != kind:
            raise Odd(f"its kind is {plain[0]!r:.40}")
        if isinstance(plain[1], int) and plain[1] > VERSION:
            raise DamagedError(
                f"{kind} record of version {plain[1]}; this mp reads up to version {VERSION}",
                hint="a newer mp wrote it: upgrade",
            )
        if type(plain[1]) is not int or plain[1] != VERSION:
            raise Odd(f"its version is {plain[1]!r:.40}")
        value = shape.unpack(plain[2:])  # which checks the order of keys; packb has one form for all else
        canonical = _is_canonical(plain, data)
    except (ValueError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise DamagedError(f"damaged {kind} record: {error or type(error).__name__}") from None
    if not canonical:
        raise DamagedError(f"damaged {kind} record: not in canonical form")
    return value


def _is_canonical(plain: list[Any], data: Buffer) -> bool:
    """Whether `data`, which unpacks to `plain`, is its one spelling."""
    if len(data) < _LARGE_BYTES:
        return bool(msgpack.packb(plain, use_bin_type=True) == data)
    view, at = memoryview(data), 0
    for head, payload_bytes in _spelling(plain, 0):
        if view[at : at + len(head)] != head:
            return False
        at += len(head) + payload_bytes
    return at == len(view)


def _spelling(plain: Any, depth: int) -> Iterator[tuple[bytes, int]]:
    """The canonical bytes of a large record, piece by piece, each with how many bytes of a long payload come
    behind it. Such a payload is not compared: where all before it is canonical, the unpacker took it from
    there. Tables of many items are one piece, which is faster."""
    if isinstance(plain, bytes) and len(plain) >= _LONG_BYTES:
        wide = len(plain) > 0xFFFF
        yield struct.pack(">BI" if wide else ">BH", 0xC6 if wide else 0xC5, len(plain)), len(plain)
    elif isinstance(plain, list | dict) and depth < _DEEP and len(plain) <= _FEW:
        packer = msgpack.Packer(use_bin_type=True)
        is_list = isinstance(plain, list)
        yield (packer.pack_array_header if is_list else packer.pack_map_header)(len(plain)), 0
        for key in plain:
            if not is_list:
                yield packer.pack(key), 0
            yield from _spelling(key if is_list else plain[key], depth + 1)
    else:
        yield msgpack.packb(plain, use_bin_type=True), 0


__all__ = [
    "VERSION",
    "Odd",
    "Shape",
    "check_name",
    "check_path",
    "decode",
    "encode",
    "named_array_item_bytes",
]
