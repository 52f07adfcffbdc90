"""The Python interface: everything the command line does, importable and typed.

Relies on the rooms below; those that a call needs are imported by the call. Promises: the names below are
public; errors are `mpstore.errors`; nothing here prints, reads the environment or exits.
"""

from __future__ import annotations

from mpstore.api.repository import Repository
from mpstore.api.values import Listing, NamedCommit, TensorInfo
from mpstore.diff import Diff, FileDiff, TensorDiff, TensorShape
from mpstore.explain import ExpertReach, Explanation, Reach, TensorReach
from mpstore.fsck import Damage, FsckReport
from mpstore.gc import GcReport
from mpstore.history import CommitDetail, CommitInfo, PlanSummary
from mpstore.records.model import CommitKind

__all__ = [
    "CommitDetail",
    "CommitInfo",
    "CommitKind",
    "Damage",
    "Diff",
    "ExpertReach",
    "Explanation",
    "FileDiff",
    "FsckReport",
    "GcReport",
    "Listing",
    "NamedCommit",
    "PlanSummary",
    "Reach",
    "Repository",
    "TensorDiff",
    "TensorInfo",
    "TensorReach",
    "TensorShape",
]
