"""mp: git for model checkpoints, with merges that read only what they must.

Relies on `mpstore.api`, which is imported when a name is first used, so that `import mpstore` and `mp --help`
cost nothing. Promises: the names in `__all__` are the public interface; everything else may change.

    import mpstore

    repository = mpstore.Repository.init("family")
    repository.add("./base", branch="base")
    repository.add("./math", branch="math", base="base")
    merged = repository.merge(base="base", experts=["math"], operator="linear", branch="merged", budget="25%")
    weights = repository.tensors("merged")["model.norm.weight"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpstore import later
from mpstore.errors import (
    AmbiguousError,
    BudgetError,
    ConflictError,
    DamagedError,
    HookError,
    IncompatibleError,
    InterruptedByUser,
    MpError,
    NotFoundError,
    RecipeError,
    RemoteError,
    StorageError,
    UsageError,
)

if TYPE_CHECKING:
    from mpstore.api import Repository

__version__ = "0.1.0"

__all__ = [
    "AmbiguousError",
    "BudgetError",
    "ConflictError",
    "DamagedError",
    "HookError",
    "IncompatibleError",
    "InterruptedByUser",
    "MpError",
    "NotFoundError",
    "RecipeError",
    "RemoteError",
    "Repository",
    "StorageError",
    "UsageError",
    "__version__",
]

__getattr__, __dir__ = later.names(__name__, {"mpstore.api": ("Repository",)})
