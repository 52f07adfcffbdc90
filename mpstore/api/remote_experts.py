"""A merge's experts that are on the Hub: the client is imported when the first of them is named.

Relies on remotes. Promises: a merge without hf:// never touches the network, nor imports its client.
"""

from __future__ import annotations

from collections.abc import Callable

from mpstore.events import Progress
from mpstore.merge.gather import Source
from mpstore.merge.models import ModelResolver
from mpstore.records.model import Plan
from mpstore.remotes.address import is_address
from mpstore.repository import Repo


def resolver(repo: Repo, progress: Progress) -> ModelResolver:
    """Knows hf://ORG/NAME[@REV]."""

    def resolve(name: str) -> Source | None:
        if not is_address(name):
            return None
        from mpstore.remotes.hub import Hub
        from mpstore.remotes.partial import HubModels

        return HubModels(repo, Hub(), progress=progress).resolve(name)

    return resolve


def supplier(repo: Repo, author: str, progress: Progress) -> Callable[[Plan], Plan]:
    """Brings what a plan selected of experts that are only partly here."""

    def supply(plan: Plan) -> Plan:
        if not any(repo.manifest(expert.manifest).partial for expert in plan.experts):
            return plan
        from mpstore.remotes.hub import Hub
        from mpstore.remotes.partial import HubModels

        return HubModels(repo, Hub(), author, progress).supply(plan)

    return supply
