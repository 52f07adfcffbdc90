"""The header reader against the library, against lies, and against noise."""

from __future__ import annotations

import io
import json
import struct
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore import dtypes
from mpstore.errors import DamagedError
from mpstore.safetensors_file import MAX_HEADER_BYTES, build_header, parse_header, read_header


def raw_header(table: Any, text: bytes | None = None) -> bytes:
    text = json.dumps(table).encode() if text is None else text
    return struct.pack("<Q", len(text)) + text


def entry(dtype: str = "F32", shape: Any = (2, 2), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_a_file_of_the_library_is_read() -> None:
    arrays = {"w": np.ones((3, 5), np.float32), "e": np.zeros((0, 4), np.float16), "s": np.array(2.0)}
    data = safetensors.numpy.save(arrays, metadata={"format": "pt"})
    header = read_header(io.BytesIO(data).read, "model.safetensors", len(data))
    assert header.file_bytes == len(data)
    assert header.metadata == {"format": "pt"}
    for tensor in header.tensors:
        body = data[len(header.raw) + tensor.start : len(header.raw) + tensor.stop]
        assert body == arrays[tensor.name].tobytes()
        assert tensor.shape == arrays[tensor.name].shape


def test_a_built_header_is_the_librarys_byte_for_byte() -> None:
    names = ['a"\\\n', "ünï", "b.weight", "a.weight", "z"]
    kinds = [np.int8, np.float32, np.float64, np.bool_, np.uint16, np.int64, np.float16, np.complex64]
    arrays = {f"{name}.{np.dtype(kind).name}": np.zeros((2, 3), kind) for name in names for kind in kinds}
    data = safetensors.numpy.save(arrays, metadata={"format": "np"})
    tensors = []
    for name, array in arrays.items():
        dtype = dtypes.of_numpy(array.dtype)
        assert dtype is not None
        tensors.append((name, dtype, array.shape))
    built = build_header(tensors, {"format": "np"})
    assert data.startswith(built.raw)
    assert len(built.raw) % 8 == 0
    assert parse_header(built.raw, "x", len(data)) == built


@pytest.mark.parametrize("dtype", sorted(dtypes.DTYPES))
def test_every_dtype_of_the_library(dtype: str) -> None:
    kind = dtypes.known(dtype)
    built = build_header([("t", kind, (8, 2))])
    assert built.data_bytes == 16 * kind.bits // 8
    data = built.raw + bytes(built.data_bytes)
    (name, theirs), *rest = safetensors.deserialize(data)
    assert (name, rest) == ("t", [])
    assert theirs["dtype"] == dtype
    if kind.numpy is not None:
        assert kind.numpy.itemsize * 8 == kind.bits
    assert kind.form.name == dtype


LIES = {
    "claims a header of 9223372036854775807": struct.pack("<Q", 2**63 - 1) + b"{}",
    "the format allows": struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}",
    "but the file has": struct.pack("<Q", 5000) + b"{}",
    "inside its header": struct.pack("<Q", 10)[:6],
    "does not begin with": raw_header(None, b"[1]"),
    "not UTF-8": raw_header(None, b'{"\xff": 1}'),
    "not JSON": raw_header(None, b'{"a": '),
    "twice": raw_header(None, b'{"t": 1, "t": 2}'),
    "'dtype' twice": raw_header(None, b'{"t": {"dtype": "F32", "dtype": "F32"}}'),
    "whole numbers": raw_header({"t": entry(offsets=(0, 16.5))}),
    "NaN": raw_header(None, b'{"t": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 16]}}'),
    "not JSON (": raw_header(None, b'{"a":' + b"[" * 100_000),
    "not Unicode": raw_header(None, b'{"\\ud800": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}'),
    "text to text": raw_header({"__metadata__": {"a": 1}}),
    "__metadata__": raw_header({"__metadata__": [1]}),
    "lacks dtype": raw_header({"t": {"shape": [], "data_offsets": [0, 0]}}),
    "lacks dtype, shape": raw_header({"t": 7}),
    "unknown dtype 'F31'": raw_header({"t": entry("F31")}),
    "unknown dtype 3": raw_header({"t": entry(3)}),  # type: ignore[arg-type]
    "shape [-2, -2]": raw_header({"t": entry(shape=(-2, -2))}),
    "shape [True": raw_header({"t": entry(shape=(True, 4))}),
    "shape [18446744073709551616": raw_header({"t": entry(shape=(2**64, 0))}),
    "more than 64 dimensions": raw_header({"t": entry(shape=(1,) * 65, offsets=(0, 4))}),
    "one above 2^48": raw_header({"t": entry(shape=(0, 2**48 + 1), offsets=(0, 0))}),
    f"'{'F' * 76}...": raw_header({"t": entry("F" * 100)}),
    "no whole number of bytes": raw_header({"t": entry(shape=(2**40, 2**40))}),
    "no whole number of bytes ": raw_header({"t": entry("F4", shape=(3,), offsets=(0, 2))}),
    "[16, 0] are not two ascending": raw_header({"t": entry(offsets=(16, 0))}),
    "[0, 8, 16] are not": raw_header({"t": entry(offsets=(0, 8, 16))}),
    "takes 16 bytes, data_offsets give 12": raw_header({"t": entry(offsets=(0, 12))}),
    "'u' overlaps 't'": raw_header({"t": entry(), "u": entry(offsets=(8, 24))}),
    "hole of 4 bytes before tensor 'u'": raw_header({"t": entry(), "u": entry(offsets=(20, 36))}),
    "hole of 8 bytes": raw_header({"t": entry(offsets=(8, 24))}),
}


@pytest.mark.parametrize("message", LIES)
def test_a_lying_header_is_named(message: str) -> None:
    data = LIES[message]
    with pytest.raises(DamagedError) as caught:
        read_header(io.BytesIO(data).read, "dir/model.safetensors", len(data) + 16)
    assert message.strip() in caught.value.message
    assert caught.value.message.startswith("dir/model.safetensors")
    assert caught.value.hint
    assert caught.value.exit_code == 4


def test_a_file_cut_off_or_too_long_is_named() -> None:
    header = build_header([("first", dtypes.known("F32"), (4,)), ("last", dtypes.known("F32"), (4,))])
    with pytest.raises(DamagedError, match="tensor 'last' ends 3 bytes past the end"):
        parse_header(header.raw, "m", header.file_bytes - 3)
    with pytest.raises(DamagedError, match="5 bytes after its last tensor"):
        parse_header(header.raw, "m", header.file_bytes + 5)
    with pytest.raises(DamagedError, match="is cut off"):
        parse_header(header.raw[:-1], "m")


class OneByteAtATime:
    """A stream as slow as the law allows, that counts what was taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.taken = 0

    def read(self, size: int) -> bytes:
        assert size > 0
        part = self._data[self.taken : self.taken + 1]
        self.taken += len(part)
        return part


def test_a_stream_is_consumed_exactly_to_the_end_of_the_header() -> None:
    header = build_header([("t", dtypes.known("BF16"), (3,))])
    stream = OneByteAtATime(header.raw + b"data!!")
    assert read_header(stream.read, "m") == header
    assert stream.taken == len(header.raw)


@given(st.binary(max_size=200))
def test_noise_is_refused_in_our_own_words(noise: bytes) -> None:
    try:
        header = read_header(io.BytesIO(noise).read, "noise", len(noise))
    except DamagedError:
        return
    assert header.file_bytes == len(noise)


scalars = st.none() | st.booleans() | st.integers(-3, 2**65) | st.floats() | st.text(max_size=4)
fields = st.sampled_from(["dtype", "shape", "data_offsets"])


def refused_or_whole(raw: bytes, file_bytes: int) -> None:
    """The one law of fuzzing: our own error, or a header that accounts for every byte."""
    try:
        header = read_header(io.BytesIO(raw).read, "fuzzed", file_bytes)
    except DamagedError:
        return
    assert header.file_bytes == file_bytes
    assert sum(tensor.data_bytes for tensor in header.tensors) == header.data_bytes


@pytest.mark.slow
def test_minutes_of_mutated_headers() -> None:
    rng = np.random.default_rng()
    kinds = list(dtypes.DTYPES.values())
    tokens = [
        b'"',
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b"-1",
        b"1e9",
        b"18446744073709551616",
        b"F32",
        b"null",
        b"\\u0000",
    ]
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        count = int(rng.integers(0, 6))
        shapes = [tuple(int(n) for n in rng.integers(0, 9, rng.integers(0, 4))) for _ in range(count)]
        chosen = [(f"t{i}", kinds[rng.integers(len(kinds))], shapes[i]) for i in range(count)]
        whole = [
            part
            for part in chosen
            if dtypes.tensor_bytes(part[1], int(np.prod(part[2], dtype=int))) is not None
        ]
        header = build_header(whole)
        for _ in range(200):
            raw = bytearray(header.raw)
            for _ in range(int(rng.integers(1, 4))):
                at = int(rng.integers(len(raw)))
                if rng.random() < 0.5:
                    raw[at] = int(rng.integers(256))
                else:
                    raw[at : at + int(rng.integers(0, 5))] = tokens[rng.integers(len(tokens))]
            if rng.random() < 0.7:
                raw[:8] = max(len(raw) - 8, 0).to_bytes(8, "little")
            refused_or_whole(bytes(raw), header.file_bytes + len(raw) - len(header.raw))


json_values = st.recursive(
    scalars | st.sampled_from(["F32", "BF16"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner),
    max_leaves=12,
)
names = st.text(max_size=3) | st.just("__metadata__")


@given(st.dictionaries(names, json_values, max_size=4), st.integers(0, 200))
@settings(max_examples=100)
def test_json_of_the_wrong_kind_is_refused_in_our_own_words(table: dict[str, Any], extra: int) -> None:
    raw = raw_header(table)
    try:
        header = parse_header(raw, "odd", len(raw) + extra)
    except DamagedError:
        return
    assert header.file_bytes == len(raw) + extra


@given(st.data())
@settings(max_examples=75)
def test_one_changed_byte_never_describes_another_file_size(data: st.DataObject) -> None:
    kinds = st.sampled_from([dtypes.known(name) for name in ("F32", "BF16", "F8_E4M3", "I64")])
    shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
    names = data.draw(st.lists(st.text("abc.", min_size=1, max_size=4), unique=True, max_size=4))
    header = build_header([(name, data.draw(kinds), data.draw(shapes)) for name in names])
    spoilt = bytearray(header.raw)
    spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = parse_header(bytes(spoilt), "spoilt", header.file_bytes)
    except DamagedError:
        return
    assert read.file_bytes == header.file_bytes
    assert sum(t.data_bytes for t in read.tensors) == header.data_bytes


@pytest.mark.parametrize("dtype", [d for d in dtypes.DTYPES.values() if d.is_float], ids=lambda d: d.name)
def test_float32_and_back_keeps_every_value_of_the_narrow_dtypes(dtype: dtypes.Dtype) -> None:
    assert dtype.numpy is not None
    words = np.arange(256 if dtype.bits == 8 else 65536).astype(f"u{min(dtype.bits, 16) // 8}")
    items = words.view(dtype.numpy) if dtype.bits <= 16 else words.astype(np.float32).astype(dtype.numpy)
    wide = dtypes.to_float32(items.tobytes(), dtype)
    back = dtypes.from_float32(wide, dtype)
    number = ~np.isnan(wide)
    assert wide.dtype == np.float32
    assert back[number].tobytes() == items[number].tobytes()
    assert np.isnan(back[~number].astype(np.float32)).all()


def test_rounding_down_is_to_nearest_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, 3.4e38, np.inf, -0.0], np.float32)
    narrow = dtypes.from_float32(values, dtypes.known("BF16"))
    assert narrow.astype(np.float32).tolist()[:3] == [1.0, 1.0, 1.015625]
    assert narrow.tobytes() == values.astype(ml_dtypes.bfloat16).tobytes()
