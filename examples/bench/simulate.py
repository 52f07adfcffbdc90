"""Made-up statistics of a made-up family, to time and exercise the planner without any weights.

Shapes follow a Llama-like decoder; norms, sizes and sketches are drawn from a seed.
"""

from __future__ import annotations

import numpy as np

from mpstore.merge.plan_inputs import ExpertColumns, Grid, PlanInputs, Sketches

BLOCK = 131072
SKETCH_WIDTH = 32


def decoder_tensors(layers: int, hidden: int, inner: int, vocabulary: int, kv: int) -> dict[str, int]:
    """Tensor name -> elements of a Llama-like decoder."""
    tensors = {"model.embed_tokens.weight": vocabulary * hidden, "lm_head.weight": vocabulary * hidden}
    for i in range(layers):
        prefix = f"model.layers.{i}."
        tensors |= {
            prefix + "self_attn.q_proj.weight": hidden * hidden,
            prefix + "self_attn.k_proj.weight": hidden * kv,
            prefix + "self_attn.v_proj.weight": hidden * kv,
            prefix + "self_attn.o_proj.weight": hidden * hidden,
            prefix + "mlp.gate_proj.weight": hidden * inner,
            prefix + "mlp.up_proj.weight": hidden * inner,
            prefix + "mlp.down_proj.weight": hidden * inner,
            prefix + "input_layernorm.weight": hidden,
            prefix + "post_attention_layernorm.weight": hidden,
        }
    return dict(sorted(tensors.items()))


def grid_of(tensors: dict[str, int], block: int = BLOCK, roundoff: float = 2.0**-8) -> Grid:
    """The block axis of those tensors."""
    counts = [-(-n // block) for n in tensors.values()]
    elements = np.concatenate(
        [np.minimum(block, n - np.arange(c) * block) for n, c in zip(tensors.values(), counts, strict=True)]
    ).astype(np.int64)
    t = len(tensors)
    return Grid(
        keys=tuple(tensors),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        elements=elements,
        base_frame_bytes=(elements * 1.35).astype(np.int64),
        base_sq=elements * 4e-4,
        roundoff=np.full(t, roundoff),
        underflow=np.zeros(t),
        keeps_base=np.ones(t, bool),
    )


def family(
    grid: Grid, experts: int, seed: int = 0, overlap: float = 0.3, foreign: bool = False
) -> PlanInputs:
    """Inputs of a task-arithmetic merge of so many experts; `overlap` is the cosine between their deltas."""
    draw = np.random.default_rng(seed)
    n, t = grid.blocks, len(grid.keys)
    common = draw.standard_normal((n, SKETCH_WIDTH)).astype(np.float32)
    columns = []
    for i in range(experts):
        size = grid.elements * 1e-7 * draw.lognormal(0, 1, n)
        own = draw.standard_normal((n, SKETCH_WIDTH)).astype(np.float32)
        sketch = np.sqrt(overlap) * common + np.sqrt(1 - overlap) * own
        candidate = draw.random(n) > 0.02
        frame = (grid.elements * draw.uniform(0.3, 0.7, n)).astype(np.int64) + 72
        columns.append(
            ExpertColumns(
                model=f"expert{i}",
                commit=bytes([i]) * 32,
                manifest=draw.bytes(32),
                kind="full",
                params={"weight": 1.0},
                raw_bytes=int(grid.elements.sum()) * 2,
                candidate=candidate,
                frame_bytes=np.where(candidate, frame, 0),
                foreign=np.where(candidate & foreign, np.arange(n), -1),
                foreign_bytes=np.where(candidate & foreign, grid.base_frame_bytes, 0),
                delta_sq=size,
                coefficient=np.full(t, 1.0 / experts),
                sign=np.ones(t),
                whole=np.zeros(t, bool),
                ranked=np.zeros(t, bool),
                sketches=Sketches(
                    np.clip(np.rint(sketch * 40), -127, 127).astype(np.int8), np.ones(n, np.float32)
                ),
            )
        )
    return PlanInputs(
        operator="task_arithmetic",
        additive=True,
        base_model="base",
        base_commit=bytes(32),
        base_manifest=bytes(32),
        grid=grid,
        experts=tuple(columns),
        base_scale=np.ones(t),
        gram=np.zeros(t, bool),
        scratch_bytes=np.zeros(t, np.int64),
    )
