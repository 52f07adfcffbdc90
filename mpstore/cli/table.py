"""The table of verbs: name, module, section of `mp --help`, one line.

Relies on nothing, so that `mp --help` and completion need no other module. Promises: a verb is the
function `command` of its module, imported when it is called. Adding a verb is a file and a line here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Verb:
    """A line of the table; `module` is relative to `mpstore.cli`."""

    name: str
    module: str
    section: str
    summary: str


_START: Final = "Start and fill a repository"
_MERGE: Final = "Merge under a budget"
_HISTORY: Final = "History and content"
_NAMES: Final = "Names"
_CARE: Final = "Care"
_HUB: Final = "The Hub"

VERBS: Final[tuple[Verb, ...]] = (
    Verb("init", "init", _START, "Create a repository"),
    Verb("add", "add", _START, "Store a checkpoint and commit it on a branch"),
    Verb("checkout", "checkout", _START, "Write a revision as a directory, byte for byte"),
    Verb("plan", "plan", _MERGE, "Show what a merge would read, keep and omit"),
    Verb("merge", "merge", _MERGE, "Merge experts into a base, reading no more than a budget"),
    Verb("replay", "replay", _MERGE, "Execute a merge's plan again and compare the result"),
    Verb("analyze", "analyze", _MERGE, "Compute the statistics that plans are made from"),
    Verb("log", "log", _HISTORY, "Show the commits that lead to a revision"),
    Verb("show", "show", _HISTORY, "Show one commit: parents, files, how it was made"),
    Verb("diff", "diff", _HISTORY, "Compare two revisions or directories, tensor by tensor"),
    Verb("status", "status", _HISTORY, "Compare a directory with a revision"),
    Verb("explain", "explain", _HISTORY, "Show which experts reached which tensor of a merge"),
    Verb("ls", "ls", _HISTORY, "List the files and tensors of a revision"),
    Verb("cat", "cat", _HISTORY, "Print a tensor, or save it as .npy"),
    Verb("branch", "branch", _NAMES, "List, create, move or delete branches"),
    Verb("tag", "tag", _NAMES, "List, create or delete tags"),
    Verb("reflog", "reflog", _NAMES, "Show where a branch or tag has pointed"),
    Verb("stats", "stats", _CARE, "Show what the repository holds and what it costs on disk"),
    Verb("fsck", "fsck", _CARE, "Check that nothing is missing or damaged"),
    Verb("gc", "gc", _CARE, "Remove what nothing needs"),
    Verb("hooks", "hooks", _CARE, "List the hooks and which of them are on"),
    Verb("pull", "pull", _HUB, "Fetch a model of the Hub straight into the store"),
    Verb("push", "push", _HUB, "Send a revision to the Hub, streamed from the store"),
    Verb("remote", "remote", _HUB, "List the branches that were pulled, and where from"),
    Verb("serve", "serve", _HUB, "Serve the repository to the Hub's clients, read-only"),
    Verb("completion", "completion", _CARE, "Print a shell completion script"),
)
