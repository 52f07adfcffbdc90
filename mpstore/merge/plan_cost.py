"""What reading a plan's selection costs as the store is packed now.

Relies on repository and gather_base. Promises: the planner's own rule (each frame once, a foreign delta base
once for each output block that needs it), so that a fresh plan costs what it says.
"""

from __future__ import annotations

import numpy as np

from mpstore.errors import IncompatibleError
from mpstore.ids import ObjectId
from mpstore.merge.gather_base import block_ids, foreign_bases, located
from mpstore.records.model import Plan, TensorRecord
from mpstore.repository import Repo


def selection_cost(repo: Repo, plan: Plan) -> int:
    """Bytes to read for the experts. Tensors that are not in the store (remote ones) count nothing here."""
    base = repo.tensors(repo.manifest(plan.base_manifest))
    paid: set[tuple[str, int, ObjectId]] = set()
    total = 0
    for expert in plan.experts:
        if expert.kind == "lora":
            continue
        records = repo.tensors(repo.manifest(expert.manifest))
        for key, bits in expert.selection.items():
            source = str(plan.outputs[key]["key"]) if plan.outputs else key
            if source in records:
                if not plan.outputs and key not in base:
                    raise IncompatibleError(f"the plan selects {key!r}, which the base has not")
                own = bytes(len(records[source].block_ids)) if plan.outputs else base[key].block_ids
                total += _tensor_cost(repo, key, records[source], own, bits, paid)
    return total


def _tensor_cost(
    repo: Repo,
    key: str,
    record: TensorRecord,
    base_ids: bytes,
    bits: bytes,
    paid: set[tuple[str, int, ObjectId]],
) -> int:
    """Frames of the selected blocks, and the delta bases beside `base_ids` that nobody has paid for yet."""
    flags = np.unpackbits(np.frombuffer(bits, np.uint8), count=record.blocks)
    chosen = np.flatnonzero(flags)
    places = located(repo, block_ids(record.block_ids)[chosen])
    total = int(places.column("frame_bytes").sum(dtype=np.int64))
    leans, ids = foreign_bases(repo, places, block_ids(base_ids)[chosen])
    costs = located(repo, ids).column("frame_bytes")
    for block, leaned, cost in zip(chosen[leans], ids, costs, strict=True):
        place = (key, int(block), leaned.tobytes())
        if place not in paid:
            paid.add(place)
            total += int(cost)
    return total
