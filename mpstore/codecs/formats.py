"""What a block's elements look like: wire codes of the safetensors dtypes, and the compression levels.

Relies on nothing. Promises: wire codes never change their meaning (they are written in pack frames);
`layout` has what the codecs need of a format, so no codec asks for a dtype by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class Level(StrEnum):
    """How hard to try, from cheapest to make to smallest; all decode with the same `decode`."""

    FAST = "fast"
    DEFAULT = "default"
    SMALL = "small"
    MAX = "max"


@dataclass(frozen=True)
class Layout:
    """An element as the codecs see it: `word_bytes` (1, 2, 4, 8) little-endian words, two in a complex.

    sign_magnitude: the top bit is a sign and the rest orders by magnitude (every float but E8M0).
    mantissa_bits: low bits below the exponent; 0 for integers and opaque bytes.
    numeric: neighbouring bit patterns are neighbouring values, so a delta against a base means something.
    """

    word_bytes: int
    words: int = 1
    sign_magnitude: bool = False
    mantissa_bits: int = 0
    numeric: bool = True


class Format(IntEnum):
    """Wire code of a safetensors dtype; BYTES for opaque content, sub-byte types (packed) and any other."""

    BYTES = 0
    BOOL = 1
    U8 = 2
    I8 = 3
    U16 = 4
    I16 = 5
    U32 = 6
    I32 = 7
    U64 = 8
    I64 = 9
    F16 = 10
    BF16 = 11
    F32 = 12
    F64 = 13
    F8_E4M3 = 14
    F8_E5M2 = 15
    F8_E8M0 = 16
    F8_E4M3FNUZ = 17
    F8_E5M2FNUZ = 18
    C64 = 19
    F4 = 20
    F6_E2M3 = 21
    F6_E3M2 = 22

    @property
    def layout(self) -> Layout:
        """The layout of one element."""
        return _LAYOUTS[self]

    @property
    def item_bytes(self) -> int:
        """Bytes an element takes; 1 for opaque bytes and for the packed sub-byte types."""
        layout = _LAYOUTS[self]
        return layout.word_bytes * layout.words

    @classmethod
    def of(cls, dtype: str) -> Format:
        """The format of a safetensors dtype name such as "BF16"; BYTES for a name that is not known."""
        return cls.__members__.get(dtype, cls.BYTES)


def _float(word_bytes: int, mantissa_bits: int, words: int = 1) -> Layout:
    return Layout(word_bytes, words, sign_magnitude=True, mantissa_bits=mantissa_bits)


_LAYOUTS: Final = {
    Format.BYTES: Layout(1, numeric=False),
    Format.BOOL: Layout(1),
    Format.U8: Layout(1),
    Format.I8: Layout(1),
    Format.U16: Layout(2),
    Format.I16: Layout(2),
    Format.U32: Layout(4),
    Format.I32: Layout(4),
    Format.U64: Layout(8),
    Format.I64: Layout(8),
    Format.F16: _float(2, 10),
    Format.BF16: _float(2, 7),
    Format.F32: _float(4, 23),
    Format.F64: _float(8, 52),
    Format.F8_E4M3: _float(1, 3),
    Format.F8_E5M2: _float(1, 2),
    Format.F8_E8M0: Layout(1),
    Format.F8_E4M3FNUZ: _float(1, 3),
    Format.F8_E5M2FNUZ: _float(1, 2),
    Format.C64: _float(4, 23, words=2),
    Format.F4: Layout(1, numeric=False),
    Format.F6_E2M3: Layout(1, numeric=False),
    Format.F6_E3M2: Layout(1, numeric=False),
}
