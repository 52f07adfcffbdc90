"""What each operator is tried with: number of experts, their parameters, global parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dense_reference import REFERENCE
from operator_harness import key

NAME = "model.layers.0.w"
SEED = 7


@dataclass(frozen=True)
class Case:
    operator: str
    experts: tuple[dict[str, Any], ...]
    params: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [f"{k}={v}" for k, v in {**self.experts[0], **self.params}.items()] if self.experts else []
        return "-".join([self.operator, str(len(self.experts)), *words])

    def reference(
        self, base: np.ndarray, models: list[np.ndarray], keys: list[bytes] | None = None
    ) -> np.ndarray:
        """The dense formula in float64."""
        keys = keys or [key(i) for i in range(len(models))]
        experts = [{**e, "key": k} for e, k in zip(self.experts, keys, strict=True)]
        wide = [np.float64(x) for x in models]
        params = {**self.params, "seed": SEED, "name": NAME}
        return REFERENCE[self.operator](np.float64(base), wide, experts, params)


def _weights(*weights: float, **more: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"weight": w, **more} for w in weights)


CASES = (
    Case("linear", _weights(0.3, 0.9, 0.5)),
    Case("linear", _weights(1.5, -0.25)),
    Case("linear", _weights(0.3, 0.9), {"normalize": False}),
    Case("average", ({}, {}, {})),
    Case("task_arithmetic", _weights(0.3, 0.9, -0.5)),
    Case("task_arithmetic", _weights(0.3, 0.9), {"lambda": 0.5, "normalize": True}),
    Case("ties", _weights(1.0, 0.5, 0.7, density=0.2)),
    Case("ties", _weights(1.0, 0.5, density=0.37), {"normalize": False, "lambda": 1.3}),
    Case("ties", _weights(1.0, 0.5, 0.2)),
    Case("ties", _weights(1.0, 0.5, 0.7, density=0.2), {"rescale": "l1"}),
    Case("dare_linear", _weights(1.0, 0.5, density=0.3)),
    Case("dare_linear", _weights(1.0, 0.5, density=0.3), {"rescale": "l1"}),
    Case("dare_linear", _weights(1.0, 0.5, density=0.3), {"rescale": "false", "normalize": True}),
    Case("dare_ties", _weights(1.0, 0.5, 0.8, density=0.5)),
    Case("dare_ties", _weights(1.0, 0.5, density=0.5), {"rescale": "l1"}),
    Case("breadcrumbs", _weights(1.0, 0.5, density=0.4, gamma=0.05)),
    Case("breadcrumbs", _weights(1.0, 0.5, density=0.4, gamma=0.0)),
    Case("breadcrumbs", _weights(1.0, 0.5, density=0.95, gamma=0.2)),
    Case("breadcrumbs_ties", _weights(1.0, 0.5, density=0.4), {"rescale": "true"}),
    Case("breadcrumbs_ties", _weights(1.0, 0.5, 0.8, density=0.4)),
    Case("della_linear", _weights(1.0, 0.5, density=0.5, epsilon=0.2)),
    Case("della_linear", _weights(1.0, 0.5, density=0.5), {"rescale": "l1"}),
    Case("della", _weights(1.0, 0.5, 0.8, density=0.4)),
    Case("slerp", ({},), {"t": 0.3}),
    Case("nuslerp", _weights(0.3, 0.9)),
    Case("nuslerp", _weights(0.3, 0.9), {"vectors": "weights"}),
    Case("nuslerp", _weights(0.3, 0.9), {"nuslerp_flatten": False}),
    Case("nuslerp", _weights(0.3, 0.9), {"nuslerp_flatten": False, "nuslerp_row_wise": True}),
    Case("nuslerp", _weights(0.3, -0.3), {"nuslerp_flatten": False, "vectors": "weights"}),
    Case("multislerp", _weights(0.3, 0.9, 0.4)),
    Case("multislerp", _weights(0.3, 0.9), {"vectors": "weights"}),
    Case("multislerp", _weights(0.3), {"vectors": "weights"}),
    Case("karcher", ({}, {}, {})),
    Case("karcher", ({}, {}), {"max_iter": 3, "tol": 1e-7}),
    Case("model_stock", ({}, {}, {})),
    Case("model_stock", ({}, {}), {"filter_wise": True}),
    Case("sce", ({}, {}, {}), {"select_topk": 0.3}),
    Case("sce", ({}, {})),
    Case("nearswap", ({},), {"t": 0.02}),
    Case("passthrough", ({},), {"scale": 0.7}),
    Case("passthrough", ()),
    Case("tsv", ({}, {}, {})),
    Case("tsv", ({}, {}), {"lambda": 0.4}),
)
