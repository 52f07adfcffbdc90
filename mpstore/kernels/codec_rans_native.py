"""`codec_rans_numpy` compiled: the same functions, the same bits, 32 states in flight, without the lock.

Relies on the extension (rans_*.c, planes.c). Promises: decoders look at no word past the end plus SLACK,
write nowhere but into `out`, and return False when the words are not what an encoder wrote.
"""

from __future__ import annotations

from typing import Any

from mpstore.kernels import native, rans_tables


def choose_codes(counts: Any, codes: Any) -> None:
    """As the reference."""
    native.library().choose_codes(counts, counts.shape[1], rans_tables.LOGS, rans_tables.EDGES, codes)


def frequencies(codes: Any, out: Any) -> None:
    """As the reference."""
    native.library().frequencies(codes, codes.shape[1], out)


def write_tables(codes: Any, out: Any) -> int:
    """As the reference."""
    bits: int = native.library().write_tables(codes, codes.shape[1], out)
    return bits


def read_tables(bits: Any, codes: Any) -> int:
    """As the reference."""
    read: int = native.library().read_tables(bits, codes.shape[1], codes)
    return read


def encode_symbols(symbols: Any, frequency: Any, lanes: int, words: Any) -> int:
    """As the reference."""
    start: int = native.library().encode_symbols(symbols, frequency, lanes, words)
    return start


def decode_symbols(words: Any, used: int, frequency: Any, lanes: int, out: Any) -> bool:
    """As the reference."""
    whole: bool = native.library().decode_symbols(words, used, frequency, lanes, out)
    return whole


def split_planes(words: Any, rotate: bool, planes: Any) -> None:
    """As the reference."""
    native.library().split_planes(words, rotate, planes)


def join_planes(planes: Any, rotated: bool, out: Any) -> None:
    """As the reference."""
    native.library().join_planes(planes, rotated, out)


def count_bytes(values: Any, counts: Any) -> None:
    """As the reference."""
    native.library().count_bytes(values, counts)


def split_fine(top: Any, below: Any, ranks: Any, symbols: Any, packed: Any) -> None:
    """As the reference."""
    native.library().split_fine(top, below, ranks, symbols, packed)


def join_fine(symbols: Any, values: Any, packed: Any, top: Any, below: Any) -> None:
    """As the reference."""
    native.library().join_fine(symbols, values, packed, top, below)
