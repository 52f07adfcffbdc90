"""Pure loops over arrays: compiled C, each family beside the numpy reference that gives the same bits.

Relies on numpy and, where it was built, on the extension of `kernels.native`. Promises: `select` decides for
the whole process which of the two runs, and which one it is never changes a bit.

A kernel family NAME is two modules with the same functions, NAME_numpy and NAME_native; `pick` gives one of
them.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Final

from mpstore.errors import UsageError
from mpstore.kernels import native

_modules: Final[dict[str, ModuleType]] = {}


class _Choice:
    compiled: bool | None = None  # None: nobody has asked yet


def select(mode: str) -> None:
    """Which kernels run: "native" (or one variant of them, "v1", "v3", "v4"), "numpy", or "auto": compiled
    where they were built. UsageError: no such, or not here."""
    variants = native.variants()
    if mode not in ("auto", "native", "numpy", *variants):
        raise UsageError(f"no kernels called {mode!r} here: {', '.join(modes())}, native or auto")
    if mode == "native" and not variants:
        raise UsageError("kernels 'native' asked for, but the extension was not built")
    if variants:
        native.use(mode if mode in variants else "")
    _Choice.compiled = mode != "numpy" and bool(variants)


def modes() -> tuple[str, ...]:
    """What `select` takes here that differs: "numpy", and the compiled variants that this processor runs."""
    return ("numpy", *native.variants())


def compiled() -> bool:
    """Whether compiled kernels run."""
    if _Choice.compiled is None:
        select("auto")
    return bool(_Choice.compiled)


def pick(family: str) -> Any:
    """The module of a kernel family: `family`_native where compiled kernels run, else `family`_numpy."""
    name = f"mpstore.kernels.{family}_{'native' if compiled() else 'numpy'}"
    module = _modules.get(name)
    if module is None:
        module = _modules[name] = importlib.import_module(name)
    return module
