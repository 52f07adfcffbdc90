"""How a commit is shown: as JSON, in one line, in full.

Relies on quantities. Promises: ids in JSON are whole, ids for people have ten digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mpstore.cli import quantities

if TYPE_CHECKING:
    from mpstore.api import CommitInfo

_ROLES = {"previous": "Previous", "base": "Base", "expert": "Expert"}


def as_json(info: CommitInfo) -> dict[str, Any]:
    """The JSON form of a commit."""
    commit = info.commit
    return {
        "commit": info.id,
        "refs": list(info.refs),
        "manifest": commit.manifest,
        "parents": [{"role": parent.role, "commit": parent.commit} for parent in commit.parents],
        "kind": commit.kind,
        "author": commit.author,
        "time_ns": commit.time_ns,
        "message": commit.message,
        "how": dict(commit.how),
    }


def one_line(info: CommitInfo) -> str:
    """ "3f2a9c81d0 (base, tag: v1) message"."""
    names = f" ({', '.join(map(name_of, info.refs))})" if info.refs else ""
    return f"{info.id.hex()[:10]}{names} {info.commit.message.partition(chr(10))[0]}".rstrip()


def in_full(info: CommitInfo) -> Iterator[str]:
    """The block of lines that `mp log` and `mp show` print."""
    commit = info.commit
    names = f" ({', '.join(map(name_of, info.refs))})" if info.refs else ""
    yield f"commit {info.id.hex()}{names}"
    for parent in commit.parents:
        yield f"{_ROLES.get(parent.role, parent.role) + ':':<10}{parent.commit.hex()[:10]}"
    yield f"Author:   {commit.author}"
    yield f"Date:     {quantities.when(commit.time_ns)}"
    yield f"Made by:  {made_by(info)}"
    if commit.message:
        yield ""
        yield from (f"    {line}" for line in commit.message.splitlines())


def made_by(info: CommitInfo) -> str:
    """ "add (full)", "merge by ties, plan 3f2a9c81d0"."""
    how = info.commit.how
    verb = str(how.get("verb", "?"))
    if verb == "merge":
        return f"merge{_by(str(how.get('recipe', '')))}, plan {str(how.get('plan', ''))[:10]}"
    origin = how.get("origin")
    if origin:
        return f"{verb} of {origin.get('repo')}@{str(origin.get('commit'))[:10]}"
    return f"{verb} ({info.commit.kind})"


def _by(recipe: str) -> str:
    """The operator, from the canonical recipe that a merge commit keeps: it says it first."""
    key, _, operator = recipe.partition("\n")[0].partition(": ")
    return f" by {operator}" if key == "merge_method" else ""


def name_of(ref: str) -> str:
    """ "heads/base" as people write it."""
    kind, _, name = ref.partition("/")
    return {"heads": name, "tags": f"tag: {name}"}.get(kind, ref)
