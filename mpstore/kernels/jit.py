"""The one way functions are compiled: no interpreter lock, cached on disk where that is possible.

Relies on numba (so import this from *_numba modules only). Promises: an installation directory that cannot
be written to costs the cache, not the command.
"""

from __future__ import annotations

from typing import Any

import numba


def compiled(function: Any) -> Any:
    """`function` compiled at its first call, releasing the interpreter lock while it runs."""
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no directory that it may keep its cache in
        return numba.njit(nogil=True, error_model="numpy")(function)


def inlined(function: Any) -> Any:
    """`function` for use inside compiled ones, inlined there."""
    return numba.njit(nogil=True, inline="always", error_model="numpy")(function)
