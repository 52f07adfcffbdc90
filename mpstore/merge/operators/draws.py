"""The key of a random mask: what a draw depends on beside the element's offset.

Relies on blake3. Promises: (seed, tensor, expert's manifest id) -> 64 bits, the same on any machine.
"""

from __future__ import annotations

from blake3 import blake3

from mpstore.merge.operators.protocol import ExpertContext, TensorContext

_CONTEXT = "mpstore 2026-11-22 random mask"


def mask_key(context: TensorContext, expert: ExpertContext) -> int:
    """The generator's key for one expert of one tensor."""
    name = context.name.encode()
    head = (context.seed % (1 << 64)).to_bytes(8, "little") + len(name).to_bytes(8, "little")
    digest = blake3(head + name + expert.key, derive_key_context=_CONTEXT).digest(length=8)
    return int.from_bytes(digest, "little")
