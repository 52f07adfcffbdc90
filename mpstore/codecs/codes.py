"""The wire codes of the codecs, as frames have them, and their names.

Relies on nothing but the errors. Promises: a code never changes its meaning.
"""

from __future__ import annotations

from typing import Final

from mpstore.errors import DamagedError

RAW: Final = 0
CONST: Final = 1
ZSTD: Final = 2
PLANES: Final = 3
DELTA: Final = 4
RANS_PLANES: Final = 5
RANS_DELTA: Final = 6
PREFIX_PLANES: Final = 7
RICE_DELTA: Final = 8
TIER_DELTA: Final = 9

NAMES: Final = {
    RAW: "raw",
    CONST: "const",
    ZSTD: "zstd",
    PLANES: "planes",
    DELTA: "delta",
    RANS_PLANES: "rans-planes",
    RANS_DELTA: "rans-delta",
    PREFIX_PLANES: "prefix-planes",
    RICE_DELTA: "rice-delta",
    TIER_DELTA: "tier-delta",
}
_WITH_BASE: Final = frozenset({DELTA, RANS_DELTA, RICE_DELTA, TIER_DELTA})


def needs_base(codec: int) -> bool:
    """Whether decoding this codec needs the delta base's bytes. DamagedError: no such codec."""
    if codec not in NAMES:
        raise DamagedError(f"unknown codec {codec}")
    return codec in _WITH_BASE


def name(codec: int) -> str:
    """The codec's name for people, "unknown-N" for a code this version does not know."""
    return NAMES.get(codec, f"unknown-{codec}")
