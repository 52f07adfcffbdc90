"""What the fields of each kind of record are, and how they hang together: docs/format.md, "Records".

Relies on model and shapes. Promises: what a structure accepts it gives back the same.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from mpstore.ids import ID_BYTES
from mpstore.records import model
from mpstore.records.shapes import (
    MAX_DIMENSION,
    MAX_DIMENSIONS,
    AnyJson,
    Checked,
    Flag,
    Many,
    Maybe,
    Octets,
    Odd,
    Real,
    Structure,
    Table,
    Text,
    Whole,
    check_name,
    check_path,
    expect,
)

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

STRUCTURES: Final[dict[type[Any], Structure]] = {
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


def named_array_item_bytes(dtype: str) -> int:
    """Bytes of one item of a column's dtype. Raises KeyError for a dtype that columns do not take."""
    return _ARRAY_ITEM_BYTES[dtype]
