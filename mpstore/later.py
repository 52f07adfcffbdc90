"""Names of a package that come from its rooms when somebody first asks for them (PEP 562).

Relies on nothing. Promises: `from package import name`, `import *` and `dir()` do what they would do had the
package imported all of it; a room that nobody asks for is not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names(
    package: str, rooms: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of `package`; `rooms`: the names that each module has for it.

    No name may be that of one of the package's modules: importing the module would put it in its place.
    """
    places = {name: room for room, listed in rooms.items() for name in listed}
    own = sys.modules[package].__dict__

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = own[name] = getattr(import_module(places[name]), name)
        return value

    def listed() -> list[str]:
        return sorted({*own, *places})

    return get, listed
