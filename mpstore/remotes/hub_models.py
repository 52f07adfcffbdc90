"""A merge's models that are named hf://…: what the store has of them, their headers, and all of it on demand.

Relies on known, headers, partial and pull. Promises: planning transfers headers alone; a model is looked up
once a merge, so that a branch that moves meanwhile changes nothing; what was fetched is kept on the branch
hub/ORG/NAME, where the next merge finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from mpstore.checkpoint_dir import SUFFIX
from mpstore.errors import NotFoundError, RemoteError
from mpstore.events import Progress, silent
from mpstore.ids import ObjectId
from mpstore.merge.gather import Source
from mpstore.merge.gather_adapter import CONFIG_FILE
from mpstore.merge.stored_header import lacking_tensors
from mpstore.records.model import Plan, PlanExpert
from mpstore.remotes import known
from mpstore.remotes.address import Address, is_address, parse
from mpstore.remotes.headers import HeaderFetch, branch_of
from mpstore.remotes.hub import Hub
from mpstore.remotes.listing import HubFile, HubModel
from mpstore.remotes.network import Traffic
from mpstore.remotes.origin import Origin, origin_of
from mpstore.remotes.partial import Supplied, supplied
from mpstore.remotes.pull import pull
from mpstore.remotes.pull_plan import chosen
from mpstore.repository import Repo


class HubModels:
    """The models of one merge: fits `merge.models.ModelResolver`. `received_bytes`: what came so far."""

    def __init__(
        self,
        repo: Repo,
        hub: Hub,
        author: str = "",
        progress: Progress = silent,
        threads: int | None = None,
    ) -> None:
        self._repo = repo
        self._hub = hub
        self._author = author
        self._progress = progress
        self._threads = threads
        self._traffic = Traffic()
        self._models: dict[Address, HubModel] = {}
        self._whole: dict[Address, ObjectId] = {}

    @property
    def received_bytes(self) -> int:
        return self._traffic.received_bytes

    def find(self, name: str, whole: bool) -> Source | None:
        """The model's commit: a complete one where the store has it, else what was fetched of it so far."""
        if not is_address(name):
            return None
        address = parse(name)
        if address in self._whole:
            return Source(name, self._whole[address])
        if self._hub.offline:
            return self._offline(name, address, whole)
        model = self._model(address)
        files = _needed(model) if whole else _weights(model)
        commit = known.complete(self._repo, address.repo_id, files)
        if commit is not None:
            return Source(name, commit)
        commit = self._partial(model) or HeaderFetch(self._repo, self._hub, model, self._traffic).commit(
            self._author
        )
        return Source(name, commit, network_bytes(self._repo, commit), whole=not whole)

    def fetch(self, source: Source) -> Source | None:
        """The model with every file that a merge could want."""
        if not is_address(source.name):
            return None
        address = parse(source.name)
        return Source(source.name, self._pulled(address, self._model(address)))

    # A plan that was made from headers

    def completed(self, plan: Plan) -> Plan:
        """The plan with a base (of a stack: with all models) that is in the store; it was planned as it is on
        the Hub, so its bytes and its selection stay as they are."""
        base = self._completed(plan.base_commit)
        plan = replace(plan, base_commit=base, base_manifest=self._repo.commit(base).manifest)
        return replace(plan, experts=tuple(map(self._stacked, plan.experts))) if plan.outputs else plan

    def _stacked(self, expert: PlanExpert) -> PlanExpert:
        commit = self._completed(expert.commit)
        return replace(expert, commit=commit, manifest=self._repo.commit(commit).manifest)

    def _completed(self, commit_id: ObjectId) -> ObjectId:
        if not self._repo.manifest(self._repo.commit(commit_id).manifest).partial:
            return commit_id
        origin = self._origin(commit_id)
        pinned = Address(origin.repo_id, origin.commit)
        if pinned in self._whole:
            return self._whole[pinned]
        model = self._model(pinned)
        commit = known.complete(self._repo, origin.repo_id, _needed(model))
        return self._pulled(pinned, replace(model, address=origin.address)) if commit is None else commit

    def supply(self, plan: Plan) -> Plan:
        """Fetch what the plan selected of experts that are not here; the plan that reads it here."""
        experts = tuple(self._supplied(plan, expert) for expert in plan.experts)
        return plan if experts == plan.experts else replace(plan, experts=experts)

    def _supplied(self, plan: Plan, expert: PlanExpert) -> PlanExpert:
        if not self._repo.manifest(expert.manifest).partial:
            return expert
        origin = self._origin(expert.commit)

        def model() -> HubModel:
            return self._model(Address(origin.repo_id, origin.commit))

        words = Supplied(self._repo, self._hub, model, origin, self._author)
        return supplied(words, plan, expert, self._traffic, self._progress)

    # What the network is asked

    def _model(self, address: Address) -> HubModel:
        if address not in self._models:
            model = self._hub.resolve(address)
            self._models[address] = model
            self._models.setdefault(Address(address.repo_id, model.commit), model)
        return self._models[address]

    def _pulled(self, address: Address, model: HubModel) -> ObjectId:
        done = pull(
            self._repo,
            self._hub,
            model.address,
            branch_of(address),
            model=model,
            search=False,
            exclude=_left_out(model),
            message=f"pull {model.address} for a merge",
            author=self._author,
            progress=self._progress,
            threads=self._threads,
        )
        self._traffic.add(done.received_bytes)
        self._whole[address] = done.commit
        return done.commit

    # What the store knows

    def _partial(self, model: HubModel) -> ObjectId | None:
        """What earlier merges fetched of this very commit."""
        for commit_id, commit in known.pulled(self._repo, model.address.repo_id):
            origin = origin_of(commit)
            if origin is not None and origin.partial and origin.commit == model.commit:
                return commit_id
        return None

    def _offline(self, name: str, address: Address, whole: bool) -> Source:
        commit = known.at_origin(self._repo, address)
        if commit is None:
            raise RemoteError(
                f"{address} is not in the store, and HF_HUB_OFFLINE is set", hint="unset HF_HUB_OFFLINE"
            )
        lacking = network_bytes(self._repo, commit)
        return Source(name, commit, lacking, whole=not (whole and lacking))

    def _origin(self, commit_id: ObjectId) -> Origin:
        origin = origin_of(self._repo.commit(commit_id))
        if origin is None:
            raise NotFoundError("tensors of a model were never fetched, nor is it said whence")
        return origin


def network_bytes(repo: Repo, commit: ObjectId) -> dict[str, int]:
    """Of every tensor of a commit that is not in the store, the bytes that fetching it transfers."""
    manifest = repo.manifest(repo.commit(commit).manifest)
    return {key: tensor.data_bytes for key, tensor in lacking_tensors(repo, manifest).items()}


def _weights(model: HubModel) -> list[HubFile]:
    """What an expert is made of."""
    return [file for file in model.files if file.path.endswith(SUFFIX) or file.path == CONFIG_FILE]


def _needed(model: HubModel) -> list[HubFile]:
    """What a base is made of: all but the same weights in other formats."""
    return chosen(model.files, (), _left_out(model))


def _left_out(model: HubModel) -> tuple[str, ...]:
    return tuple(_fitting(model))


def _fitting(model: HubModel) -> Iterator[str]:
    for glob in known.OTHER_WEIGHTS:
        if any(fnmatchcase(file.path, glob) for file in model.files):
            yield glob
