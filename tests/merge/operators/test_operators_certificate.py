"""Coefficients really bound what leaving blocks out does to the output, whatever is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_harness import delta_of, drive, make_context

from mpstore.merge.operators.table import OPERATORS

BLOCK = 64
ADDITIVE = sorted(name for name, op in OPERATORS.items() if op.additive)


def _params(op, rng):
    """Random values for a model's parameters and the global ones."""
    own, shared = {}, {}
    for one in op.parameters:
        value = one.default
        if one.name == "weight":
            value = float(rng.uniform(0.1, 2) * rng.choice([1, 1, -1]))
        elif one.name == "density":
            value = float(rng.uniform(0.05, 1))
        elif one.name in ("lambda", "scale"):
            value = float(rng.uniform(-2, 2))
        elif one.name == "t":
            value = float(rng.uniform(0, 0.1))
        elif one.kind == "flag":
            value = bool(rng.integers(2))
        elif one.name == "rescale":
            value = str(rng.choice(["true", "false"]))
        (own if one.scope == "model" else shared)[one.name] = value
    return own, shared


def test_the_additive_operators_are_known():
    assert ADDITIVE == ["average", "dare_linear", "linear", "nearswap", "passthrough", "task_arithmetic"]


@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("name", ADDITIVE)
@given(data=st.data())
def test_invariant_09_the_certificate_bounds_the_error(name, data):
    op = OPERATORS[name]
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    most = op.models[1] or 4
    count = data.draw(st.integers(max(op.models[0], 1), 1 if name == "passthrough" else most))
    size = data.draw(st.integers(1, 5 * BLOCK))
    base = rng.standard_normal(size).astype(np.float32)
    models = [base + rng.standard_normal(size).astype(np.float32) * rng.uniform(0, 0.2) for _ in range(count)]
    pairs = [_params(op, rng) for _ in range(count)]
    own, shared = [pair[0] for pair in pairs], pairs[0][1]
    if name == "linear" and abs(sum(one["weight"] for one in own)) < 0.05:
        shared["normalize"] = False
    full = drive(op, base, models, own, shared)
    blocks = math.ceil(size / BLOCK)
    omitted = rng.random((count, blocks)) < data.draw(st.floats(0, 1))
    reached, per_block = [], np.zeros(blocks)
    context = make_context(op, base.shape, own, shared)
    coefficients = op.coefficients(context)
    for i, model in enumerate(models):
        kept = model.copy()
        for b in np.flatnonzero(omitted[i]):
            window = slice(b * BLOCK, (b + 1) * BLOCK)
            per_block[b] += coefficients[i] * np.linalg.norm(np.float64(delta_of(base, model)[window]))
            kept[window] = base[window]
        reached.append(kept)
    part = drive(op, base, reached, own, shared)
    error = np.linalg.norm(np.float64(part) - np.float64(full))
    rounding = 1e-6 * (np.linalg.norm(full) + np.linalg.norm(base) + 1e-30)
    assert op.is_additive(context)
    assert error <= math.sqrt((per_block**2).sum()) + rounding


def test_l1_rescaling_is_no_certificate():
    op = OPERATORS["dare_linear"]
    context = make_context(op, (8, 8), [{"weight": 1.0, "density": 0.5}], {"rescale": "l1"})
    assert not op.is_additive(context)
