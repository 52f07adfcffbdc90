"""What recipes carry and no result depends on: options that say how mergekit runs.

Relies on recipe_draft and the operators' records. Promises: they are left out and a note says so, with the
line; whatever could change a result stays for others to know or to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from mpstore.errors import RecipeError
from mpstore.merge.operators.protocol import Operator
from mpstore.merge.recipe_draft import Draft, Given, where

# fmt: off
IDLE: Final[frozenset[str]] = frozenset(
    (
        "async_write", "clone_tensors", "cuda", "device", "gpu_rich", "int8_mask", "lazy_unpickle",
        "lora_merge_cache", "low_cpu_memory", "multi_gpu", "num_threads", "out_shard_size",
        "quiet", "read_to_gpu", "safe_serialization", "transformers_cache", "trust_remote_code",
        "verbosity", "write_model_card", "write_threads",
    )
)
# fmt: on
"""Options of mergekit's command, found in recipes: how fast, in how much memory, with how many words."""
SEED: Final = "random_seed"


NAMES: Final = ("name", "out_path")
TOP_LEVEL: Final = frozenset({*IDLE, SEED, *NAMES})
"""Those that stand in the recipe itself, too."""


def without_idle(op: Operator, draft: Draft) -> Draft:
    """The draft without the options that have no effect with this operator, and a note for each."""
    found: list[tuple[int, str]] = []

    def kept(given: Mapping[str, Given], of_one: bool = False) -> dict[str, Given]:
        def is_idle(key: str) -> bool:  # none of them is a parameter of one model with any operator
            return key in TOP_LEVEL and (of_one or op.parameter(key) is None)

        idle = {key: one for key, one in given.items() if is_idle(key)}
        found.extend((one.line or 0, _note(op, key, one)) for key, one in idle.items())
        return {key: one for key, one in given.items() if key not in idle}

    kept(draft.idle)
    left = replace(
        draft,
        models=tuple(replace(one, params=kept(one.params, True)) for one in draft.models),
        slices=tuple(
            replace(
                one,
                sources=tuple(replace(source, params=kept(source.params, True)) for source in one.sources),
                params=kept(one.params),
            )
            for one in draft.slices
        ),
        params=kept(draft.params),
        idle={},
    )
    return replace(left, notes=(*draft.notes, *(note for _, note in sorted(found))))


def _note(op: Operator, key: str, given: Given) -> str:
    """The remark about one of them. RecipeError: a seed where there are random masks."""
    at = where(given.line)
    if key == SEED and op.random:
        raise RecipeError(
            f"{at}the seed of {op.name}'s random masks is not part of a recipe",
            hint=f"leave {SEED} out, and say --seed {given.value}",
        )
    if key in NAMES:
        return f"{at}{key} has no effect: --branch names what comes of a merge"
    return f"{at}{key} has no effect here: it says how mergekit runs"
