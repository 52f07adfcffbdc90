"""A LoRA adapter as columns: which of the base's tensors it changes, and what reading its pairs costs.

Relies on repository and adapters. Promises: only the configuration is read of the content; a tensor
is taken whole or not at all, its cost being its A's and B's frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mpstore import adapters
from mpstore.adapters import AdapterConfig, Target
from mpstore.errors import IncompatibleError, NotFoundError
from mpstore.merge.gather_base import block_ids, is_merged, located
from mpstore.merge.stored_header import lacking_tensors
from mpstore.records.model import Manifest, TensorRecord
from mpstore.records.unfetched import ANY_BRANCH
from mpstore.repository import Repo

CONFIG_FILE = "adapter_config.json"
WHY = "a LoRA adapter has no statistics, its few bytes are read tensor by tensor"


def adapter_config(repo: Repo, manifest: Manifest, name: str) -> AdapterConfig:
    """The adapter's configuration. IncompatibleError: the checkpoint has none."""
    entry = next((one for one in manifest.files if one.path == CONFIG_FILE), None)
    if entry is None:
        raise IncompatibleError(f"{name} has no {CONFIG_FILE}: no LoRA adapter")
    if entry.size > adapters.MAX_CONFIG_BYTES:
        raise IncompatibleError(f"{name}: an {CONFIG_FILE} of {entry.size} bytes is none")
    raw = b"".join(bytes(repo.objects.read(one.tobytes())) for one in block_ids(entry.content_ids))
    return adapters.read_config(raw, f"{name}: {CONFIG_FILE}")


def adapter_targets(
    repo: Repo, manifest: Manifest, base: Mapping[str, TensorRecord], name: str
) -> tuple[dict[str, Target], Mapping[str, TensorRecord]]:
    """What the adapter has for which tensor of the base, and the records of its own tensors that are here."""
    records = repo.tensors(manifest)
    elsewhere = {key: tensor.shape for key, tensor in lacking_tensors(repo, manifest).items()}
    found = adapters.targets(
        adapter_config(repo, manifest, name),
        elsewhere | {key: record.shape for key, record in records.items()},
        {key: record.shape for key, record in base.items()},
        name,
    )
    for key in found:
        if not is_merged(base[key]):
            raise IncompatibleError(f"{name}: {key!r} is {base[key].dtype} in the base, which is not merged")
    return found, records


def target_bytes(
    repo: Repo, target: Target, records: Mapping[str, TensorRecord], network_bytes: Mapping[str, int]
) -> int:
    """What reading a target's sources costs, with the delta bases that their frames lean on; of a source that
    is elsewhere, what fetching it transfers. NotFoundError: one is neither here nor to be fetched."""
    here = [source for source in target.sources if source in records]
    elsewhere = [source for source in target.sources if source not in records]
    for source in elsewhere:
        if source not in network_bytes:
            raise NotFoundError(f"the adapter's tensor {source!r} was never fetched", hint=ANY_BRANCH)
    ids = block_ids(b"".join(records[source].block_ids for source in here))
    places = located(repo, ids)
    leaned = located(repo, places.base_ids(np.flatnonzero(places.based)))
    stored = sum(int(one.column("frame_bytes").sum(dtype=np.int64)) for one in (places, leaned))
    return stored + sum(network_bytes[source] for source in elsewhere)
