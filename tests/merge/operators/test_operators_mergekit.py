"""Our operators and settings beside mergekit 0.1.5's, float32, odd shapes: equal but for the last bits.

Skipped where no Python with mergekit is at hand: MERGEKIT_PYTHON, or /opt/mergekit-venv.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from operator_harness import drive, family

from mpstore.merge.operators.parameters import WEIGHT
from mpstore.merge.recipe_settings import evaluate, parse

PYTHON = Path(os.environ.get("MERGEKIT_PYTHON", "/opt/mergekit-venv/bin/python"))
HERE = Path(__file__).parent
SHAPES = ((7, 61), (389,), (1, 1), (3, 5, 11), (257, 129))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"mergekit is not installed for {PYTHON}"),
]

# operator, per-model parameters, global parameters, with a base
CASES = [
    ("linear", {"weight": [0.3, 0.9, 0.5]}, {}, False),
    ("linear", {"weight": [0.3, 0.9, 0.5]}, {"normalize": False}, False),
    ("task_arithmetic", {"weight": [0.3, 0.9, -0.5]}, {}, True),
    ("task_arithmetic", {"weight": [0.3, 0.9]}, {"normalize": True, "lambda": 0.7}, True),
    ("ties", {"weight": [1, 0.5, 0.7], "density": [0.2, 0.2, 0.2]}, {}, True),
    ("ties", {"weight": [1, 0.5], "density": [0.37, 0.5]}, {"normalize": False, "lambda": 1.3}, True),
    ("ties", {"weight": [1, 0.5, 0.7], "density": [0.2, 0.2, 0.2]}, {"rescale": True}, True),
    ("dare_linear", {"weight": [1, 0.5], "density": [1.0, 1.0]}, {}, True),
    ("dare_ties", {"weight": [1, 0.5, 0.3], "density": [1.0, 1.0, 1.0]}, {}, True),
    ("breadcrumbs", {"weight": [1, 0.5], "density": [0.4, 0.9], "gamma": [0.01, 0.2]}, {}, True),
    (
        "breadcrumbs",
        {"weight": [1, 0.5], "density": [0.4, 0.5], "gamma": [0.0, 0.05]},
        {"rescale": True},
        True,
    ),
    ("breadcrumbs_ties", {"weight": [1, 0.5, 0.3], "density": [0.4, 0.5, 0.9]}, {}, True),
    ("della", {"weight": [1, 0.5, 0.3], "density": [1.0, 1.0, 1.0]}, {}, True),
    ("slerp", {"": [0]}, {"t": 0.3}, True),
    ("nuslerp", {"weight": [0.3, 0.9]}, {}, True),
    ("nuslerp", {"weight": [0.3, 0.9]}, {"nuslerp_flatten": False}, True),
    ("nuslerp", {"weight": [0.3, 0.9]}, {"nuslerp_flatten": False, "nuslerp_row_wise": True}, True),
    ("nuslerp", {"weight": [0.3, 0.9]}, {}, False),
    ("multislerp", {"weight": [0.3, 0.9, 0.4]}, {}, True),
    ("multislerp", {"weight": [0.3, 0.9, 0.4]}, {}, False),
    ("karcher", {"": [0, 0, 0]}, {}, False),
    ("model_stock", {"": [0, 0, 0]}, {}, True),
    ("model_stock", {"": [0, 0]}, {"filter_wise": True}, True),
    ("sce", {"": [0, 0, 0]}, {"select_topk": 0.3}, True),
    ("sce", {"": [0, 0]}, {}, True),
    ("nearswap", {"": [0]}, {"t": 1e-3}, True),
    ("passthrough", {"scale": [0.7]}, {}, False),
]


def _theirs(cases, arrays, tmp_path):
    np.savez(tmp_path / "in.npz", **arrays)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    words = [PYTHON, HERE / "mergekit_side.py", *(tmp_path / n for n in ("in.npz", "cases.json", "out.npz"))]
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    merged = np.load(tmp_path / "out.npz")
    return [merged[str(i)] for i in range(len(cases))]


def _ours(operator, own, shared, with_base, base, models):
    shared = {k: "true" if k == "rescale" else v for k, v in shared.items()}
    if operator == "passthrough":  # one model is its own base
        return drive(operator, models[0], [], [], {"scale": own["scale"][0]})
    if not with_base and operator in ("nuslerp", "multislerp"):
        shared["vectors"] = "weights"
    per_model = [{k: v[i] for k, v in own.items() if k} for i in range(len(models))]
    return drive(operator, base if with_base else models[0], models, per_model, shared)


@pytest.mark.parametrize("spread", [0.1, 2e-3])
def test_operators_agree_with_mergekit(spread, tmp_path):
    arrays, cases, ours = {}, [], []
    for operator, own, shared, with_base in CASES:
        count = len(next(iter(own.values())))
        for shape in SHAPES:
            base, models = family(shape, count, seed=len(cases), spread=spread)
            names = [f"{len(cases)}-{i}" for i in range(count)]
            arrays |= dict(zip(names, models, strict=True)) | {f"{len(cases)}-b": base}
            params = {k: v for k, v in own.items() if k} | shared
            root = f"{len(cases)}-b" if with_base else None
            cases.append({"operator": operator, "base": root, "models": names, "params": params})
            ours.append(_ours(operator, own, shared, with_base, base, models))
    for case, mine, theirs in zip(cases, ours, _theirs(cases, arrays, tmp_path), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6, err_msg=str(case))
        # These do the same float32 operations in the same order, up to the order of experts.
        if case["operator"] in ("task_arithmetic", "ties", "breadcrumbs") and len(case["models"]) == 2:
            same = mine.view(np.uint32) == theirs.view(np.uint32)
            assert same.all() or case["params"].get("rescale"), case


def test_settings_mean_what_they_mean_to_mergekit():
    settings = [
        0.4,
        [0.0, 1.0],
        [0, 0.5, 0.3, 0.7, 1],
        [2.0],
        [{"filter": "mlp", "value": [1, 0]}, {"filter": "*", "value": 0.25}],
        [{"filter": "q_proj", "value": 3}, {"value": [0.1, 0.2, 0.9]}],
        {"filter": "mlp", "value": 0.1},
    ]
    names = ("model.layers.3.mlp.up_proj.weight", "model.layers.3.self_attn.q_proj.weight", "lm_head.weight")
    depths = [0, 1, *(i / 11 for i in range(12)), *(i / 31 for i in range(32))]
    asked = [[setting, name, t] for setting in settings for name in names for t in depths]
    run = subprocess.run(
        [str(PYTHON), str(HERE / "mergekit_settings.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [evaluate(parse(WEIGHT, setting, ""), name, t) for setting, name, t in asked]
    assert ours == json.loads(run.stdout)
