"""Where the compiled kernels come from: the best variant of the extension that this processor runs.

Relies on what setup.py built. Promises: imports nothing that the processor cannot run; `library` is the
variant in use, which `use` changes for the whole process.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any, Final

_NEWEST_FIRST: Final = ("v4", "v3", "v1")


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"mpstore.kernels._native_{name}")
    except ImportError:
        return None


@cache
def variants() -> dict[str, Any]:
    """The variants that are installed and that this processor runs, the best first."""
    plain: Any = _import("v1")
    if plain is None:
        return {}
    level = plain.processor_level()
    found = {name: _import(name) for name in _NEWEST_FIRST if int(name[1:]) <= level}
    return {name: module for name, module in found.items() if module is not None}


class _InUse:
    library: Any = None


def use(name: str = "") -> None:
    """Take this variant from now on, "" for the best. KeyError: it is not there."""
    _InUse.library = variants()[name] if name else next(iter(variants().values()))


def library() -> Any:
    """The extension module in use; its functions are the compiled kernels."""
    if _InUse.library is None:
        use()
    return _InUse.library
