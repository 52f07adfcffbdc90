"""The Python interface: everything the command line does, importable and typed.

Relies on the rooms below; those that a call needs are imported by the call. Promises: the names below are
public; errors are `mpstore.errors`; nothing here prints, reads the environment or exits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpstore import later

if TYPE_CHECKING:
    from mpstore.api.measuring import Analyzed
    from mpstore.api.planned import CurvePoint, PlanResult
    from mpstore.api.repository import Repository
    from mpstore.api.standing import FileStatus, Status
    from mpstore.api.values import Listing, MergeWords, NamedCommit, TensorInfo
    from mpstore.diff import Diff, FileDiff, TensorDiff, TensorShape
    from mpstore.explain import ExpertReach, Explanation, Reach, TensorReach
    from mpstore.export import CheckoutResult
    from mpstore.fsck import Damage, FsckReport
    from mpstore.gc import GcReport
    from mpstore.history import CommitDetail, CommitInfo, PlanSummary, lineage_dot
    from mpstore.ingest import AddResult
    from mpstore.merge.engine import Replayed
    from mpstore.merge.results import MergeResult
    from mpstore.records.model import CommitKind
    from mpstore.records.reflog import LogEntry
    from mpstore.usage import Usage

__all__ = [
    "AddResult",
    "Analyzed",
    "CheckoutResult",
    "CommitDetail",
    "CommitInfo",
    "CommitKind",
    "CurvePoint",
    "Damage",
    "Diff",
    "ExpertReach",
    "Explanation",
    "FileDiff",
    "FileStatus",
    "FsckReport",
    "GcReport",
    "Listing",
    "LogEntry",
    "MergeResult",
    "MergeWords",
    "NamedCommit",
    "PlanResult",
    "PlanSummary",
    "Reach",
    "Replayed",
    "Repository",
    "Status",
    "TensorDiff",
    "TensorInfo",
    "TensorReach",
    "TensorShape",
    "Usage",
    "lineage_dot",
]

__getattr__, __dir__ = later.names(
    __name__,
    {
        "mpstore.api.measuring": ("Analyzed",),
        "mpstore.api.planned": ("CurvePoint", "PlanResult"),
        "mpstore.api.repository": ("Repository",),
        "mpstore.api.standing": ("FileStatus", "Status"),
        "mpstore.api.values": ("Listing", "MergeWords", "NamedCommit", "TensorInfo"),
        "mpstore.diff": ("Diff", "FileDiff", "TensorDiff", "TensorShape"),
        "mpstore.explain": ("ExpertReach", "Explanation", "Reach", "TensorReach"),
        "mpstore.export": ("CheckoutResult",),
        "mpstore.fsck": ("Damage", "FsckReport"),
        "mpstore.gc": ("GcReport",),
        "mpstore.history": ("CommitDetail", "CommitInfo", "PlanSummary", "lineage_dot"),
        "mpstore.ingest": ("AddResult",),
        "mpstore.merge.engine": ("Replayed",),
        "mpstore.merge.results": ("MergeResult",),
        "mpstore.records.model": ("CommitKind",),
        "mpstore.records.reflog": ("LogEntry",),
        "mpstore.usage": ("Usage",),
    },
)
