"""Executing a merge commit's plan again, without the memo, and comparing what comes out.

Relies on execution, history's words in `Commit.how` and repository. Promises: no ref moves; every selected
block is read and every output block computed anew.
"""

from __future__ import annotations

import time

from mpstore.errors import UsageError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId, short
from mpstore.merge import engine
from mpstore.merge.engine import Replayed
from mpstore.merge.execute import execution
from mpstore.merge.execute.limits import Limits
from mpstore.merge.plan_check import check_inputs
from mpstore.repository import Repo


def replay(
    repo: Repo, commit_id: ObjectId, *, limits: Limits | None = None, progress: Progress = silent
) -> Replayed:
    """Run the plan of a merge commit. UsageError: the commit is no merge."""
    started = time.monotonic()
    commit = repo.commit(commit_id)
    named = commit.how.get("plan")
    if commit.how.get("verb") != "merge" or not isinstance(named, str):
        raise UsageError(f"{short(commit_id)} is no merge: there is no plan to replay")
    plan_id = bytes.fromhex(named)
    plan = repo.plan(plan_id)
    check_inputs(repo, plan)
    with repo.objects.writer(f"replay {short(commit_id)}") as writer:
        done = execution.execute(
            repo,
            writer,
            plan,
            limits=limits,
            use_memo=False,
            card=engine.card(repo, plan),
            progress=progress,
        )
    seconds = round(time.monotonic() - started, 3)
    return Replayed(plan_id, commit.manifest, done.manifest_id, seconds)
