"""Records: one spelling each, strict in both directions, bounded in memory, safe paths only."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpstore.errors import DamagedError, MpError, UsageError
from mpstore.records import encoding, model
from mpstore.records.encoding import decode, encode
from mpstore.records.structures import STRUCTURES

ids = st.binary(min_size=32, max_size=32)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
wholes = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
json_maps = st.dictionaries(names, json_values, max_size=3)
bits = st.dictionaries(names, st.binary(min_size=1, max_size=4), max_size=3)
component = names.filter(lambda name: name not in (".", "..") and "/" not in name and "\\" not in name)


@st.composite
def tensors(draw: st.DrawFn) -> model.TensorRecord:
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    elements = draw(st.integers(1, 64))
    blocks = -(-math.prod(shape) // elements)
    return model.TensorRecord(draw(st.sampled_from(["BF16", "F8_E4M3"])), shape, elements, b"b" * 32 * blocks)


@st.composite
def manifests(draw: st.DrawFn) -> model.Manifest:
    paths = draw(
        st.lists(component.filter(lambda c: c.lower() not in (".mp", ".git")), unique=True, max_size=3)
    )
    keys = draw(st.lists(names, unique=True, max_size=5)) if paths else []
    entries = []
    for index, path in enumerate(sorted(f"dir/{path}" for path in paths)):
        mine = tuple(keys[index :: len(paths)])
        kind = "safetensors" if mine else draw(st.sampled_from(["safetensors", "opaque"]))
        entries.append(model.FileEntry(path, kind, draw(wholes), draw(ids), draw(ids) * 2, mine))
    record = st.one_of(st.just(b""), ids)
    return model.Manifest(tuple(entries), {key: draw(record) for key in keys})


parents = st.builds(model.Parent, st.sampled_from(["previous", "base", "expert"]), ids)
commits = st.builds(
    model.Commit,
    ids,
    st.lists(parents, max_size=4).map(tuple),
    st.sampled_from(["full", "delta", "lora"]),
    texts,
    wholes,
    texts,
    json_maps,
)
experts = st.builds(
    model.PlanExpert,
    texts,
    ids,
    ids,
    st.sampled_from(["full", "delta", "lora"]),
    json_maps,
    st.dictionaries(names, st.binary(max_size=4), max_size=3),
    wholes,
)
loose = st.floats(allow_nan=False)
plans = st.builds(
    model.Plan,
    operator=names,
    base_commit=ids,
    base_manifest=ids,
    experts=st.lists(experts, max_size=2).map(tuple),
    params=json_maps,
    tensor_params=json_maps,
    outputs=json_maps,
    out_dtype=texts,
    seed=st.integers(-(2**63), 2**63 - 1),
    policy=texts,
    budget_bytes=st.none() | wholes,
    max_error=st.none() | numbers,
    cost_bytes=wholes,
    base_cost_bytes=wholes,
    full_raw_bytes=wholes,
    full_stored_bytes=wholes,
    omitted_blocks=wholes,
    bound=loose,
    relative_bound=loose,
    bound_kind=st.sampled_from(["certificate", "estimate"]),
    exact=st.booleans(),
    binding=texts,
    facts=st.dictionaries(names, texts, max_size=2),
    fallbacks=st.dictionaries(names, texts, max_size=2),
    recipe=texts,
)
coverages = st.builds(model.Coverage, ids, st.lists(bits, max_size=3).map(tuple), json_maps)
arrays = st.tuples(st.sampled_from(["<f4", "<u4"]), st.just((2, 1)), st.binary(min_size=8, max_size=8))
columns = st.builds(model.Columns, names, json_maps, st.dictionaries(names, arrays, max_size=3))
records = st.one_of(tensors(), manifests(), commits, plans, coverages, columns)

COMMIT = model.Commit(b"m" * 32, (model.Parent("base", b"p" * 32),), "full", "me", 1, "why", {"verb": "add"})
FILES = (
    model.FileEntry("a.safetensors", "safetensors", 10, b"s" * 32, b"c" * 32, ("w", "b")),
    model.FileEntry("config.json", "opaque", 2, b"s" * 32, b"c" * 32),
)
MANIFEST = model.Manifest(FILES, {"b": b"1" * 32, "w": b"2" * 32})


@settings(max_examples=50, deadline=None)
@given(records)
def test_what_is_encoded_comes_back_equal(record: model.Record) -> None:
    data = encode(record)
    assert decode(type(record), data) == record
    assert encode(decode(type(record), data)) == data


@settings(max_examples=75, deadline=None)
@given(records, st.data())
def test_what_decodes_has_one_spelling_and_the_rest_is_damage(
    record: model.Record, data: st.DataObject
) -> None:
    """Flip, cut, insert or swap bytes: either DamagedError, or a record whose bytes are exactly these."""
    whole = bytearray(encode(record))
    at = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
    if how == "flip":
        whole[at] ^= 1 << data.draw(st.integers(0, 7))
    elif how == "cut":
        del whole[at:]
    elif how == "insert":
        whole.insert(at, data.draw(st.integers(0, 255)))
    else:
        del whole[at]
    try:
        back = decode(type(record), bytes(whole))
    except DamagedError:
        return
    assert encode(back) == bytes(whole)


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=80), st.sampled_from([model.Commit, model.Manifest, model.TensorRecord, model.Plan])
)
def test_noise_is_damage(noise: bytes, cls: type) -> None:
    with pytest.raises(DamagedError):
        decode(cls, noise)


def plain_of(record: model.Record) -> list:
    return msgpack.unpackb(encode(record))


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("kind", lambda plain: ["manifest", *plain[1:]]),
        ("short id", lambda plain: [*plain[:2], b"m" * 31, *plain[3:]]),
        ("id as text", lambda plain: [*plain[:2], "m" * 32, *plain[3:]]),
        ("role", lambda plain: [*plain[:3], [["uncle", b"p" * 32]], *plain[4:]]),
        ("negative time", lambda plain: [*plain[:6], -1, *plain[7:]]),
        ("float time", lambda plain: [*plain[:6], 1.0, *plain[7:]]),
        ("bool time", lambda plain: [*plain[:6], True, *plain[7:]]),
        ("a field more", lambda plain: [*plain, 0]),
        ("a field less", lambda plain: plain[:-1]),
        ("version as bool", lambda plain: [plain[0], True, *plain[2:]]),
        ("version 0", lambda plain: [plain[0], 0, *plain[2:]]),
        ("bytes in how", lambda plain: [*plain[:-1], {"verb": b"add"}]),
        ("bytes as key", lambda plain: [*plain[:-1], {b"verb": "add"}]),
        ("not a list", lambda plain: {"kind": plain[0]}),
        ("an extension type", lambda plain: [*plain[:-1], {"verb": msgpack.Timestamp(1)}]),
    ],
)
def test_odd_records_are_damage(why: str, change) -> None:
    assert why
    with pytest.raises(DamagedError):
        decode(model.Commit, msgpack.packb(change(plain_of(COMMIT))))


def test_a_newer_version_says_so() -> None:
    plain = plain_of(COMMIT)
    with pytest.raises(DamagedError, match="version 2") as caught:
        decode(model.Commit, msgpack.packb([plain[0], 2, *plain[2:]]))
    assert "upgrade" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb([*plain_of(replace(COMMIT, how={"b": 1, "a": 2}))[:-1], {"b": 1, "a": 2}]),  # key order
        encode(COMMIT).replace(b"\xa6commit", b"\xd9\x06commit", 1),  # longer header than needed
        encode(COMMIT) + b"\xc0",
        encode(replace(COMMIT, how={"x": math.nan})).replace(
            b"\x7f\xf8\0\0\0\0\0\0", b"\x7f\xf8\0\0\0\0\0\1"
        ),
    ],
)
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedError):
        decode(model.Commit, data)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "",
        "a\\..\\b",
        "a\x00b",
        "a\nb",
        ".mp/hooks/x",
        "sub/.git/hooks/pre-commit",
        ".MP/config",
        "x" * 256,
        "\x7f",
        ".",
    ],
)
def test_invariant_11_no_path_leaves_its_directory(path: str) -> None:
    entry = model.FileEntry(path, "opaque", 1, b"s" * 32, b"")
    with pytest.raises(UsageError):
        encode(model.Manifest((entry,), {}))
    good = plain_of(model.Manifest((replace(entry, path="good"),), {}))
    with pytest.raises(DamagedError):
        decode(model.Manifest, msgpack.packb([*good[:2], {path: good[2]["good"]}, {}]))


@pytest.mark.parametrize(
    "manifest",
    [
        replace(MANIFEST, files=FILES[::-1]),
        replace(MANIFEST, files=(FILES[0], replace(FILES[1], path="a.safetensors"))),
        replace(MANIFEST, files=(FILES[0], replace(FILES[1], path="a.safetensors/x"))),
        replace(MANIFEST, files=(FILES[0], replace(FILES[1], tensors=("z",)))),
        replace(MANIFEST, files=(replace(FILES[0], tensors=("w", "w")),)),
        replace(MANIFEST, files=(FILES[0], replace(FILES[0], path="b.safetensors"))),
        replace(MANIFEST, tensors={"w": b"2" * 32}),
        replace(MANIFEST, tensors={**MANIFEST.tensors, "more": b"2" * 32}),
        replace(MANIFEST, tensors={"b": b"1" * 32, "w": b"2" * 31}),
        replace(MANIFEST, files=(replace(FILES[0], tensors=("w\nb",)),)),
        replace(MANIFEST, files=(replace(FILES[0], size=-1), FILES[1])),
    ],
)
def test_manifests_that_cannot_be_are_refused(manifest: model.Manifest) -> None:
    assert decode(model.Manifest, encode(MANIFEST)) == MANIFEST
    with pytest.raises(UsageError):
        encode(manifest)


@pytest.mark.parametrize(
    "record",
    [
        model.TensorRecord("BF16", (2, 3), 4, b"b" * 32),
        model.TensorRecord("bf16", (2,), 4, b"b" * 32),
        model.TensorRecord("BF16", (2**48, 2**48), 1, b""),
        model.TensorRecord("BF16", (), 0, b"b" * 32),
        model.TensorRecord("BF16", (0,), 4, b"b" * 32),
        replace(COMMIT, message="\ud800"),
        replace(COMMIT, how={"x": 2**64}),
        replace(COMMIT, how={"x": {1, 2}}),
        replace(COMMIT, kind="half"),
        model.Columns("stats", {}, {"a": ("<f8", (3,), b"x" * 23)}),
        model.Columns("stats", {}, {"a": ("|O", (1,), b"x" * 8)}),
        model.Coverage(b"p" * 32, ({"w": b""},), {}),
    ],
)
def test_values_that_cannot_be_stored_name_the_field(record: model.Record) -> None:
    with pytest.raises(UsageError, match="cannot be stored"):
        encode(record)


def test_invariant_11_decoding_a_lie_allocates_little() -> None:
    """Nested list headers that each claim as much as msgpack lets them."""
    for lie in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\xdc\x0f\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ):
        data = b"\x99\xa6commit\x01" + lie * 20_000
        tracemalloc.start()
        try:
            with pytest.raises(MpError):
                decode(model.Commit, data)
            assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
        finally:
            tracemalloc.stop()
    deep = b"\x99\xa6commit\x01" + b"\x91" * 100_000
    with pytest.raises(DamagedError):
        decode(model.Commit, deep)


def test_kinds_are_distinct() -> None:
    kinds = [cls.KIND for cls in STRUCTURES]
    assert len(set(kinds)) == len(kinds) == 6


nodes = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.binary(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def grafted(tree: object, data: st.DataObject) -> object:
    """The tree with one node replaced by another, anywhere."""
    if isinstance(tree, list) and tree and data.draw(st.integers(0, 3)):
        at = data.draw(st.integers(0, len(tree) - 1))
        return [*tree[:at], grafted(tree[at], data), *tree[at + 1 :]]
    if isinstance(tree, dict) and tree and data.draw(st.integers(0, 3)):
        key = data.draw(st.sampled_from(list(tree)))
        return {**tree, key: grafted(tree[key], data)}
    return data.draw(nodes)


def check_graft(record: model.Record, data: st.DataObject) -> None:
    """Well-formed msgpack of the wrong content: refused, or it has exactly this spelling."""
    odd = msgpack.packb(grafted(plain_of(record), data))
    try:
        back = decode(type(record), odd)
    except DamagedError:
        return
    assert encode(back) == odd


@settings(max_examples=50, deadline=None)
@given(records, st.data())
def test_well_formed_nonsense_is_damage(record: model.Record, data: st.DataObject) -> None:
    check_graft(record, data)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=20_000, deadline=None)
@given(records, st.data())
def test_well_formed_nonsense_is_damage_for_minutes(record: model.Record, data: st.DataObject) -> None:
    check_graft(record, data)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=20_000, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(list(STRUCTURES)))
def test_noise_behind_a_good_beginning_is_damage_for_minutes(noise: bytes, cls: type) -> None:
    beginning = bytes([0x92 + len(STRUCTURES[cls].fields)]) if len(STRUCTURES[cls].fields) < 14 else b""
    with pytest.raises(DamagedError):
        decode(cls, beginning + msgpack.packb(cls.KIND) + b"\x01" + noise + b"\xc1")


def large_record() -> model.Columns:
    arrays = {
        "long": ("<u4", (20_000,), bytes(range(250)) * 320),
        "short": ("|u1", (3,), b"abc"),
        "wide": ("|u1", (5_000,), b"x" * 5_000),
    }
    return model.Columns("statistics", {"keys": "a\nb", "n": 7}, arrays)


def test_large_records_have_one_spelling_too() -> None:
    record = large_record()
    data = encode(record)
    assert len(data) > encoding._LARGE_BYTES
    for form in (data, memoryview(data), memoryview(bytearray(data))):
        assert decode(model.Columns, form) == record
    plain = msgpack.unpackb(data)
    respelled = {
        "an array's header": b"\xdc\x00\x05" + data[1:],
        "a small number": data.replace(b"\xa1n\x07", b"\xa1n\xcc\x07"),
        "a text's length": data.replace(b"\xa4long", b"\xd9\x04long"),
        "a payload's length": data.replace(b"\xc5\x13\x88", b"\xc6\x00\x00\x13\x88"),
        "a map's header": data.replace(b"\x83\xa4long", b"\xde\x00\x03\xa4long"),
    }
    for what, other in respelled.items():
        assert other != data, what
        assert msgpack.unpackb(other) == plain, what
        with pytest.raises(DamagedError, match="canonical"):
            decode(model.Columns, other)
    for cut in (data[:-1], data + b"\x00"):
        with pytest.raises(DamagedError):
            decode(model.Columns, cut)


def test_a_record_that_begins_as_another_is_checked_all_the_same() -> None:
    known = model.TensorRecord("BF16", (5,), 4, b"a" * 32 + b"b" * 32)
    data = encode(known)
    assert decode(model.TensorRecord, data) == known
    other = replace(known, block_ids=b"c" * 64)
    assert decode(model.TensorRecord, encode(other)) == other
    assert decode(model.TensorRecord, memoryview(bytearray(encode(other)))) == other
    shape = data.index(b"\x91\x05")
    shifted = data[:shape] + b"\x91\x09" + data[shape + 2 :]
    for odd in (shifted, data[:-1], data + b"b", data[:-33] + data[-32:]):
        with pytest.raises(DamagedError):
            decode(model.TensorRecord, odd)
