"""The nearest known name, for errors about an unknown one.

Relies on nothing. Promises: a hint for people, quick however many names there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

_CONSIDERED: Final = 5000


def nearest(name: str, known: Iterable[str]) -> str | None:
    """ "did you mean 'x' or 'y'?", or None where nothing known comes near.

    >>> nearest("mian", ["main", "math"])
    "did you mean 'main'?"
    """
    import difflib

    matches = difflib.get_close_matches(name, list(islice(known, _CONSIDERED)), 3, 0.6)
    return f"did you mean {' or '.join(map(repr, matches))}?" if matches else None
