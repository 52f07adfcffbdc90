"""Writes blocks encoded by this version into tests/codecs/golden, for all later versions to decode.

    python tests/codecs/make_golden.py

A file that is there already is never written again: that is its whole point. Each .npz holds the wire code of
codec and format, the segments, the base (empty: none), and size and SHA-256 of the raw bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from mpstore.codecs import Format, Level, encode, name

GOLDEN = Path(__file__).parent / "golden"

# file name: format, elements, whether there is a base, level; what codec that must give
CASES = {
    "raw-u8": (Format.U8, 64, False, Level.DEFAULT, "raw"),
    "const-bf16": (Format.BF16, 300, False, Level.DEFAULT, "const"),
    "zstd-bytes": (Format.BYTES, 900, False, Level.DEFAULT, "zstd"),
    "planes-bf16": (Format.BF16, 900, False, Level.DEFAULT, "planes"),
    "delta-bf16": (Format.BF16, 900, True, Level.DEFAULT, "delta"),
    "delta-i64": (Format.I64, 300, True, Level.DEFAULT, "delta"),
    "rans-planes-bf16": (Format.BF16, 1100, False, Level.MAX, "rans-planes"),
    "rans-planes-bf16-lanes": (Format.BF16, 8195, False, Level.MAX, "rans-planes"),
    "rans-planes-bf16-fine": (Format.BF16, 32769, False, Level.MAX, "rans-planes"),
    "rans-planes-f16": (Format.F16, 1100, False, Level.MAX, "rans-planes"),
    "rans-planes-f32": (Format.F32, 1100, False, Level.MAX, "rans-planes"),
    "rans-delta-bf16": (Format.BF16, 1100, True, Level.MAX, "rans-delta"),
    "rans-delta-bf16-lanes": (Format.BF16, 8195, True, Level.MAX, "rans-delta"),
    "rans-delta-f16": (Format.F16, 1100, True, Level.MAX, "rans-delta"),
    "rans-delta-f32": (Format.F32, 1100, True, Level.MAX, "rans-delta"),
    "rans-delta-f64": (Format.F64, 1100, True, Level.MAX, "rans-delta"),
    "rans-delta-i8": (Format.I8, 1100, True, Level.MAX, "rans-delta"),
    "rans-delta-f8": (Format.F8_E4M3, 1100, True, Level.MAX, "rans-delta"),
    "rans-delta-c64": (Format.C64, 1100, True, Level.MAX, "rans-delta"),
    "prefix-planes-bf16": (Format.BF16, 2100, False, Level.DEFAULT, "prefix-planes"),
    "prefix-planes-f16": (Format.F16, 1100, False, Level.DEFAULT, "prefix-planes"),
    "prefix-planes-f32": (Format.F32, 1100, False, Level.DEFAULT, "prefix-planes"),
    "prefix-planes-f64": (Format.F64, 1100, False, Level.DEFAULT, "prefix-planes"),
    "prefix-planes-c64": (Format.C64, 1100, False, Level.DEFAULT, "prefix-planes"),
    "rice-delta-bf16": (Format.BF16, 2100, True, Level.SMALL, "rice-delta"),
    "rice-delta-bf16-map": (Format.BF16, 20_001, True, Level.SMALL, "rice-delta"),
    "rice-delta-f16": (Format.F16, 1100, True, Level.SMALL, "rice-delta"),
    "rice-delta-f32": (Format.F32, 1100, True, Level.DEFAULT, "rice-delta"),
    "rice-delta-f64": (Format.F64, 1100, True, Level.DEFAULT, "rice-delta"),
    "rice-delta-i8": (Format.I8, 1100, True, Level.DEFAULT, "rice-delta"),
    "rice-delta-f8": (Format.F8_E4M3, 1100, True, Level.DEFAULT, "rice-delta"),
    "rice-delta-c64": (Format.C64, 1100, True, Level.DEFAULT, "rice-delta"),
    "tier-delta-bf16": (Format.BF16, 2100, True, Level.DEFAULT, "tier-delta"),
    "tier-delta-bf16-map": (Format.BF16, 20_001, True, Level.DEFAULT, "tier-delta"),
    "tier-delta-f16": (Format.F16, 1100, True, Level.DEFAULT, "tier-delta"),
    "tier-delta-i16": (Format.I16, 1100, True, Level.DEFAULT, "tier-delta"),
}


def block(form: Format, elements: int, seed: int) -> np.ndarray:
    """Bytes that look like weights of the format."""
    rng = np.random.default_rng(seed)
    count = elements * form.layout.words
    values = rng.standard_normal(count).astype(np.float32) * np.float32(0.03)
    if form is Format.BYTES:
        return np.frombuffer(b'{"model_type": "golden", "layers": [1, 2, 3]}' * 20, np.uint8)[:elements]
    if form is Format.U8:
        return rng.integers(0, 256, count, np.uint8)
    if form.layout.word_bytes == 1:
        return (rng.standard_normal(count) * 20).astype(np.int8).view(np.uint8)
    if form is Format.BF16:
        return (values.view("<u4") >> 16).astype("<u2").view(np.uint8)
    kinds = {Format.F16: "<f2", Format.F64: "<f8", Format.I64: "<i8", Format.I16: "<i2"}
    return (
        (values * (1000 if form in (Format.I64, Format.I16) else 1))
        .astype(kinds.get(form, "<f4"))
        .view(np.uint8)
    )


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for seed, (title, (form, elements, leaning, level, codec)) in enumerate(CASES.items()):
        path = GOLDEN / f"v1-{title}.npz"
        if path.exists():
            continue
        base = block(form, elements, seed)
        raw = base.copy()
        if codec == "const":
            raw[:] = np.tile(raw[: form.item_bytes], elements)
        if leaning:
            words = raw.view(f"<u{form.layout.word_bytes}")
            moved = (np.arange(words.size) // 300 % 2 == 0) & (np.arange(words.size) % 3 > 0)
            steps = np.random.default_rng(seed).standard_normal(words.size) * 40
            words[moved] += steps[moved].astype(np.int64).astype(words.dtype)
        made = encode(raw, form, base if leaning else None, level)
        if name(made.codec) != codec:
            raise SystemExit(f"{title} came out as {name(made.codec)}")
        arrays = {f"segment{i}": np.frombuffer(bytes(s), np.uint8) for i, s in enumerate(made.segments)}
        digest = np.frombuffer(hashlib.sha256(raw.tobytes()).digest(), np.uint8)
        head = np.array([made.codec, int(form), len(made.segments), raw.size])
        np.savez_compressed(path, head=head, base=base if leaning else base[:0], sha256=digest, **arrays)
        print(f"{path.name}: {made.encoded_bytes} of {raw.size} bytes")


if __name__ == "__main__":
    main()
