"""Every operator against its formula, whatever the block size, dtype, order and number of its inputs."""

from __future__ import annotations

import numpy as np
import pytest
from dense_reference import REFERENCE
from operator_cases import CASES, NAME, SEED, Case
from operator_harness import BLOCKS, drive, family, key, make_context, same_bits

from mpstore.merge.operators.table import OPERATORS

ON_A_SPHERE = ("slerp", "nuslerp", "multislerp", "karcher", "model_stock")
DRAWN = ("dare_linear", "dare_ties", "della_linear", "della")
SHAPES = ((7, 61), (1, 1), (389,), (3, 5, 11), (64, 16))
NAMES = {"name": NAME, "seed": SEED}
WHOLE = max(BLOCKS)


def merge(case: Case, base, models, **more):
    return drive(case.operator, base, models, case.experts, case.params, **{**NAMES, **more})


def test_every_operator_has_a_reference_and_a_case():
    assert set(OPERATORS) == set(REFERENCE) == {case.operator for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_equals_the_dense_formula(case, dtype):
    for shape in SHAPES:
        base, models = family(shape, len(case.experts), seed=3, dtype=dtype, spread=0.3)
        expected = case.reference(base, models)
        merged = merge(case, base, models)
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(merged, expected, rtol=2e-6, atol=2e-6 * scale, err_msg=str(shape))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_small_deltas_as_fine_tunes_have_them(case):
    base, models = family((31, 47), len(case.experts), spread=2e-3)
    expected = case.reference(base, models)
    np.testing.assert_allclose(merge(case, base, models), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_invariant_08_block_size_does_not_show(case):
    for shape in SHAPES:
        base, models = family(shape, len(case.experts), spread=0.1)
        for model in models:  # whole blocks without a delta, and zeros that could lose their sign
            model.reshape(-1)[64:192] = base.reshape(-1)[64:192]
        base.reshape(-1)[:2] = -0.0
        merged = [merge(case, base, models, block=block) for block in BLOCKS]
        assert all(same_bits(one, merged[0]) for one in merged[1:]), shape


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_given_output_array_changes_nothing(case):
    base, models = family((9, 31), len(case.experts))
    assert same_bits(merge(case, base, models), merge(case, base, models, give_out=False))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_order_of_the_experts_does_not_show(case, dtype):
    for shape in SHAPES:
        base, models = family(shape, len(case.experts), dtype=dtype)
        keys = [key(i) for i in range(len(models))]
        forward = merge(case, base, models, keys=keys)
        turned = Case(case.operator, case.experts[::-1], case.params)
        assert same_bits(forward, merge(turned, base, models[::-1], keys=keys[::-1])), shape


@pytest.mark.parametrize("case", [c for c in CASES if OPERATORS[c.operator].weighs_deltas], ids=str)
@pytest.mark.parametrize("place", [0, -1])
def test_an_expert_of_weight_0_does_not_show(case, place):
    """So a plan need not read it."""
    op = OPERATORS[case.operator]
    weights = [1.0, 0.5, -0.25, 2.0][: len(case.experts)]
    weights[place] = 0.0
    experts = [{**one, "weight": weight} for one, weight in zip(case.experts, weights, strict=True)]
    if len(experts) < 2 or not op.keeps_base(make_context(op, (1,), experts, case.params)):
        pytest.skip("nothing would be left, or the base is rescaled")
    base, models = family((23, 41), len(experts), spread=0.2)
    base.reshape(-1)[:40:2] = -0.0
    still = list(models)
    still[place] = base
    merged = [drive(case.operator, base, one, experts, case.params, **NAMES) for one in (models, still)]
    assert same_bits(*merged)


@pytest.mark.parametrize("case", [c for c in CASES if c.operator not in DRAWN], ids=str)
def test_an_experts_other_tensors_do_not_show(case):
    """Its key changes with any of its tensors; only masks hang on it. So a merge made again after a change
    in one tensor finds the others made."""
    base, models = family((23, 41), len(case.experts))
    some = [merge(case, base, models, keys=[key((n, i)) for i in range(len(models))]) for n in range(4)]
    assert all(same_bits(one, some[0]) for one in some)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_experts(case):
    base, (model,) = family((23, 41), 1, spread=0.2)
    models = [model.copy() for _ in case.experts]
    merged = merge(case, base, models)
    np.testing.assert_allclose(merged, case.reference(base, models), rtol=2e-6, atol=2e-6)
    if case.operator in ("average", "ties", "karcher", "model_stock", "sce", "multislerp"):
        plain = not case.params and all(e.get("density", 1.0) == 1.0 for e in case.experts)
        if plain:  # a mean of equals is one of them
            np.testing.assert_allclose(merged, model, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_experts_equal_to_the_base(case):
    base, _ = family((23, 41), 0)
    models = [base.copy() for _ in case.experts]
    merged = merge(case, base, models)
    np.testing.assert_allclose(merged, case.reference(base, models), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_empty_and_scalar_tensors(case):
    for shape in ((0,), (0, 5), (5, 0), (), (1,)):
        base, models = family(shape, len(case.experts), spread=0.3)
        merged = merge(case, base, models)
        assert merged.shape == shape
        if merged.size:
            expected = case.reference(base, models)
            np.testing.assert_allclose(merged, expected, rtol=2e-6, atol=2e-6, err_msg=str(shape))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_zero_base(case):
    _, models = family((11, 13), len(case.experts))
    base = np.zeros((11, 13), np.float32)
    merged = merge(case, base, models)
    np.testing.assert_allclose(merged, case.reference(base, models), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nan_reaches_the_output_and_block_size_does_not_show(case):
    base, models = family((9, 64), len(case.experts), spread=0.3)
    if not models:
        base[4, 5] = np.nan
    else:
        models[-1][4, 5] = np.nan
    merged = [merge(case, base, models, block=block) for block in BLOCKS]
    assert all(same_bits(one, merged[0]) for one in merged[1:])
    if case.operator not in DRAWN:  # a drawn mask may drop it
        assert np.isnan(merged[0][4, 5])
    if case.operator not in ON_A_SPHERE:  # a norm spreads it
        others = np.delete(merged[0].reshape(-1), 4 * 64 + 5)
        spread = case.operator == "sce" or case.params.get("rescale") in ("l1", "true")
        assert spread or np.isfinite(others).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_infinities_that_base_and_experts_share_stay(case):
    base, models = family((9, 64), len(case.experts), spread=0.3)
    base[2, 3] = -np.inf
    for model in models:
        model[2, 3] = -np.inf
    merged = merge(case, base, models)
    if case.operator not in (*ON_A_SPHERE,):
        assert merged[2, 3] == -np.inf


def test_random_masks_hang_on_seed_tensor_and_manifest():
    base, models = family((40, 50), 2)
    case = next(c for c in CASES if c.operator == "dare_linear")
    plain = merge(case, base, models)
    assert same_bits(plain, merge(case, base, models))
    assert not same_bits(plain, merge(case, base, models, seed=8))
    assert not same_bits(plain, merge(case, base, models, name="model.layers.1.w"))
    assert not same_bits(plain, merge(case, base, models, keys=[key("a"), key("b")]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operator_that_draws_says_so(case):
    """The memo of made blocks leaves seed, tensor and experts out of its key where nothing is drawn."""
    base, models = family((23, 41), len(case.experts))
    keys = [key(f"other {i}") for i in range(len(models))]
    plain = merge(case, base, models)
    other = drive(case.operator, base, models, case.experts, case.params, name="w", seed=8, keys=keys)
    drawn = OPERATORS[case.operator].random
    assert drawn == (case.operator in DRAWN)
    assert drawn or same_bits(plain, other)


@pytest.mark.parametrize("name", DRAWN)
def test_dropping_keeps_the_expected_delta(name):
    base = np.zeros((400, 500), np.float32)
    model = np.ones_like(base)
    merged = drive(name, base, [model], [{"weight": 1.0, "density": 0.3}], {"normalize": False}, **NAMES)
    assert abs(float((merged != 0).mean()) - 0.3) < 0.005
    assert abs(float(merged.mean()) - 1.0) < 0.02


def test_karcher_takes_the_bases_direction_where_all_cancel():
    base, other = np.full((1, 1), 1.5, np.float32), np.full((1, 1), -2.5, np.float32)
    for models in ([base, other], [other, base]):
        assert drive("karcher", base, models)[0, 0] == 2.0


@pytest.mark.parametrize("count", [2, 4])
def test_tsv_takes_no_rounding_for_a_direction(count):
    """Deltas of low rank, as adapters have them: what float32 adds to them moves next to nothing."""
    rng = np.random.default_rng(count)
    base = np.zeros((40, 30), np.float32)
    deltas = [
        (rng.standard_normal((40, 3)) @ rng.standard_normal((3, 30)) * 0.01).astype(np.float32)
        for _ in range(count)
    ]
    noisy = [delta + rng.standard_normal(delta.shape).astype(np.float32) * 1e-9 for delta in deltas]
    case = Case("tsv", ({},) * count)
    found, moved = (merge(case, base, experts) for experts in (deltas, noisy))
    lefts, values, rights = zip(*(np.linalg.svd(np.float64(delta)) for delta in deltas), strict=True)

    def orthogonal(columns):
        left, _, right = np.linalg.svd(np.hstack(columns), full_matrices=False)
        return left @ right

    kept = orthogonal([u[:, :3] for u in lefts]) * np.concatenate([s[:3] for s in values])
    expected = kept @ orthogonal([v[:3].T for v in rights]).T
    size = np.linalg.norm(expected)
    assert np.linalg.norm(found - expected) < 1e-5 * size
    assert np.linalg.norm(moved - found) < 1e-4 * size
