"""How fast the kernels are, in one thread: every compiled variant that runs here, in turn.

    python examples/bench/kernels.py [--elements 8388608] [--rounds 7] [--out F.json]
    python examples/bench/kernels.py --smoke

Words of bfloat16, a base and eight experts whose words differ in a fifth of the places, in blocks of 65536.
Nanoseconds are the best round's, an element (merges: an element and expert); SHA-256 of one and of several
buffers side by side, and BLAKE3, in GB/s.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.kernels import random_numpy
from mpstore.kernels.merge_numpy import Terms
from mpstore.kernels.merge_words_numpy import Sources

BLOCK, EXPERTS = 65536, 8
Words = npt.NDArray[np.uint16]


def family(elements: int) -> tuple[Words, list[Words]]:
    """A base and its experts, as patterns."""
    rng = np.random.default_rng(7)
    base = rng.standard_normal(elements, np.float32) * np.float32(0.02)
    experts = [base + rng.standard_normal(elements, np.float32) * np.float32(1e-5) for _ in range(EXPERTS)]
    base, *experts = (one.astype(ml_dtypes.bfloat16).view(np.uint16) for one in (base, *experts))
    return base, experts


def cut(words: Words) -> list[Words]:
    return [words[start : start + BLOCK] for start in range(0, words.size, BLOCK)]


def terms(operator: str, even: bool) -> Terms:
    """Of linear, TIES and DARE-TIES, with weights of 1 if `even`, else of many bits."""
    weight = np.ones(EXPERTS, np.float32) if even else np.linspace(0.8, 1.2, EXPERTS).astype(np.float32)
    drawn = operator == "dare_ties"
    return Terms(
        weight=weight,
        scale=np.full(EXPERTS, 5.0 if drawn else 1.0, np.float32),
        low=np.full(EXPERTS, 8e-6 if operator == "ties" else 0.0, np.float32),
        high=np.full(EXPERTS, np.inf, np.float32),
        key=(np.arange(EXPERTS) * 7919).astype(np.uint64),
        keep=np.full(EXPERTS, random_numpy.below(0.2), np.uint64),
        random=drawn,
        elect=operator != "linear",
        normalize=operator != "dare_ties",
        divisor=np.float32(weight.sum()),
        factor=np.float32(1.0),
        base_scale=np.float32(1.0),
    )


def works(base: Words, experts: Sequence[Words]) -> dict[str, tuple[Callable[[], Any], float]]:
    """What is measured, by name: what to do, and of how many elements or (negative) bytes it is."""
    bases, firsts = cut(base), cut(experts[0])
    raws, base_raws = ([one.view(np.uint8) for one in blocks] for blocks in (firsts, bases))
    tiers, words = kernels.pick("tiers"), kernels.pick("merge_words")
    sha, statistics = kernels.pick("sha256"), kernels.pick("statistics")
    segments = [one for one in tiers.encode_many(raws, base_raws, True) if one is not None]
    outs = [np.empty_like(raw) for raw in raws]
    merged, plain = np.empty(BLOCK, np.uint16), np.zeros(EXPERTS, np.bool_)
    rows = list(zip(*(cut(expert) for expert in experts), strict=True))

    def merge(own: Terms) -> None:
        for number, (start, items) in enumerate(zip(bases, rows, strict=True)):
            words.combine(
                Sources(start, list(items), plain, False), own, number * BLOCK, merged[: start.size]
            )

    def hashes(count: int) -> None:
        sha.together([sha.sha256() for _ in range(count)], [one.view(np.uint8) for one in experts[:count]])

    found: dict[str, tuple[Callable[[], Any], float]] = {
        "blake3": (lambda: kernels.pick("blake3").block_ids(raws), -base.nbytes),
        **{f"sha256 of {n}": (lambda n=n: hashes(n), -n * base.nbytes) for n in (1, 2, 8)},
        "statistics": (lambda: statistics.observe_many(bases, firsts, True), base.size),
        "tiers, encode": (lambda: tiers.encode_many(raws, base_raws, True), base.size),
        "tiers, decode": (lambda: tiers.decode_many(segments, base_raws, outs, True), base.size),
    }
    for operator in ("linear", "ties", "dare_ties"):
        for even in (True, False):
            own = terms(operator, even)
            name = f"merge, {operator}, weights {'of 1' if even else 'of any size'}"
            found[name] = (lambda own=own: merge(own), EXPERTS * base.size)
    return found


def measure(variants: Sequence[str], elements: int, rounds: int) -> dict[str, dict[str, float]]:
    """Name -> variant -> the best round; the variants take turns, so that a slow spell strikes all."""
    base, experts = family(elements)
    prepared = {}
    for variant in variants:
        kernels.select(variant)
        prepared[variant] = works(base, experts)
    best: dict[str, dict[str, float]] = {name: {} for name in prepared[variants[0]]}
    for name in best:
        for _ in range(rounds):
            for variant in variants:
                kernels.select(variant)
                work, size = prepared[variant][name]
                began = time.perf_counter()
                work()
                seconds = time.perf_counter() - began
                figure = seconds / size * 1e9 if size > 0 else -size / seconds / 1e9
                better = min if size > 0 else max
                best[name][variant] = better(best[name].get(variant, figure), figure)
    kernels.select("auto")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--elements", type=int, default=1 << 23)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    variants = [mode for mode in kernels.modes() if mode != "numpy"]
    if not variants:
        raise SystemExit("no compiled kernels here")
    elements, rounds = (3 * BLOCK, 1) if asked.smoke else (asked.elements, asked.rounds)
    found = measure(variants, elements, rounds)
    print(f"| | {' | '.join(variants)} | |\n|---|{'---|' * len(variants)}---|")
    for name, figures in found.items():
        unit = "GB/s" if name.startswith(("blake3", "sha256")) else "ns"
        print(f"| {name} | {' | '.join(f'{figures[variant]:.2f}' for variant in variants)} | {unit} |")
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
