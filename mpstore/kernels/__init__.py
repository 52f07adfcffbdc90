"""Pure loops over arrays: numba kernels, each beside the numpy reference that gives the same bits.

Relies on numpy; numba is imported late, when work that pays for its second of start-up comes by. Promises:
`select` decides for the whole process which of the two runs, and which one it is never changes a bit.

A kernel family NAME is two modules with the same functions: NAME_numpy and NAME_numba (`pick` gives one of
them). Compiled functions are made by `kernels.jit.compiled`, which copes with a read-only installation.
"""

from __future__ import annotations

import importlib
import threading
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias

from mpstore.errors import UsageError

Mode: TypeAlias = Literal["numba", "numpy", "auto"]

# Importing numba and loading its cache takes about a second; numpy does this many elements in that time.
_PATIENCE_ELEMENTS: Final = 1_500_000
_CALL_ELEMENTS: Final = 2_500  # what a call on a tiny block costs numpy, in elements: 1.6 ms

_lock = threading.Lock()
_modules: Final[dict[str, ModuleType]] = {}


class _Choice:
    mode: Mode = "auto"
    waited_elements: int = 0
    numba_there: bool | None = None


def select(mode: Mode) -> None:
    """Compiled kernels always ("numba"), never ("numpy") or once work pays ("auto"). UsageError: no such."""
    if mode not in ("numba", "numpy", "auto"):
        raise UsageError(f"no kernels called {mode!r}: numba, numpy or auto")
    if mode == "numba" and not _load():
        raise UsageError("kernels 'numba' asked for, but numba cannot be imported")
    _Choice.mode = mode
    _Choice.waited_elements = 0


def worth(elements: int) -> bool:
    """Whether work on this many elements should be compiled; asking counts as having done it.

    In "auto", small work goes to numpy until so much of it has come by that numba would have paid.
    """
    if _Choice.mode != "auto":
        return _Choice.mode == "numba"
    if _Choice.numba_there is not None:  # without the lock: a block asks several times
        return _Choice.numba_there
    _Choice.waited_elements += max(elements, _CALL_ELEMENTS)
    return _Choice.waited_elements >= _PATIENCE_ELEMENTS and _load()


def expect(elements: int) -> None:
    """Work on so many elements is about to come: where that pays for compiled kernels, load them now, not
    after numpy has limped through the first of it."""
    worth(elements)


def pick(family: str, elements: int = _PATIENCE_ELEMENTS) -> Any:
    """The module of a kernel family: `family`_numba where that is worth it for `elements`, else _numpy."""
    name = f"mpstore.kernels.{family}_{'numba' if worth(elements) else 'numpy'}"
    module = _modules.get(name)
    if module is None:
        module = _modules[name] = importlib.import_module(name)
    return module


def execute() -> Any:
    """The merge executor's kernels."""
    return pick("execute")


def _load() -> bool:
    with _lock:
        if _Choice.numba_there is None:
            try:
                importlib.import_module("numba")
                _Choice.numba_there = True
            except ImportError:
                _Choice.numba_there = False
        return _Choice.numba_there
