"""The merged checkpoint's README.md: a model card in the Hub's form.

Relies on records alone. Promises: a function of the plan, so a replay gives the same file; of an exact merge
it says nothing that depends on how the repository cuts or codes blocks, so the card does not show it either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from mpstore.merge.execute.contexts import content_key
from mpstore.records.model import Commit, Manifest, Plan
from mpstore.repository import Repo

_CONFIG = "config.json"


def render(repo: Repo, plan: Plan) -> str:
    """The card of a plan's output: front matter, what was merged, recipe, lineage, figures."""
    base = repo.commit(plan.base_commit)
    rows = [("base", plan.base_model or "base", base)]
    rows += [("expert", one.model, repo.commit(one.commit)) for one in plan.experts]
    manifests = [repo.manifest(commit.manifest) for _, _, commit in rows]
    lineage = [
        (role, name, commit.kind, content_key(manifest, commit.manifest).hex())
        for (role, name, commit), manifest in zip(rows, manifests, strict=True)
    ]
    parts = [
        "---\n" + _front(plan, [_hub_name(name, commit) for _, name, commit in rows], manifests[0]) + "---",
        f"# {plan.operator} of {_listed([one.model for one in plan.experts])} on {_word(rows[0][1])}",
        "Merged with `mp`, a version store for model checkpoints. `mp log` shows this merge's history, "
        "`mp explain` which expert reached which tensor, and `mp replay` makes it again, bit for bit.",
        f"## Recipe\n\n{_fenced(plan.recipe.strip())}\n\nSeed of random masks: {plan.seed}.",
        "## Lineage\n\n" + _table(("role", "model", "kind", "content (BLAKE3)"), lineage),
        "## Figures\n\n" + _table(("what", "value"), _figures(plan)),
    ]
    return "\n\n".join(parts) + "\n"


def _front(plan: Plan, models: list[str], base: Manifest) -> str:
    """The YAML between the lines of dashes. The Hub reads base_model, library_name and tags."""
    front: dict[str, Any] = {
        "base_model": list(dict.fromkeys(models)),
        "base_model_relation": "merge",
        "library_name": "transformers" if any(one.path == _CONFIG for one in base.files) else "safetensors",
        "tags": ["merge", "mpstore", plan.operator],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1 << 20)


def _hub_name(name: str, commit: Commit) -> str:
    """ORG/NAME of a model that was pulled, else what the user called it."""
    origin = commit.how.get("origin")
    repository = origin.get("repo") if isinstance(origin, dict) else None
    return repository if isinstance(repository, str) and repository else name.removeprefix("hf://")


def _figures(plan: Plan) -> list[tuple[str, str]]:
    """What the merge read and how near it came; bytes only where the budget left something out."""
    found = [("experts", str(len(plan.experts)))]
    if plan.out_dtype:
        found.append(("dtype", plan.out_dtype))
    if plan.exact:
        return [*found, ("read of the experts", "all that differs from the base: the merge is exact")]
    found.append(("read of the experts", f"{plan.cost_bytes:,} of {plan.full_stored_bytes:,} stored bytes"))
    found.append(("blocks left out", f"{plan.omitted_blocks:,} (they count as unchanged from the base)"))
    if not math.isfinite(plan.relative_bound):
        return [*found, ("error that this makes", "unknown: of what was left out nothing is measured")]
    kind = "at most" if plan.bound_kind == "certificate" else "about"
    return [*found, ("error that this makes", f"{kind} {plan.relative_bound:.3g} of the base's norm")]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_word(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _fenced(text: str) -> str:
    """A code block, its fence longer than any run of backticks inside."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    fence = fence if len(fence) > 3 else "```"
    return f"{fence}yaml\n{text}\n{fence}"


def _listed(names: list[str]) -> str:
    words = [_word(name) for name in names] or ["nothing"]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _word(text: str) -> str:
    """A name from outside as one line of Markdown: nothing in it is markup."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    for mark in ("\\", "`", "|", "*", "_", "[", "]", "<", ">"):
        plain = plain.replace(mark, "\\" + mark)
    return plain
