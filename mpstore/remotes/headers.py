"""The headers of a model on the Hub as a commit without any tensor's content: what a plan is made from.

Relies on hub, resuming and repository. Promises: only headers cross the network, and of a LoRA adapter its
configuration; the *partial* commit stands on the branch hub/ORG/NAME.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mpstore import blocks
from mpstore.adapters import MAX_CONFIG_BYTES
from mpstore.checkpoint_dir import SUFFIX, check_path, check_weights, kind_of, tensor_keys, tensor_names
from mpstore.errors import IncompatibleError
from mpstore.ids import ObjectId
from mpstore.merge.execute.output import put_opaque
from mpstore.merge.gather_adapter import CONFIG_FILE
from mpstore.records.model import FileEntry, Manifest
from mpstore.remotes.address import Address
from mpstore.remotes.hub import Hub
from mpstore.remotes.listing import HubFile, HubModel
from mpstore.remotes.network import Traffic
from mpstore.remotes.origin import Origin
from mpstore.remotes.resuming import fetch_headers
from mpstore.remotes.small_file import fetch_small
from mpstore.repository import Repo
from mpstore.safetensors_file import Header
from mpstore.store import Hint, ObjectWriter


def branch_of(address: Address) -> str:
    """The branch that keeps what a merge fetched of a model."""
    return f"hub/{address.repo_id}"


@dataclass(frozen=True)
class HeaderFetch:
    """Fetches headers of one model; `traffic` counts them."""

    repo: Repo
    hub: Hub
    model: HubModel
    traffic: Traffic

    def commit(self, author: str) -> ObjectId:
        """Fetch the headers, and commit a manifest without any tensor's content."""
        model = self.model
        for file in model.files:
            check_path(file.path)
        weights = [file for file in model.files if file.path.endswith(SUFFIX)]
        check_weights(str(model.address), [file.path for file in model.files])
        headers = fetch_headers(self.hub, model, weights, self.traffic)
        kind = kind_of({file.path for file in model.files}, headers)
        config = self._adapter_config() if kind == "lora" else None
        branch = branch_of(model.address)
        tip = self.repo.tip(branch)
        origin = Origin(model.address.repo_id, model.address.revision, model.commit, partial=True)
        with self.repo.objects.writer(f"headers of {model.address}") as writer:
            manifest = self._empty_manifest(writer, weights, headers, config)
            return self.repo.advance(
                writer,
                branch,
                tip,
                manifest=self.repo.put(writer, manifest),
                kind=kind,
                author=author,
                message=f"headers of {model.address}",
                how={"verb": "pull", "origin": origin.as_json()},
            )

    def _adapter_config(self) -> bytes:
        """What a LoRA adapter's pairs mean; a few hundred bytes that planning needs."""
        file = self.model.file(CONFIG_FILE)
        if file is None or file.size > MAX_CONFIG_BYTES:
            size = "no" if file is None else f"an impossible ({file.size} bytes)"
            raise IncompatibleError(f"{self.model.address} has {size} {CONFIG_FILE}")
        return fetch_small(self.hub, self.model, file, self.traffic)

    def _empty_manifest(
        self,
        writer: ObjectWriter,
        weights: list[HubFile],
        headers: Mapping[str, Header],
        config: bytes | None,
    ) -> Manifest:
        keys = tensor_keys(tensor_names(headers))
        entries, size = [], blocks.OPAQUE_BLOCK_BYTES
        for file in weights:
            raw = headers[file.path].raw
            content = b"".join(writer.put(raw[at : at + size], Hint()) for at in range(0, len(raw), size))
            sha256 = file.sha256 or b""
            entries.append(FileEntry(file.path, "safetensors", file.size, sha256, content, keys[file.path]))
        if config is not None:
            entries.append(put_opaque(writer, CONFIG_FILE, config))
        entries.sort(key=lambda entry: entry.path)
        return Manifest(tuple(entries), {key: b"" for own in sorted(keys.values()) for key in sorted(own)})
