"""The one way functions are compiled: no interpreter lock, cached on disk where that is possible.

Relies on numba (so import this from *_numba modules only). Promises: an installation directory that cannot
be written to costs the cache, not the command; a cached function is compiled anew when its own file or that
of any function it uses has changed.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import Any

import numba

_ROOM = __name__.rpartition(".")[0] + "."


@functools.cache
def _stamp(module: str) -> tuple[tuple[str, float, int], ...]:
    """Name, time and size of the files of `module` and of the modules of this room it takes names from."""
    names, found = [module], {module}
    for name in names:
        for value in list(vars(sys.modules[name]).values()):
            source = value.__name__ if isinstance(value, type(sys)) else getattr(value, "__module__", None)
            if isinstance(source, str) and source.startswith(_ROOM) and source not in found:
                found.add(source)
                names.append(source)
    files = [Path(str(sys.modules[name].__file__)) for name in sorted(found)]
    return tuple((file.name, file.stat().st_mtime, file.stat().st_size) for file in files)


def compiled(function: Any) -> Any:
    """`function` compiled at its first call, releasing the interpreter lock while it runs."""
    try:
        made: Any = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no directory that it may keep its cache in
        return numba.njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(AttributeError, OSError):
        # numba watches the function's own file only, but functions here inline those of other files
        made._cache._cache_file._source_stamp = _stamp(function.__module__)
    return made


def inlined(function: Any) -> Any:
    """`function` for use inside compiled ones, inlined there."""
    return numba.njit(nogil=True, inline="always", error_model="numpy")(function)
