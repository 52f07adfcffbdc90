"""Garbage collection: plan, figures, execute. What nothing needs goes; nothing else ever does.

Relies on repository, reachability and store. Promises: safe with any number of writers and readers alive,
and interruptible at any moment (docs/reliability.md says why); a repository too damaged to know what its refs
reach is left alone; time grows with what is reachable plus what is removed.
"""

from mpstore.gc.collection import KEEP_REFLOG_NS, collect
from mpstore.gc.report import GcReport

__all__ = ["KEEP_REFLOG_NS", "GcReport", "collect"]
