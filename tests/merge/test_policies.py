"""How an order of reading is made: in pieces, sorted as numbers, and never another for it."""

from __future__ import annotations

import numpy as np
import pytest
from plan_material import make, random_family

from mpstore.merge import angles, ordering
from mpstore.merge.curve import curve
from mpstore.merge.operators.table import find
from mpstore.merge.plan_inputs import Limits, PlanInputs
from mpstore.merge.planner import plan_with_order
from mpstore.merge.policies import columns, table
from mpstore.merge.problem import build


def inputs_of(seed: int, pairs: bool = False) -> PlanInputs:
    rng = np.random.default_rng(seed)
    base, experts = random_family(rng, 4, "BF16", 0.02, sizes=(700, 64, 1, 330))
    params = [{"weight": float(w)} for w in rng.uniform(-0.5, 1.0, 4)]
    known = [(0, 1), (1, 3)] if pairs else []
    op = find("task_arithmetic")
    return make(
        op, base, experts, params, dtype="BF16", costs=rng, foreign=True, whole=[2], pairs=known
    ).inputs


@pytest.mark.parametrize("policy", sorted(table.POLICIES))
@pytest.mark.parametrize("pairs", [False, True])
def test_the_pieces_in_which_columns_are_walked_do_not_show(
    policy: str, pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for entries in (1, 40, 1 << 14):
        monkeypatch.setattr(columns, "_PIECE_ENTRIES", entries)
        monkeypatch.setattr(ordering, "PIECE_ENTRIES", entries)
        planned = plan_with_order(inputs_of(3, pairs), Limits(policy=policy))
        drawn = curve(planned, 11)
        found.append((planned.ordering.unit, drawn.bound, drawn.expected_error))
    for unit, bound, expected in found[1:]:
        np.testing.assert_array_equal(unit, found[0][0])
        np.testing.assert_allclose(bound, found[0][1], rtol=1e-12)
        np.testing.assert_allclose(expected, found[0][2], rtol=1e-12, atol=1e-15)


def test_cosines_are_the_same_in_whatever_order_products_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix products are of whole numbers: exact, as Python's integers say."""
    problem = build(inputs_of(5))
    seen = []
    whole = angles._whole

    def noted(values: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
        numbers, unit = whole(values, bits)
        seen.append((numbers, bits))
        return numbers, unit

    monkeypatch.setattr(angles, "_whole", noted)
    assert np.isfinite(problem.cosines).all()
    assert seen
    for numbers, bits in seen:
        assert (numbers == np.rint(numbers)).all()
        assert (np.abs(numbers) <= 2.0**bits).all()


def test_the_heaviest_blocks_of_a_large_tensor_say_how_its_experts_overlap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(8)
    base = {"w": rng.standard_normal(64 * 300).astype(np.float32)}
    step, other = (rng.standard_normal(64 * 300).astype(np.float32) * 0.01 for _ in range(2))
    experts = [{"w": base["w"] + d} for d in (step, step + other)]
    problem = build(make(find("linear"), base, experts, [{"weight": 1.0}] * 2).inputs)
    few = angles.cosines(problem.grid, problem.error, problem.sign, problem.sketches)[0, 0, 1]
    monkeypatch.setattr(angles, "_MOST_BLOCKS", 1000)
    all_of_them = angles.cosines(problem.grid, problem.error, problem.sign, problem.sketches)[0, 0, 1]
    assert few == pytest.approx(0.5**0.5, abs=0.05)
    assert few == pytest.approx(all_of_them, abs=0.05)
