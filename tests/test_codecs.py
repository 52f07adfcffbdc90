"""The conformance suite that every codec passes: round trips, bounds, hostile bytes, the same bits twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

import codec_page_decoder
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_modes import COMPILED

from mpstore import kernels
from mpstore.codecs import (
    Block,
    Encoded,
    Format,
    Level,
    decode,
    decode_many,
    encode,
    encode_many,
    hold,
    name,
    needs_base,
    rans_delta,
)
from mpstore.codecs.codes import NAMES
from mpstore.errors import DamagedError, UsageError

LENGTHS = (0, 1, 3, 33, 1025, 1300)
SPECIAL = {
    2: np.array(
        [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC1, 0xFFFF, 0x0001, 0x8001, 0x7C00, 0xFC00, 0x7E01], "<u2"
    ),
    4: np.array([0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 1, 0x80000001], "<u4"),
    8: np.array([0, 1 << 63, 0x7FF << 52, 0xFFF << 52, (0x7FF << 52) + 5, 2**64 - 1, 1], "<u8"),
    1: np.arange(256, dtype="u1"),
}


WIDTHS = (Format.F8_E4M3, Format.BF16, Format.F32, Format.F64, Format.I16)


@pytest.fixture(autouse=True)
def numpy_loops():
    kernels.select("numpy")


def weights(form: Format, elements: int, seed: int) -> np.ndarray:
    """Bytes that look like trained weights of the format (or small integers), specials sprinkled in."""
    rng = np.random.default_rng(seed)
    width = form.layout.word_bytes
    count = elements * form.layout.words
    values = rng.standard_normal(count).astype(np.float32) * np.float32(0.03)
    if width == 1:
        words = (rng.standard_normal(count) * 20).astype(np.int8).view("u1")
    elif width == 2:
        exact = values.astype(np.float16).view("<u2")
        words = (values.view("<u4") >> 16).astype("<u2") if form is Format.BF16 else exact
    else:
        words = values.view("<u4") if width == 4 else values.astype(np.float64).view("<u8")
    words = words.copy()
    if count > 8:
        special = SPECIAL[width]
        words[rng.integers(0, count, 5)] = special[rng.integers(0, special.size, 5)]
    return words.view(np.uint8)


def tuned(raw: np.ndarray, form: Format, seed: int, share: float = 0.5) -> np.ndarray:
    """A fine-tune of these bytes: some words moved by a few units of the last place, long stretches not."""
    rng = np.random.default_rng(seed)
    words = raw.view(f"u{form.layout.word_bytes}").copy()
    moved = rng.random(words.size) < share
    moved &= (np.arange(words.size) // 200) % 2 == 0
    words[moved] += (rng.standard_normal(int(moved.sum())) * 30).astype(np.int64).astype(words.dtype)
    return words.view(np.uint8)


def round_trip(raw, form: Format, base, level: Level) -> Encoded:
    made = encode(raw, form, base, level)
    data = bytes(memoryview(raw))
    segments = [bytes(memoryview(segment)) for segment in made.segments]
    assert sum(map(len, segments)) == made.encoded_bytes <= len(data)
    back = decode(made.codec, form, segments, len(data), base if needs_base(made.codec) else None)
    assert back.dtype == np.uint8
    assert back.tobytes() == data
    return made


def every_round_trip(form: Format, level: Level) -> None:
    for elements in LENGTHS:
        raw = weights(form, elements, elements)
        round_trip(raw, form, None, level)
        round_trip(raw, form, raw, level)
        round_trip(tuned(raw, form, 1), form, raw, level)
        noise = np.random.default_rng(elements).integers(0, 256, raw.size, np.uint8)
        round_trip(noise, form, raw, level)
        round_trip(np.zeros_like(raw), form, noise, level)


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("form", list(Format))
def test_round_trip_every_format(form, level):
    every_round_trip(form, level)


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("form", [*WIDTHS, Format.C64])
@pytest.mark.parametrize("mode", COMPILED)
def test_round_trip_compiled(form, level, mode):
    kernels.select(mode)
    every_round_trip(form, level)


@pytest.mark.parametrize("form", [Format.BF16, Format.F32, Format.C64])
def test_lengths_that_are_no_whole_elements(form):
    for size in (1, 3, 5, 4097):
        raw = np.random.default_rng(size).integers(0, 3, size, np.uint8)
        round_trip(raw, form, None, Level.DEFAULT)
        round_trip(raw, form, raw[::-1].copy(), Level.DEFAULT)


def test_a_base_of_another_size_is_left_aside():
    raw = weights(Format.BF16, 500, 1)
    made = encode(raw, Format.BF16, raw[:-2], Level.DEFAULT)
    assert not needs_base(made.codec)


@settings(max_examples=30, deadline=None)
@given(
    data=st.binary(max_size=700),
    form=st.sampled_from(list(Format)),
    level=st.sampled_from(list(Level)),
    flips=st.lists(st.tuples(st.integers(0, 699), st.integers(0, 255)), max_size=20),
    leaning=st.booleans(),
)
def test_round_trip_any_bytes(data, form, level, flips, leaning):
    base = bytearray(data)
    for at, value in flips:
        if at < len(base):
            base[at] = value
    round_trip(data, form, bytes(base) if leaning else None, level)


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("form", WIDTHS)
@pytest.mark.parametrize("elements", [1100, 10_001])  # few lanes, and many
@pytest.mark.parametrize("leaning", [False, True])
def test_all_kernels_give_the_same_bits(form, level, elements, leaning):
    base = weights(form, elements, 3)
    raw = tuned(base, form, 4)
    reference = None
    for mode in kernels.modes():
        kernels.select(mode)
        made = round_trip(raw, form, base if leaning else None, level)
        reference = reference or made
        assert made.codec == reference.codec
        assert [*map(bytes, made.segments)] == [*map(bytes, reference.segments)]
    assert reference is not None
    kernels.select("numpy")
    assert decode(made.codec, form, made.segments, raw.size, base).tobytes() == raw.tobytes()


@pytest.mark.parametrize("form", WIDTHS)
@pytest.mark.parametrize("spread", [0, 1, 3, 7])
def test_distances_of_every_size_take_the_same_bits(form, spread):
    """Tokens with none, one and several turns of raw bits, in chunks beside each other, at odd addresses."""
    width = form.layout.word_bytes
    rng = np.random.default_rng(spread)
    base = weights(form, 8400, 1)
    moves = rng.integers(0, 256, 8400 * width, np.uint8).view(f"u{width}")
    moves >>= rng.integers(min(spread, 8 * width - 1), 8 * width, 8400).astype(moves.dtype)
    moves[(np.arange(8400) // 128) % 4 == 0] >>= moves.dtype.type(8 * width - 2)
    moves[(np.arange(8400) // 384) % 3 == 0] = 0
    raw = (base.view(moves.dtype) + moves).view(np.uint8)
    shifted = np.empty(raw.size + 1, np.uint8)[1:]
    shifted[:] = raw
    made = set()
    for mode in kernels.modes():
        kernels.select(mode)
        segments = rans_delta.encode_many([shifted], form, [base])[0]
        made.add(b"".join(map(bytes, segments)))
        back = np.empty(raw.size + 1, np.uint8)[1:]
        if len(bytes(segments[0])) <= raw.size:  # larger ones are never stored, nor taken
            rans_delta.decode_into(form, [(segments, base)], [back])
            assert back.tobytes() == raw.tobytes()
    assert len(made) == 1


@pytest.mark.parametrize("mode", kernels.modes())
def test_blocks_together_are_coded_as_each_alone(mode):
    kernels.select(mode)
    form = Format.BF16
    base = weights(form, 3000, 3)
    raws = [
        np.full(6000, 7, np.uint8),  # one element, repeated
        tuned(base, form, 4),
        base,  # without a base
        tuned(base, form, 5)[:400],  # small
        np.random.default_rng(6).integers(0, 256, 6000, np.uint8),
        tuned(base, form, 7)[:5001],  # no whole words
    ]
    bases = [base, base, None, base[:400], base, base[:5001]]
    together = encode_many(raws, form, bases, Level.DEFAULT)
    for raw, reference, made in zip(raws, bases, together, strict=True):
        alone = encode(raw, form, reference, Level.DEFAULT)
        assert made.codec == alone.codec
        assert list(map(bytes, made.segments)) == list(map(bytes, alone.segments))
    wanted = [
        Block(made.codec, made.segments, raw.size, reference)
        for raw, reference, made in zip(raws, bases, together, strict=True)
    ]
    back = decode_many(form, wanted)
    assert [own.tobytes() for own in back] == [raw.tobytes() for raw in raws]
    assert hold(form, wanted, raws)
    assert not hold(form, wanted, [raws[0], raws[2], *raws[2:]])
    assert not hold(form, wanted, [raw[:-1] for raw in raws])
    cut = Block(wanted[1].codec, [bytes(wanted[1].segments[0])[:-2]], raws[1].size, base)
    with pytest.raises(DamagedError):
        decode_many(form, [*wanted, cut])


@pytest.mark.skipif(not COMPILED, reason="the extension was not built")
def test_compiled_kernels_refuse_what_is_not_contiguous():
    kernels.select("native")
    base = weights(Format.BF16, 4000, 3)
    with pytest.raises(ValueError, match="contiguous"):
        encode(tuned(base, Format.BF16, 4)[::2], Format.BF16, base[::2], Level.DEFAULT)


def test_sizes_that_the_design_promises():
    kernels.select("auto")
    base = weights(Format.BF16, 131072, 7)
    expert = tuned(base, Format.BF16, 8, 0.3)
    alone = encode(base, Format.BF16, None, Level.DEFAULT)
    leaning = encode(expert, Format.BF16, base, Level.DEFAULT)
    assert name(alone.codec) == "prefix-planes"
    assert alone.encoded_bytes <= 0.67 * base.size
    assert name(leaning.codec) == "tier-delta"
    assert leaning.encoded_bytes <= 0.15 * base.size
    small = encode(expert, Format.BF16, base, Level.SMALL)
    assert name(small.codec) == "rice-delta"
    assert small.encoded_bytes <= 0.13 * base.size
    same = encode(base, Format.BF16, base, Level.DEFAULT)
    assert same.encoded_bytes < 200
    assert encode(bytes(4096), Format.BF16, base[:4096], Level.DEFAULT).encoded_bytes == 2


@pytest.mark.parametrize("form", [Format.BF16, Format.F32])
@pytest.mark.parametrize("elements", [32768, 32769, 32771])
def test_fine_planes_of_the_highest_level(form, elements):
    raw = weights(form, elements, 9)
    made = {}
    for mode in kernels.modes():
        kernels.select(mode)
        made[mode] = [bytes(segment) for segment in round_trip(raw, form, None, Level.MAX).segments]
        assert made[mode] == made["numpy"]
    assert sum(map(len, made["numpy"])) < encode(raw, form, None, Level.DEFAULT).encoded_bytes


def attack(made: Encoded, form: Format, size: int, base, rng) -> None:
    """Flip, cut, lengthen and reorder the segments: decoding gives `size` bytes or DamagedError."""
    segments = [bytearray(memoryview(segment)) for segment in made.segments]
    victim = segments[rng.integers(len(segments))]
    for _ in range(rng.integers(1, 4)):
        action = rng.integers(5)
        if action == 0 and victim:
            victim[rng.integers(min(len(victim), 40))] = rng.integers(256)
        elif action == 1 and victim:
            victim[rng.integers(len(victim))] ^= 1 << rng.integers(8)
        elif action == 2:
            del victim[rng.integers(len(victim) + 1) :]
        elif action == 3:
            victim += rng.integers(0, 256, rng.integers(1, 300), np.uint8).tobytes()
        else:
            segments = [*segments, bytearray(b"x")] if rng.integers(2) else segments[:-1]
    codec = int(rng.integers(12)) if rng.integers(5) == 0 else made.codec
    try:
        back = decode(codec, form, segments, size, base)
    except DamagedError:
        return
    assert back.size == size


@pytest.mark.parametrize("mode", kernels.modes())
def test_invariant_11_damaged_blocks_are_refused_or_of_the_declared_size(mode):
    kernels.select(mode)
    rng = np.random.default_rng(11)
    for form in (Format.BF16, Format.F32):
        raw = weights(form, 1500, 5)
        for base in (None, tuned(raw, form, 6, 0.9)):
            for level in (Level.DEFAULT, Level.MAX):
                made = encode(raw, form, base, level)
                for _ in range(60):
                    attack(made, form, raw.size, base, rng)
                with pytest.raises(DamagedError):
                    decode(made.codec, form, made.segments, raw.size + form.item_bytes, base)


@pytest.mark.parametrize("mode", COMPILED)
@pytest.mark.parametrize("elements", [1100, pytest.param(33_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", WIDTHS)
def test_invariant_11_compiled_decoders_stay_inside_their_arrays(form, elements, mode):
    kernels.select(mode)
    rng = np.random.default_rng(elements)
    raw = weights(form, elements, 5)
    base = tuned(raw, form, 6, 0.9)
    for reference in (None, base):
        for level in Level:
            made = encode(raw, form, reference, level)
            for _ in range(60):
                attack(made, form, raw.size, reference, rng)


def test_errors_name_what_is_wrong():
    with pytest.raises(DamagedError, match="unknown codec 77"):
        decode(77, Format.BF16, [b""], 0)
    raw = weights(Format.BF16, 1500, 5)
    made = encode(raw, Format.BF16, tuned(raw, Format.BF16, 1), Level.DEFAULT)
    with pytest.raises(DamagedError, match="needs its base"):
        decode(made.codec, Format.BF16, made.segments, raw.size)
    with pytest.raises(UsageError):
        kernels.select("fortran")  # type: ignore[arg-type]


def test_formats_and_codecs_have_names_and_sizes():
    assert Format.of("BF16") is Format.BF16
    assert Format.of("something new") is Format.BYTES
    assert {form.item_bytes for form in Format} == {1, 2, 4, 8}
    assert name(200) == "unknown-200"
    assert [needs_base(code) for code in sorted(NAMES)] == [0, 0, 0, 0, 1, 0, 1, 0, 1, 1]


GOLDEN = sorted((Path(__file__).parent / "codecs" / "golden").glob("*.npz"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_bytes_of_every_version_still_decode(path):
    with np.load(path, allow_pickle=False) as stored:
        codec, form, count, size = stored["head"].tolist()
        segments = [stored[f"segment{index}"].tobytes() for index in range(count)]
        base = stored["base"] if stored["base"].size else None
        digest = stored["sha256"].tobytes()
    for mode in kernels.modes():
        kernels.select(mode)
        assert hashlib.sha256(decode(codec, Format(form), segments, size, base).tobytes()).digest() == digest


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_page_on_codecs_is_enough_to_decode_from(path):
    with np.load(path, allow_pickle=False) as stored:
        codec, form, count, size = stored["head"].tolist()
        segments = [stored[f"segment{index}"].tobytes() for index in range(count)]
        raw = codec_page_decoder.decode(codec, form, segments, size, stored["base"].tobytes())
        assert hashlib.sha256(raw).digest() == stored["sha256"].tobytes()


def test_golden_bytes_cover_every_codec():
    with_golden = {name(int(np.load(path)["head"][0])) for path in GOLDEN}
    assert with_golden == set(NAMES.values())
