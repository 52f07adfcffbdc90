"""The parameters that several operators share, said once.

Relies on the protocol. Promises: names and defaults are mergekit's, so that its recipes mean the same here.
"""

from __future__ import annotations

from mpstore.merge.operators.protocol import Parameter

WEIGHT = Parameter("weight", "model", "number", 1.0, "w: factor of the expert's delta", required=True)
DENSITY = Parameter(
    "density", "model", "number", 1.0, "ρ: share of the delta's elements kept", 0.0, 1.0, open_ends=("low",)
)
GAMMA = Parameter("gamma", "model", "number", 0.01, "γ: share of the largest |δ| dropped", 0.0, 1.0)
EPSILON = Parameter(
    "epsilon", "model", "number", 0.15, "ε: the keep probability runs from ρ − ε to ρ + ε", 0.0, 1.0
)
LAMBDA = Parameter("lambda", "global", "number", 1.0, "λ: factor of the merged delta")
INT8_MASK = Parameter(
    "int8_mask", "global", "flag", False, "accepted from mergekit's recipes, without effect"
)


def normalize(default: bool) -> Parameter:
    """Whether the merged delta is divided by the weights that went into it."""
    return Parameter("normalize", "global", "flag", default, "divide by the sum of the weights that count")


def rescale(default: str, doc: str) -> Parameter:
    """How what was kept is scaled up for what was dropped."""
    return Parameter("rescale", "global", "choice", default, doc, choices=("true", "l1", "false"))
