"""Size and speed of the codecs on a family of checkpoints: every block encoded, decoded and compared.

    python examples/bench/codecs.py BASE EXPERT... [--level fast default max] [--block-elements N]
                                    [--every N] [--json F.json]

BASE and EXPERT are directories in the Hugging Face layout (or safetensors files) of the same tensors. BASE is
encoded without a base, each EXPERT against BASE. One thread; speeds are raw bytes over the processor time
spent in encode or decode, so that other work on the machine disturbs them little. Small tensors count as
they come. `--every N` takes each Nth block only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpstore import kernels
from mpstore.codecs import Format, Level, decode, encode, name


def tensors(path: Path) -> dict[str, tuple[Format, np.ndarray]]:
    """Name -> (format, bytes) of every tensor of a checkpoint, memory-mapped."""
    found = {}
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        data = np.memmap(file, np.uint8, "r")
        header_bytes = int(data[:8].view("<u8")[0])
        header = json.loads(bytes(data[8 : 8 + header_bytes]))
        for key, entry in header.items():
            if key != "__metadata__":
                begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
                found[key] = (Format.of(entry["dtype"]), data[begin:end])
    return found


def blocks(
    base: dict[str, tuple[Format, np.ndarray]],
    expert: dict[str, tuple[Format, np.ndarray]] | None,
    elements: int,
    every: int,
) -> Iterator[tuple[Format, np.ndarray, np.ndarray | None]]:
    """(format, raw, base or None) of each block, read into memory."""
    at = 0
    for key, (form, data) in (expert or base).items():
        step = elements * form.item_bytes
        for start in range(0, data.size, step):
            at += 1
            if at % every == 0:
                reference = np.array(base[key][1][start : start + step]) if expert else None
                yield form, np.array(data[start : start + step]), reference


@dataclass
class Figures:
    """Sums over the blocks of one role (base or expert) at one level."""

    raw_bytes: int = 0
    encoded_bytes: int = 0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    codecs: Counter[str] = field(default_factory=Counter)

    def add(self, form: Format, raw: np.ndarray, base: np.ndarray | None, level: Level) -> None:
        begin = time.thread_time()
        made = encode(raw, form, base, level)
        middle = time.thread_time()
        back = decode(made.codec, form, made.segments, raw.size, base)
        end = time.thread_time()
        if not np.array_equal(back, raw):
            sys.exit(f"{name(made.codec)} at {level} does not round-trip")
        self.raw_bytes += raw.size
        self.encoded_bytes += made.encoded_bytes
        self.encode_seconds += middle - begin
        self.decode_seconds += end - middle
        self.codecs[name(made.codec)] += raw.size

    def row(self) -> dict[str, object]:
        return {
            "raw_bytes": self.raw_bytes,
            "encoded_bytes": self.encoded_bytes,
            "ratio": round(self.encoded_bytes / max(1, self.raw_bytes), 4),
            "encode_gb_per_second": round(self.raw_bytes / max(1e-9, self.encode_seconds) / 1e9, 3),
            "decode_gb_per_second": round(self.raw_bytes / max(1e-9, self.decode_seconds) / 1e9, 3),
            "codec_share": {
                key: round(n / max(1, self.raw_bytes), 4) for key, n in self.codecs.most_common()
            },
        }


def warm(level: Level) -> None:
    """Compile or load the kernels before the clock runs."""
    rng = np.random.default_rng(0)
    for form in (Format.BF16, Format.F16, Format.F32):
        raw = (rng.standard_normal(20000) * 0.03).astype(np.float32).view(np.uint8)
        base = raw.copy()
        base[::7] ^= 1
        for reference in (None, base):
            made = encode(raw, form, reference, level)
            decode(made.codec, form, made.segments, raw.size, reference)


def measure(base: Path, experts: list[Path], level: Level, elements: int, every: int) -> dict[str, object]:
    """The figures of one level: the base, the experts together, the family."""
    warm(level)
    base_tensors = tensors(base)
    alone, leaning = Figures(), Figures()
    for form, raw, _ in blocks(base_tensors, None, elements, every):
        alone.add(form, raw, None, level)
    for path in experts:
        for form, raw, reference in blocks(base_tensors, tensors(path), elements, every):
            leaning.add(form, raw, reference, level)
    family = (alone.encoded_bytes + leaning.encoded_bytes) / max(1, alone.raw_bytes + leaning.raw_bytes)
    return {
        "level": str(level),
        "base": alone.row(),
        "experts": leaning.row(),
        "family_ratio": round(family, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("experts", type=Path, nargs="*")
    parser.add_argument("--level", nargs="+", default=[str(level) for level in Level])
    parser.add_argument("--block-elements", type=int, default=131072)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--kernels", default="auto", help="auto, numpy, or a compiled variant: v1, v3, v4")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    kernels.select(options.kernels)
    rows = []
    print(f"{'level':8} {'role':8} {'ratio':>7} {'enc GB/s':>9} {'dec GB/s':>9}  codecs (share of raw)")
    for level in options.level:
        result = measure(options.base, options.experts, Level(level), options.block_elements, options.every)
        rows.append(result)
        for role in ("base", "experts"):
            row = result[role]
            if row["raw_bytes"]:
                speeds = f"{row['encode_gb_per_second']:9.2f} {row['decode_gb_per_second']:9.2f}"
                print(f"{level:8} {role:8} {row['ratio']:7.4f} {speeds}  {row['codec_share']}")
        print(f"{level:8} {'family':8} {result['family_ratio']:7.4f}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
