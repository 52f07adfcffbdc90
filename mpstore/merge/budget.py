"""A budget as people write it, in bytes.

Relies on errors. Promises: exact integers, never rounded up, and no part of a byte; anything else is a
UsageError.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

from mpstore.errors import UsageError

_UNITS: Final = {"": 1, "b": 1, "%": 0} | {
    prefix + suffix: step**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, step in (("", 1024), ("ib", 1024), ("b", 1000))
}
_NUMBER: Final = re.compile(r"([0-9]{1,40}(?:\.[0-9]{1,40})?|\.[0-9]{1,40})\s*([a-zA-Z]*|%)")
_MOST_BYTES: Final = 2**63 - 1
_HINT: Final = "write 2GiB, 500MB, 123456 (bytes), 25% (of the experts' full raw size) or 0"


def budget_text(budget: float | str) -> str:
    """A budget as Python code gives it, as one would write it.

    >>> budget_text(10**9), budget_text(1e16), budget_text(0.25), budget_text("2GiB")
    ('1000000000', '10000000000000000', '0.25', '2GiB')
    """
    if isinstance(budget, float):  # its own text may have an exponent, which no budget has
        return f"{Decimal(repr(float(budget))):f}"
    return str(budget)


def parse_budget(text: str, full_raw_bytes: int) -> int:
    """Bytes of "2GiB", "500MB", "1.5g", "123456", "25%" or "0".

    A percentage is a share of `full_raw_bytes`, what reading every expert whole and unencoded would take.
    Raises UsageError on anything negative or unparsable, and on bytes that look like a share: .25, 1.0.

    >>> parse_budget("25%", 1000), parse_budget("2KiB", 0), parse_budget("0", 5)
    (250, 2048, 0)
    """
    match = _NUMBER.fullmatch(text.strip())
    unit = match[2].lower() if match else None
    if match is None or unit not in _UNITS:
        negative = text.strip().startswith("-")
        said = "is negative" if negative else "is no amount of bytes"
        raise UsageError(f"--budget {text!r} {said}", hint=_HINT)
    amount = Fraction(match[1])
    if _UNITS[unit] == 1:
        _check_whole(text, amount, "." in match[1])
    found = int(amount * full_raw_bytes / 100) if unit == "%" else int(amount * _UNITS[unit])
    if found > _MOST_BYTES:
        raise UsageError(f"--budget {text!r} is more than any disk holds", hint="leave it out to read all")
    return found


def _check_whole(text: str, amount: Fraction, with_point: bool) -> None:
    """Who writes .25 or 1.0 means no bytes; taken as such, it would read nothing of the experts."""
    if with_point and 0 < amount <= 1:
        hint = f"did you mean {float(amount * 100):g}%?"
    elif amount.denominator != 1:
        hint = _HINT
    else:
        return
    raise UsageError(f"--budget {text!r} is no whole number of bytes", hint=hint)


def parse_max_error(text: str) -> float:
    """The largest relative error of "1e-3", "0.5%" or "0". Raises UsageError on anything else."""
    plain = text.strip()
    scale = 1.0
    if plain.endswith("%"):
        plain, scale = plain[:-1].rstrip(), 0.01
    try:
        value = float(plain) * scale
    except ValueError:
        value = float("nan")
    if not 0.0 <= value < float("inf"):
        raise UsageError(
            f"--max-error {text!r} is no error limit",
            hint="write --max-error 1e-3: the error's norm over the base's norm",
        )
    return value
