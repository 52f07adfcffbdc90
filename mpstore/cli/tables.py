"""Aligned plain-text tables: the same on a terminal and in a pipe.

Relies on nothing. Promises: columns two spaces apart, numbers to the right, no trailing spaces; characters
that take two columns (CJK) or none (accents) count as such.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], align: str, header: Sequence[str] = ()) -> Iterator[str]:
    """Lines of the table; `align` has an "l" or "r" for each column. Without rows there is no header."""
    every = [header, *rows] if header and rows else list(rows)
    widths = [max((columns(row[column]) for row in every), default=0) for column in range(len(align))]
    for row in every:
        cells = (
            " " * (width - columns(cell)) + cell if side == "r" else cell + " " * (width - columns(cell))
            for cell, width, side in zip(row, widths, align, strict=True)
        )
        yield "  ".join(cells).rstrip()


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def fields(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Lines of "name:  value", the values one below the other."""
    width = max((len(name) for name, _ in pairs), default=0) + 1
    for name, value in pairs:
        yield f"{name + ':':<{width}} {value}"
