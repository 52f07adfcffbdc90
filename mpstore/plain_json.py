"""Values as JSON can say them, the same for `--json` and for hooks.

Relies on nothing. Promises: what comes out, `json.dumps(…, allow_nan=False)` takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Ids as hex, paths as text, and null for what JSON cannot say (NaN, infinity).

    >>> plain({"bound": float("inf"), "id": b"\\x0a", "shares": (0.5, 1)})
    {'bound': None, 'id': '0a', 'shares': [0.5, 1]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")
