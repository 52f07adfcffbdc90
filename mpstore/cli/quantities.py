"""Sizes, shares, ages and times as people write and read them.

Relies on errors. Promises: text in, exact integers out, or a UsageError that shows what would be accepted;
nothing here rounds a size upwards.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from mpstore.errors import UsageError

_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "k": 2**10,
    "m": 2**20,
    "g": 2**30,
    "t": 2**40,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_AGE_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_NUMBER: Final = re.compile(r"(\d{1,40}(?:\.\d{1,40})?)\s*([a-zA-Z]*)")


def parse_size(text: str, flag: str) -> int:
    """Bytes of "2GiB", "600 MB", "1.5g" or "4096"; K, M, G, T alone are powers of 1024."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2].lower() not in _SIZE_UNITS:
        raise UsageError(
            f"{flag}: '{text}' is not a size", hint=f"write {flag} 2GiB, {flag} 600MB or {flag} 4096"
        )
    return int(float(match[1]) * _SIZE_UNITS[match[2].lower()])


def parse_age(text: str, flag: str) -> int:
    """Seconds of "90d", "12h", "30m", "45s", "2w" or "0"."""
    match = _NUMBER.fullmatch(text.strip())
    unit = match[2].lower() if match else "?"
    if match is None or (unit not in _AGE_UNITS and not (unit == "" and float(match[1]) == 0)):
        raise UsageError(
            f"{flag}: '{text}' is not an age", hint=f"write {flag} 90d, {flag} 12h, {flag} 30m or {flag} 0"
        )
    return int(float(match[1]) * _AGE_UNITS.get(unit, 0))


def size(count: int | float) -> str:
    """ "1.2 GiB": three significant digits, binary units."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return (
                f"{count} B"
                if unit == "B"
                else f"{value:.3g} {unit}"
                if value < 1000
                else f"{value:.0f} {unit}"
            )
        value /= 1024
    return f"{value:.3g} TiB"


def share(part: float, whole: float) -> str:
    """ "23.4 %"; nothing of nothing is 0 %."""
    return f"{100 * part / whole:.1f} %" if whole else "0.0 %"


def seconds(value: float) -> str:
    """ "0.8 s", "42 s", "3 min 12 s"."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def when(time_ns: int) -> str:
    """Local time with its zone, to the second, as git prints it."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def plural(count: int, noun: str) -> str:
    """ "1 block", "2 blocks", "0 branches"."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('ch', 's', 'x')) else 's'}"


def figure(value: float) -> str:
    """A measured float in three significant digits: "0", "0.0123", "4.56e-07"."""
    return "0" if value == 0 else f"{value:.3g}"
