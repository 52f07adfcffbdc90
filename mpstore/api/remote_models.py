"""A merge's models that are on the Hub: its client is imported when the first of them is named.

Relies on remotes. Promises: a merge without hf:// never touches the network, nor imports its client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpstore.events import Progress
from mpstore.merge.gather import Source
from mpstore.records.model import Plan
from mpstore.remotes.address import is_address
from mpstore.repository import Repo

if TYPE_CHECKING:
    from mpstore.remotes.hub_models import HubModels


class RemoteModels:
    """Knows hf://ORG/NAME[@REV]: a `merge.models.ModelResolver` and a `merge.engine.Supplier`."""

    def __init__(self, repo: Repo, author: str, progress: Progress, threads: int | None = None) -> None:
        self._repo = repo
        self._author = author
        self._progress = progress
        self._threads = threads
        self._hub_models: HubModels | None = None

    @property
    def received_bytes(self) -> int:
        """What came over the network so far."""
        return 0 if self._hub_models is None else self._hub_models.received_bytes

    def find(self, name: str, whole: bool) -> Source | None:
        return self._models().find(name, whole) if is_address(name) else None

    def fetch(self, source: Source) -> Source | None:
        return self._models().fetch(source) if is_address(source.name) else None

    def completed(self, plan: Plan) -> Plan:
        """A plan whose base is in the store: of one that was made from headers it is fetched."""
        wanted = [plan.base_manifest, *(expert.manifest for expert in plan.experts if plan.outputs)]
        return self._models().completed(plan) if self._lacks(wanted) else plan

    def supply(self, plan: Plan) -> Plan:
        """Brings what a plan selected of experts that are only partly here."""
        lacks = self._lacks([expert.manifest for expert in plan.experts])
        return self._models().supply(plan) if lacks else plan

    def _lacks(self, manifests: list[bytes]) -> bool:
        return any(self._repo.manifest(one).partial for one in manifests)

    def _models(self) -> HubModels:
        if self._hub_models is None:
            from mpstore.remotes.hub import Hub
            from mpstore.remotes.hub_models import HubModels

            self._hub_models = HubModels(
                self._repo, Hub(progress=self._progress), self._author, self._progress, self._threads
            )
        return self._hub_models
