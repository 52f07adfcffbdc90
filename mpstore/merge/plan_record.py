"""A selection as the record that is stored: costs, bound, packed bits, how facts are found.

Relies on numpy, problem and records. Promises: pure; the figures are those of the selection, whoever made it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpstore.merge.plan_inputs import Flags, Integers, Limits, PlanInputs
from mpstore.merge.problem import Problem
from mpstore.records.model import Plan, PlanExpert


def record(
    inputs: PlanInputs, limits: Limits, policy: str, problem: Problem, selected: Flags, binding: str
) -> Plan:
    """The plan that reads `selected` (K, N), in the problem's row order."""
    costs = _expert_costs(problem, selected)
    full = int(_expert_costs(problem, problem.candidate).sum())
    omitted = int((problem.candidate & ~selected).sum())
    bound = problem.certificate.bound(selected)
    return Plan(
        operator=inputs.operator,
        base_commit=inputs.base_commit,
        base_manifest=inputs.base_manifest,
        experts=_experts(inputs, problem, selected, costs),
        params=inputs.params,
        tensor_params=inputs.tensor_params,
        outputs=inputs.outputs,
        out_dtype=inputs.out_dtype,
        seed=inputs.seed,
        policy=policy,
        budget_bytes=limits.budget_bytes,
        max_error=limits.max_error,
        cost_bytes=int(costs.sum()),
        base_cost_bytes=_base_cost(inputs, problem, selected),
        full_raw_bytes=sum(expert.raw_bytes for expert in inputs.experts),
        full_stored_bytes=full,
        omitted_blocks=omitted,
        bound=bound,
        relative_bound=problem.certificate.relative(bound),
        bound_kind="certificate" if inputs.additive else "estimate",
        exact=omitted == 0,
        binding=binding,
        facts=_facts(inputs, problem, selected),
        fallbacks=_fallbacks(inputs),
        recipe=inputs.recipe,
        base_model=inputs.base_model,
    )


def _experts(
    inputs: PlanInputs, problem: Problem, selected: Flags, costs: Integers
) -> tuple[PlanExpert, ...]:
    """What is read of each expert, in the recipe's order."""
    row_of = {expert: row for row, expert in enumerate(problem.rows)}
    packed = _packed(problem, selected)
    return tuple(
        PlanExpert(
            model=expert.model,
            commit=expert.commit,
            manifest=expert.manifest,
            kind=expert.kind,
            params=expert.params,
            selection=packed[row_of[i]],
            cost_bytes=int(costs[row_of[i]]),
        )
        for i, expert in enumerate(inputs.experts)
    )


def _expert_costs(problem: Problem, selected: Flags) -> Integers:
    """Bytes per row (K,): its frames, and the foreign delta bases that no earlier row has paid for."""
    # Expert by expert: a matrix of all would not stay in the cache.
    rows = zip(selected, problem.frame_bytes, strict=True)
    costs = np.array([np.where(chosen, bytes_, 0).sum() for chosen, bytes_ in rows], np.int64)
    if problem.has_foreign:
        row, block = np.nonzero(selected & (problem.foreign >= 0))
        number = problem.foreign[row, block]
        by = np.lexsort((row, number, block))
        first = np.ones(len(by), bool)
        first[1:] = (np.diff(block[by]) != 0) | (np.diff(number[by]) != 0)
        payer = by[first]
        np.add.at(costs, row[payer], problem.foreign_bytes[row[payer], block[payer]])
    return np.asarray(costs, np.int64)


def _base_cost(inputs: PlanInputs, problem: Problem, selected: Flags) -> int:
    """Bytes read of the base at most: where an expert is read, where the output is not the base's block as
    it stands, and where inner products run over the whole tensor."""
    grid = problem.grid
    touched = selected.any(axis=0)
    busy = np.bincount(problem.tensor, touched, len(grid.keys)) > 0
    wanted = touched | (~grid.keeps_base | (inputs.gram & busy))[problem.tensor]
    return int(grid.base_frame_bytes[wanted].sum())


def _packed(problem: Problem, chosen: Flags) -> list[dict[str, bytes]]:
    """For each row (K, N): tensor key -> one bit a block, for the tensors of which anything is chosen."""
    keys, counts = problem.grid.keys, np.diff(problem.grid.offsets)
    starts = np.concatenate(
        [[0], np.cumsum(-(-counts // 8))]
    )  # of each tensor's bytes: all are packed at once
    flags = np.zeros((len(chosen), 8 * int(starts[-1])), np.bool_)
    flags[
        :, np.arange(problem.grid.blocks) + np.repeat(8 * starts[:-1] - problem.grid.offsets[:-1], counts)
    ] = chosen
    spans = list(zip(keys, starts[:-1].tolist(), starts[1:].tolist(), strict=True))
    rows = [row.tobytes() for row in np.packbits(flags, axis=1)]
    return [{key: row[i:j] for key, i, j in spans if any(row[i:j])} for row in rows]


def _facts(inputs: PlanInputs, problem: Problem, selected: Flags) -> Mapping[str, str]:
    """How thresholds are found, for tensors whose operator asks for any: one word per expert in the recipe's
    order, joined by commas. "exact": all the expert's blocks are read; "edge": some, so the threshold is the
    statistics' bin edge; "none": nothing is read of it, or nothing asked."""
    tensors = len(problem.grid.keys)
    if not any(expert.ranked.any() for expert in inputs.experts):
        return {}
    ranked = np.stack([expert.ranked for expert in inputs.experts])
    words = np.full(ranked.shape, "none", dtype="<U5")
    for row, expert in enumerate(problem.rows):
        read = np.bincount(problem.tensor, selected[row], tensors)
        there = np.bincount(problem.tensor, problem.candidate[row], tensors)
        words[expert] = np.where(read == 0, "none", np.where(read == there, "exact", "edge"))
    words[~ranked] = "none"
    return {problem.grid.keys[t]: ",".join(words[:, t]) for t in np.flatnonzero(ranked.any(axis=0))}


def _fallbacks(inputs: PlanInputs) -> dict[str, str]:
    """ "2 math: tensor" -> why, for every expert that is selected by whole tensors."""
    return {
        f"{number} {expert.model}: {key}": why
        for number, expert in enumerate(inputs.experts)
        for key, why in sorted(expert.fallbacks.items())
    }
