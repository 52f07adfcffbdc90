"""From a plan to the works of its output tensors, one after the other, in file order.

Relies on repository, records and statistics. Promises: reads records and statistics only, no block; selects
exactly what the plan selects; a plan that does not fit the manifests it names is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from mpstore import dtypes
from mpstore.dtypes import Dtype
from mpstore.errors import DamagedError, IncompatibleError
from mpstore.ids import short
from mpstore.merge.execute.adapter import Adapter, FormedProduct
from mpstore.merge.execute.contexts import content_key, tensor_context
from mpstore.merge.execute.work import (
    Expert,
    Flags,
    Rows,
    Stored,
    TensorWork,
    foreign_locations,
    locate,
    selected_blocks,
)
from mpstore.merge.gather_adapter import adapter_targets
from mpstore.merge.operators import table
from mpstore.merge.operators.protocol import Operator, TensorContext
from mpstore.records.model import Manifest, Plan, TensorRecord
from mpstore.repository import Repo
from mpstore.statistics import Bin, DeltaStatistics
from mpstore.store import Locations

LOOKED_UP: Final = 32  # tensors whose blocks are found in one search


@dataclass(frozen=True)
class Model:
    """A model of a plan: its manifest, its tensors by key, and (experts) its statistics, or what an adapter
    has for each of the base's tensors."""

    manifest: Manifest
    tensors: Mapping[str, TensorRecord]
    statistics: DeltaStatistics | None = None
    adapter: Adapter | None = None


class Works:
    """All works of one plan."""

    def __init__(self, repo: Repo, plan: Plan) -> None:
        self._repo = repo
        self.plan = plan
        self._operator: Operator = table.find(plan.operator)
        base = repo.manifest(plan.base_manifest)
        self.base = Model(base, repo.tensors(base))
        self._experts = [self._model(index) for index in range(len(plan.experts))]
        self._places: dict[bytes, Locations] = {}
        self._keys = [
            content_key(model.manifest, expert.manifest)
            for model, expert in zip(self._experts, plan.experts, strict=True)
        ]

    def _model(self, index: int) -> Model:
        expert = self.plan.experts[index]
        manifest = self._repo.manifest(expert.manifest)
        if expert.kind == "lora":
            targets, sources = adapter_targets(self._repo, manifest, self.base.tensors, expert.model)
            return Model(manifest, sources, None, Adapter(sources, targets))
        tensors = self._repo.tensors(manifest)
        known = self._repo.statistics(self.plan.base_manifest, expert.manifest)
        return Model(manifest, tensors, known)

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """Those of the base and of the experts."""
        return (self.base.manifest, *(model.manifest for model in self._experts))

    @cached_property
    def out_dtype(self) -> Dtype | None:
        """The dtype of all float tensors of the output, None: the base's own."""
        if not self.plan.out_dtype:
            return None
        found = dtypes.of(self.plan.out_dtype)
        if found is None or not found.is_float:
            raise IncompatibleError(f"a merge cannot write dtype {self.plan.out_dtype!r}")
        return found

    def __iter__(self) -> Iterator[TensorWork]:
        if self.plan.outputs:
            yield from self._stack()
            return
        keys = [key for entry in self.base.manifest.files for key in entry.tensors]
        models = [self.base, *self._experts]
        for start in range(0, len(keys), LOOKED_UP):
            own = keys[start : start + LOOKED_UP]
            self._look_up([model.tensors[key] for key in own for model in models if key in model.tensors])
            yield from filter(None, map(self._work, own))

    def placed(self, key: str) -> tuple[int, str, TensorRecord]:
        """Where a stack's output tensor comes from: model (0: the base), its key there, and its record."""
        place = self.plan.outputs[key]
        number, source = int(place["model"]), str(place["key"])
        models = [self.base, *self._experts]
        if not 0 <= number < len(models) or source not in models[number].tensors:
            raise DamagedError(
                f"plan: {key!r} comes from tensor {source!r} of model {number}, which is not there"
            )
        return number, source, models[number].tensors[source]

    def _stack(self) -> Iterator[TensorWork]:
        """The output tensors of a stack that are not a source's tensor as it is."""
        for key in sorted(self.plan.outputs):
            number, _, record = self.placed(key)
            dtype = dtypes.of(record.dtype)
            if dtype is None or not dtype.is_float or not record.blocks:
                continue
            context = tensor_context(self.plan, key, record.shape, self._keys)
            out_dtype = self.out_dtype or dtype
            if out_dtype == dtype and self._operator.keeps_base(context):
                continue
            experts = tuple(Expert(one.kind) for one in self.plan.experts)
            everything = np.arange(record.blocks)
            work = self._assemble(key, record, dtype, out_dtype, context, experts, everything, 1)
            yield replace(work, base_purpose="expert" if number else "base")

    def _work(self, key: str) -> TensorWork | None:
        """None where the output tensor is the base's as it is: not computed with, or empty."""
        record = self.base.tensors[key]
        dtype = dtypes.of(record.dtype)
        if dtype is None or not dtype.is_float or not record.blocks:
            return None
        context = tensor_context(self.plan, key, record.shape, self._keys)
        ranked = any(self._operator.ranks(context))
        experts = tuple(self._expert(index, key, record, ranked) for index in range(len(self.plan.experts)))
        out_dtype = self.out_dtype or dtype
        touched = np.zeros(record.blocks, np.bool_)
        for expert in experts:
            if expert.formed is not None:
                touched[:] = True
            elif expert.stored is not None:
                touched[expert.stored.blocks] = True
        everything = out_dtype != dtype or not self._operator.keeps_base(context)
        needed = np.arange(record.blocks) if everything else np.flatnonzero(touched)
        unit = self._operator.unit_elements(context)
        return self._assemble(key, record, dtype, out_dtype, context, experts, needed, unit)

    def _assemble(
        self,
        key: str,
        record: TensorRecord,
        dtype: Dtype,
        out_dtype: Dtype,
        context: TensorContext,
        experts: tuple[Expert, ...],
        needed: Rows,
        unit: int,
    ) -> TensorWork:
        gram = bool(needed.size) and self._operator.needs_gram(context)
        joined = bool(needed.size) and record.block_elements % unit != 0
        seen = np.arange(record.blocks) if gram or joined else needed
        needed = seen if joined else needed
        base = self._located(record, dtype, seen)
        sources = [base, *(expert.stored for expert in experts if expert.stored is not None)]
        foreign, places = foreign_locations(self._repo.objects, sources, record)
        ranks, edges = self._thresholds(key, context, experts)
        return TensorWork(
            key=key,
            shape=record.shape,
            elements=math.prod(record.shape),
            block_elements=record.block_elements,
            operator=self._operator,
            context=context,
            base_record=record,
            base=base,
            out_dtype=out_dtype,
            experts=experts,
            needed=needed,
            seen=seen,
            ranks=ranks,
            edges=edges,
            gram=gram,
            unit=unit,
            foreign=foreign,
            foreign_locations=places,
        )

    def _expert(self, index: int, key: str, base: TensorRecord, ranked: bool) -> Expert:
        """`ranked`: its histogram is asked for, which takes all of the expert's to be unpacked."""
        plan, model = self.plan.experts[index], self._experts[index]
        bits = plan.selection.get(key)
        if model.adapter is not None:
            return self._adapted(model.adapter, key, base, bits)
        record = model.tensors.get(key)
        if record is None:
            return Expert(plan.kind)
        known = model.statistics if ranked else None
        histogram = None if known is None else known.histograms.get(key)
        if not bits:
            return Expert(plan.kind, histogram=histogram)
        return Expert(plan.kind, self._stored(key, record, base, bits), histogram=histogram)

    def _adapted(self, adapter: Adapter, key: str, base: TensorRecord, bits: bytes | None) -> Expert:
        """What an adapter has for a tensor: a product, or the tensor itself in full."""
        target = adapter.targets.get(key)
        if target is None or not bits:
            return Expert("lora")
        if target.kind == "product":
            return Expert("lora", formed=FormedProduct(self._repo, adapter, target))
        return Expert("full", self._stored(key, adapter.tensors[target.sources[0]], base, bits))

    def _stored(self, key: str, record: TensorRecord, base: TensorRecord, bits: bytes) -> Stored:
        dtype = dtypes.of(record.dtype)
        if dtype is None or not dtype.is_float or record.shape != base.shape:
            raise IncompatibleError(
                f"tensor {key!r}: {record.dtype}{list(record.shape)} does not fit the base's"
            )
        if record.block_elements != base.block_elements:
            raise IncompatibleError(
                f"tensor {key!r} is cut into blocks of {record.block_elements} elements, the base's into "
                f"{base.block_elements}",
                hint="add the model again: `mp add` cuts it as the repository does now",
            )
        if len(bits) != -(-base.blocks // 8):
            raise DamagedError(
                f"plan: the selection of {key!r} has {len(bits)} bytes for {base.blocks} blocks"
            )
        flags: Flags = selected_blocks(bits, base.blocks)
        blocks = np.flatnonzero(flags)
        stored = self._located(record, dtype, blocks)
        if not stored.locations.found.all():
            lost = stored.locations.ids[np.flatnonzero(~stored.locations.found)[0]].tobytes()
            self._repo.objects.find(lost)  # looks wherever it could be, and says what is wrong
            stored = locate(self._repo.objects, record, dtype, blocks)
        return stored

    def _look_up(self, records: Sequence[TensorRecord]) -> None:
        """Find all blocks of these records at once: searching the indexes one by one is what takes long."""
        ids = b"".join(record.block_ids for record in records)
        locations = self._repo.objects.locate(ids)
        self._places = {}
        start = 0
        for record in records:
            self._places[record.block_ids] = locations.take(slice(start, start + record.blocks))
            start += record.blocks

    def _located(self, record: TensorRecord, dtype: Dtype, blocks: Rows) -> Stored:
        known = self._places.get(record.block_ids)
        if known is None:
            return locate(self._repo.objects, record, dtype, blocks)
        return Stored(dtype, record, blocks, known if blocks.size == record.blocks else known.take(blocks))

    def _thresholds(
        self, key: str, context: TensorContext, experts: tuple[Expert, ...]
    ) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[float, ...], ...]]:
        """What must be counted, and what the statistics say: where the plan leaves blocks out, or where
        they are exact."""
        asked = self._operator.ranks(context)
        words = self.plan.facts.get(key, "").split(",")
        if len(words) != len(experts):
            words = ["exact"] * len(experts)
        ranks: list[tuple[int, ...]] = []
        edges: list[tuple[float, ...]] = []
        for expert, wanted, word in zip(experts, asked, words, strict=True):
            reads = expert.stored is not None or expert.formed is not None
            bins = [_bin(expert, rank) for rank in wanted]
            known = all(found is not None and found.exact for found in bins)
            counted = reads and (word != "edge" or expert.histogram is None) and not known
            ranks.append(wanted if counted else ())
            edges.append(() if counted else tuple(0.0 if found is None else found.edge for found in bins))
        return tuple(ranks), tuple(edges)


def _bin(expert: Expert, rank: int) -> Bin | None:
    """Where the statistics have the rank; of an expert that is not read here it does not matter."""
    histogram = expert.histogram
    if histogram is None or not 1 <= rank <= histogram.elements:
        return None
    return histogram.bin_of(rank)


def describe(plan: Plan) -> str:
    """A plan in a few words, for messages."""
    return f"{plan.operator} of {len(plan.experts)} experts onto {short(plan.base_manifest)}"
