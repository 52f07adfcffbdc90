"""The safetensors header: read strictly, written as the library writes it.

Relies on dtypes and errors. Promises: a header that is accepted describes the whole of its file, without
overlap, hole or doubt; nothing larger than the declared and bounded length is read; works on any
`read(n)`, so that a download can be parsed as it arrives. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mpstore import dtypes
from mpstore.dtypes import Dtype
from mpstore.errors import DamagedError
from mpstore.ids import Buffer
from mpstore.records.shapes import MAX_DIMENSION, MAX_DIMENSIONS

MAX_HEADER_BYTES: Final = 100_000_000
LENGTH_BYTES: Final = 8
_MAX_SIZE: Final = 2**63 - 1
_METADATA: Final = "__metadata__"
_FETCH_AGAIN: Final = "fetch the file again; `sha256sum` against its source tells whether that helps"

Read: TypeAlias = Callable[[int], Buffer]


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as its header describes it; its bytes are data[start:stop] of what follows it."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def data_bytes(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Header:
    """A checked header. `raw`: the first 8 + N bytes of the file, verbatim; `tensors` in file order."""

    raw: bytes
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str]

    @property
    def data_bytes(self) -> int:
        return self.tensors[-1].stop if self.tensors else 0

    @property
    def file_bytes(self) -> int:
        return len(self.raw) + self.data_bytes


class _Duplicate(ValueError):
    pass


class _NotInteger(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Duplicate(name)
            seen.add(name)
    return found


def _no_float(text: str) -> Any:
    raise _NotInteger(text)


def read_exactly(read: Read, size: int, where: str) -> bytes:
    """`size` bytes of a stream whose `read` may give fewer at a time; DamagedError if it ends before."""
    parts: list[bytes] = []
    lacking = size
    while lacking:
        part = read(min(lacking, 1 << 20))
        if not part:
            raise _damaged(where, f"ends {lacking} bytes early, inside its header")
        parts.append(bytes(part))
        lacking -= len(part)
    return b"".join(parts)


def _damaged(where: str, what: str, hint: str = _FETCH_AGAIN) -> DamagedError:
    return DamagedError(f"{where}: {what}", hint=hint)


def _header_bytes(prefix: bytes, where: str, file_bytes: int | None) -> int:
    """N of the 8-byte prefix, bounded by the format's limit and by the file."""
    if prefix == b"version ":
        raise _damaged(where, "is a git-lfs pointer, not the file that it stands for", "run `git lfs pull`")
    length: int = struct.unpack("<Q", prefix)[0]
    if length > MAX_HEADER_BYTES:
        raise _damaged(where, f"claims a header of {length} bytes; the format allows {MAX_HEADER_BYTES}")
    if file_bytes is not None and LENGTH_BYTES + length > file_bytes:
        raise _damaged(where, f"claims a header of {length} bytes, but the file has {file_bytes}")
    return length


def read_header(read: Read, where: str, file_bytes: int | None = None) -> Header:
    """Read and check the header at the beginning of a stream; consumes 8 + N bytes.

    `where` names the file in errors. `file_bytes`: the size of the whole file, where it is known.
    """
    prefix = read_exactly(read, LENGTH_BYTES, where)
    return parse_header(
        prefix + read_exactly(read, _header_bytes(prefix, where, file_bytes), where), where, file_bytes
    )


def parse_header(raw: bytes, where: str, file_bytes: int | None = None) -> Header:
    """Check the 8 + N bytes of a header; DamagedError (naming file and tensor) for whatever does not hold."""
    if len(raw) < LENGTH_BYTES or len(raw) != LENGTH_BYTES + _header_bytes(
        raw[:LENGTH_BYTES], where, file_bytes
    ):
        raise _damaged(where, "its header is cut off")
    table = _json(raw[LENGTH_BYTES:], where)
    metadata = _metadata(table.pop(_METADATA, {}), where)
    tensors = [_tensor(name, entry, where) for name, entry in table.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.stop))
    header = Header(raw, tuple(tensors), metadata)
    _check_cover(header, where, file_bytes)
    return header


def _json(text: bytes, where: str) -> dict[str, Any]:
    if not text.startswith(b"{"):
        raise _damaged(where, "is no safetensors file: its header does not begin with '{'")
    try:
        table = json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_float=_no_float, parse_constant=_no_float
        )
    except UnicodeDecodeError:
        raise _damaged(where, "its header is not UTF-8") from None
    except _Duplicate as error:
        raise _damaged(
            where, f"its header names {str(error)!r} twice", "ask whoever wrote it which one counts"
        ) from None
    except _NotInteger as error:
        raise _damaged(where, f"its header has {error} where only whole numbers may stand") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(where, f"its header is not JSON ({error})") from None
    if not isinstance(table, dict):  # cannot be: it begins with '{'
        raise _damaged(where, "its header is not a JSON object")
    return table


def _metadata(entry: Any, where: str) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise _damaged(where, "its __metadata__ is not a map of text to text")
    return entry


def _tensor(name: str, entry: Any, where: str) -> TensorInfo:
    at = f"{where}: tensor {name!r}"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise _damaged(where, f"a tensor's name is not Unicode: {name!r}") from None
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise _damaged(at, "lacks dtype, shape or data_offsets")
    dtype = dtypes.of(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise _damaged(
            at, f"unknown dtype {_brief(entry['dtype'])}", "a newer mp may know it; nothing was added"
        )
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _sizes(shape):
        raise _damaged(at, f"shape {_brief(shape)} is not a list of sizes below 2^63")
    if len(shape) > MAX_DIMENSIONS or any(size > MAX_DIMENSION for size in shape):
        raise _damaged(
            at,
            f"shape {_brief(shape)} has more than {MAX_DIMENSIONS} dimensions or one above 2^48",
            "a repository has no room for it; nothing was added",
        )
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(at, f"data_offsets {_brief(offsets)} are not two ascending positions")
    expected = _expected_bytes(dtype, shape)
    if expected is None:
        raise _damaged(at, f"shape {_brief(shape)} of {dtype.name} is no whole number of bytes below 2^63")
    if offsets[1] - offsets[0] != expected:
        given = offsets[1] - offsets[0]
        raise _damaged(
            at, f"shape {_brief(shape)} of {dtype.name} takes {expected} bytes, data_offsets give {given}"
        )
    return TensorInfo(name, dtype, tuple(shape), offsets[0], offsets[1])


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= _MAX_SIZE for value in values
    )


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _expected_bytes(dtype: Dtype, shape: list[int]) -> int | None:
    """Bytes of the shape; None where it overflows 63 bits or packed items do not end on a byte."""
    elements = 1
    for size in shape:
        elements *= size
        if elements > _MAX_SIZE:
            return None
    size_bytes = dtypes.tensor_bytes(dtype, elements)
    return size_bytes if size_bytes is not None and size_bytes <= _MAX_SIZE else None


def _check_cover(header: Header, where: str, file_bytes: int | None) -> None:
    """The tensors must cover the data without overlap or hole, and end where the file ends."""
    position, before = 0, "the header"
    for tensor in header.tensors:
        if tensor.start < position:
            raise _damaged(where, f"tensor {tensor.name!r} overlaps {before!r} at data offset {tensor.start}")
        if tensor.start > position:
            raise _damaged(where, f"a hole of {tensor.start - position} bytes before tensor {tensor.name!r}")
        position, before = tensor.stop, tensor.name
    if file_bytes is None or header.file_bytes == file_bytes:
        return
    if header.file_bytes > file_bytes:
        last = header.tensors[-1].name
        lacking = header.file_bytes - file_bytes
        raise _damaged(where, f"is cut off: tensor {last!r} ends {lacking} bytes past the end of the file")
    raise _damaged(where, f"{file_bytes - header.file_bytes} bytes after its last tensor belong to nothing")


def build_header(
    tensors: Iterable[tuple[str, Dtype, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> Header:
    """A header for tensors (name, dtype, shape), laid out as the library does: by descending width of
    dtype, then by name; padded with spaces to a multiple of 8 bytes. Names must differ."""
    ordered = sorted(tensors, key=lambda tensor: (-tensor[1].rank, tensor[0]))
    table: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    infos = []
    position = 0
    for name, dtype, shape in ordered:
        size = _expected_bytes(dtype, list(shape))
        if size is None or name in table:
            raise ValueError(f"tensor {name!r}: {dtype.name} {shape} cannot be written")
        infos.append(TensorInfo(name, dtype, tuple(shape), position, position + size))
        table[name] = {"dtype": dtype.name, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return Header(struct.pack("<Q", len(text)) + text, tuple(infos), dict(metadata or {}))
