"""Pure loops over arrays: compiled C, each family beside the numpy reference that gives the same bits.

Relies on numpy and, where it was built, on the extension of `kernels.native`. Promises: `select` decides for
the whole process which of the two runs, and which one it is never changes a bit.

A kernel family NAME is two modules with the same functions, NAME_numpy and NAME_native; `pick` gives one of
them.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from types import ModuleType
from typing import Any, Final

from mpstore.errors import UsageError
from mpstore.kernels import native

# families whose compiled side is still numba's; going
_PATIENCE_ELEMENTS: Final = 1_500_000
_CALL_ELEMENTS: Final = 2_500

_lock = threading.Lock()
_modules: Final[dict[str, ModuleType]] = {}


class _Choice:
    mode: str = "auto"
    waited_elements: int = 0
    numba_there: bool | None = None


def select(mode: str) -> None:
    """Which kernels run: "native" (or one variant of them, "v1", "v3", "v4"), "numpy", or "auto": compiled
    where they were built. UsageError: no such, or not here."""
    if mode not in ("native", "numpy", "auto", "numba") and mode not in native.variants():
        raise UsageError(f"no kernels called {mode!r} here: {', '.join(modes())}, native or auto")
    if mode == "native" and not native.variants():
        raise UsageError("kernels 'native' asked for, but the extension was not built")
    if native.variants():
        native.use(mode if mode in native.variants() else "")
    _Choice.mode = mode
    _Choice.waited_elements = 0


def modes() -> tuple[str, ...]:
    """What `select` takes here that differs: "numpy", and the compiled variants that this processor runs."""
    return ("numpy", *native.variants())


def compiled() -> bool:
    """Whether compiled kernels run."""
    return _Choice.mode != "numpy" and bool(native.variants())


def worth(elements: int) -> bool:
    if _Choice.mode != "auto":
        return _Choice.mode != "numpy"
    if _Choice.numba_there is not None:
        return _Choice.numba_there
    _Choice.waited_elements += max(elements, _CALL_ELEMENTS)
    return _Choice.waited_elements >= _PATIENCE_ELEMENTS and _load()


def expect(elements: int) -> None:
    worth(elements)


def pick(family: str, elements: int = _PATIENCE_ELEMENTS) -> Any:
    """The module of a kernel family: `family`_native where compiled kernels run, else `family`_numpy."""
    side = "native" if compiled() else "numpy"
    module = _modules.get(family + side)
    if module is None:
        name = f"mpstore.kernels.{family}_{side}"
        if importlib.util.find_spec(name) is None:
            return importlib.import_module(
                f"mpstore.kernels.{family}_{'numba' if worth(elements) else 'numpy'}"
            )
        module = _modules[family + side] = importlib.import_module(name)
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
