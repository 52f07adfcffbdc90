"""Records as bytes: canonical msgpack, `[kind, version, field, ...]`, strictly checked in both directions.

Relies on `shapes` and msgpack. Promises: decode(encode(x)) == x; encode(decode(b)) == b for every b that
decode accepts (there is one spelling of each record); odd bytes raise DamagedError, and decoding them
allocates no more than a fixed multiple of their length.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgpack  # type: ignore[import-untyped]

from mpstore.errors import DamagedError, UsageError
from mpstore.ids import ID_BYTES, Buffer
from mpstore.records import model
from mpstore.records.shapes import (
    MAX_DIMENSION,
    MAX_DIMENSIONS,
    MAX_LIST,
    AnyJson,
    Checked,
    Flag,
    Many,
    Maybe,
    Octets,
    Odd,
    Real,
    Shape,
    Structure,
    Table,
    Text,
    Whole,
    check_name,
    check_path,
    expect,
)

VERSION: Final = 1
_LARGE_BYTES: Final = 1 << 16
_LONG_BYTES: Final = 1 << 12
_DEEP: Final = 3
_FEW: Final = 64
R = TypeVar("R")

_ID = Octets(lengths=(ID_BYTES,))
_SHA256 = Octets(lengths=(0, 32))  # b"": never computed (a merge does not read what it leaves alone)
_IDS = Octets(step=ID_BYTES)
_COMMIT_KINDS = ("full", "delta", "lora")
_DTYPE = Text(pattern=re.compile(r"[A-Z][A-Z0-9_]{0,31}"))
_SHAPE = Many(Whole(high=MAX_DIMENSION), most=MAX_DIMENSIONS)
_ARRAY_ITEM_BYTES = {
    f"{order}{kind}{size}": size
    for order, kinds, sizes in (("<", "fiu", (2, 4, 8)), ("|", "iub", (1,)))
    for kind in kinds
    for size in sizes
}


class _Names:
    """Unique tensor keys in a given order, stored as one text of lines: names hold no control characters,
    and one long text cannot be made to preallocate the way a list can."""

    def pack(self, value: Any) -> str:
        expect(isinstance(value, tuple | list), f"list of names expected, not {type(value).__name__}")
        return "\n".join(self._check(value))

    def unpack(self, plain: Any) -> tuple[str, ...]:
        expect(isinstance(plain, str), f"lines of names expected, not {type(plain).__name__}")
        return tuple(self._check(plain.split("\n"))) if plain else ()

    def _check(self, names: Any) -> Any:
        for name in names:
            check_name(name)
        expect(len(set(names)) == len(names), "a name is repeated")
        return names


class _Files:
    """Files as a map from path to their other fields: sorted and unique by construction."""

    fields = Structure(
        lambda *values: values,
        (
            ("kind", Text(choices=("safetensors", "opaque"))),
            ("size", Whole()),
            ("sha256", _SHA256),
            ("content_ids", _IDS),
            ("tensors", _Names()),
        ),
    )

    def pack(self, value: Any) -> dict[str, Any]:
        expect(isinstance(value, tuple | list), "list of files expected")
        paths = [entry.path for entry in value]
        expect(all(isinstance(path, str) for path in paths), "paths must be text")
        expect(paths == sorted(set(paths)), "files must be sorted by path, each once")
        return Table(self.fields, key=check_path).pack({entry.path: entry for entry in value})

    def unpack(self, plain: Any) -> tuple[model.FileEntry, ...]:
        entries = Table(self.fields, key=check_path).unpack(plain)
        return tuple(model.FileEntry(path, *values) for path, values in entries.items())


def _check_tensor(record: model.TensorRecord) -> None:
    blocks = -(-math.prod(record.shape) // record.block_elements)
    if record.blocks != blocks:
        raise Odd(f"{record.blocks} blocks for a shape that has {blocks}")


def _check_manifest(manifest: model.Manifest) -> None:
    listed: set[str] = set()
    total = 0
    paths = {entry.path for entry in manifest.files}
    for entry in manifest.files:
        expect(entry.kind == "safetensors" or not entry.tensors, f"{entry.path}: opaque, yet lists tensors")
        parents = entry.path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            expect("/".join(parents[:depth]) not in paths, f"{entry.path}: a file is also a directory")
        listed.update(entry.tensors)
        total += len(entry.tensors)
    expect(total == len(listed), "a tensor is listed by two files")
    expect(listed == manifest.tensors.keys(), "the files' tensors are not the manifest's tensors")


def _check_coverage(coverage: model.Coverage) -> None:
    for touched in coverage.touched:
        expect(all(touched.values()), "a touched tensor without bits")


def _check_array(array: tuple[str, tuple[int, ...], bytes]) -> None:
    dtype, shape, data = array
    expected = math.prod(shape) * _ARRAY_ITEM_BYTES[dtype]
    expect(len(data) == expected, f"{len(data)} bytes for an array of {expected}")


class _Array:
    """A named column: (numpy dtype, shape, little-endian bytes)."""

    fields = Structure(
        lambda *values: values,
        (("dtype", Text(choices=_ARRAY_ITEM_BYTES)), ("shape", Many(Whole(), most=8)), ("bytes", Octets())),
        check=_check_array,
    )

    def pack(self, value: Any) -> list[Any]:
        expect(isinstance(value, tuple | list) and len(value) == 3, "(dtype, shape, bytes) expected")
        packed = [shape.pack(item) for (_, shape), item in zip(self.fields.fields, value, strict=True)]
        _check_array((packed[0], tuple(packed[1]), packed[2]))
        return packed

    def unpack(self, plain: Any) -> Any:
        return self.fields.unpack(plain)


_PARENT = Structure(model.Parent, (("role", Text(choices=("previous", "base", "expert"))), ("commit", _ID)))

_EXPERT = Structure(
    model.PlanExpert,
    (
        ("model", Text()),
        ("commit", _ID),
        ("manifest", _ID),
        ("kind", Text(choices=_COMMIT_KINDS)),
        ("params", Table(AnyJson())),
        ("selection", Table(Octets())),
        ("cost_bytes", Whole()),
        ("layers", Text(choices=("all",))),
    ),
)

_SHAPES: Final[dict[type[Any], Structure]] = {
    model.TensorRecord: Structure(
        model.TensorRecord,
        (
            ("dtype", _DTYPE),
            ("shape", _SHAPE),
            ("block_elements", Whole(1, 2**40)),
            ("block_ids", _IDS),
        ),
        check=_check_tensor,
    ),
    model.Manifest: Structure(
        model.Manifest,
        (("files", _Files()), ("tensors", Table(Octets(lengths=(0, ID_BYTES))))),
        check=_check_manifest,
    ),
    model.Commit: Structure(
        model.Commit,
        (
            ("manifest", _ID),
            ("parents", Many(_PARENT)),
            ("kind", Text(choices=_COMMIT_KINDS)),
            ("author", Text()),
            ("time_ns", Whole()),
            ("message", Text()),
            ("how", Table(AnyJson(finite=False))),
        ),
    ),
    model.Plan: Structure(
        model.Plan,
        (
            ("operator", Checked(check_name)),
            ("base_commit", _ID),
            ("base_manifest", _ID),
            ("experts", Many(_EXPERT)),
            ("params", Table(AnyJson())),
            ("tensor_params", Table(AnyJson())),
            ("outputs", Table(AnyJson())),
            ("out_dtype", Text()),
            ("seed", Whole(-(2**63))),
            ("policy", Text()),
            ("budget_bytes", Maybe(Whole())),
            ("max_error", Maybe(Real())),
            ("cost_bytes", Whole()),
            ("base_cost_bytes", Whole()),
            ("full_raw_bytes", Whole()),
            ("full_stored_bytes", Whole()),
            ("omitted_blocks", Whole()),
            ("bound", Real(finite=False)),
            ("relative_bound", Real(finite=False)),
            ("bound_kind", Text(choices=("certificate", "estimate"))),
            ("exact", Flag()),
            ("binding", Text()),
            ("facts", Table(Text())),
            ("fallbacks", Table(Text())),
            ("recipe", Text()),
            ("base_model", Text()),
        ),
    ),
    model.Coverage: Structure(
        model.Coverage,
        (("plan", _ID), ("touched", Many(Table(Octets()))), ("figures", Table(AnyJson(finite=False)))),
        check=_check_coverage,
    ),
    model.Columns: Structure(
        model.Columns,
        (
            ("purpose", Checked(check_name)),
            ("meta", Table(AnyJson(finite=False))),
            ("arrays", Table(_Array())),
        ),
    ),
}


def encode(record: model.Record) -> bytes:
    """The canonical bytes of a record. Raises UsageError naming the field that cannot be stored."""
    return pack_kind(record.KIND, _SHAPES[type(record)], record)


def decode(cls: type[R], data: Buffer) -> R:
    """The record of class `cls` that these bytes spell. Raises DamagedError on anything odd."""
    if cls is model.TensorRecord:
        return _tensor(data)  # type: ignore[return-value]
    record: R = unpack_kind(cls.KIND, _SHAPES[cls], data)  # type: ignore[attr-defined]
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
    record: model.TensorRecord = unpack_kind("tensor", _SHAPES[model.TensorRecord], data)
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


def named_array_item_bytes(dtype: str) -> int:
    """Bytes of one item of a column's dtype. Raises KeyError for a dtype that columns do not take."""
    return _ARRAY_ITEM_BYTES[dtype]


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
