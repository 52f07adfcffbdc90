"""One opened repository: its settings, objects and refs, and records by type.

Relies on store, records, dtypes and statistics. Promises: what a loader returns was verified against its
id and checked field by field; `advance` makes a commit durable before its branch names it.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from mpstore import blocks, events, files
from mpstore.errors import ConflictError, DamagedError, NotFoundError, UsageError
from mpstore.ids import ID_BYTES, ObjectId, short
from mpstore.records import config as configs
from mpstore.records.config import Config
from mpstore.records.encoding import decode, encode
from mpstore.records.model import (
    Columns,
    Commit,
    CommitKind,
    Coverage,
    Json,
    Manifest,
    Parent,
    Plan,
    TensorRecord,
)
from mpstore.records.refs import Refs
from mpstore.records.unfetched import never_fetched
from mpstore.repository_root import DIRECTORY, is_repository, is_used
from mpstore.store import ObjectStore, ObjectWriter
from mpstore.suggestions import nearest

if TYPE_CHECKING:
    from mpstore.dtypes import Dtype
    from mpstore.statistics import DeltaStatistics, Distances

_CACHE_BYTES: Final = 64 << 20
_LARGEST_CACHED_BYTES: Final = 1 << 20  # statistics of a large model are asked for once, and are many
_FEW: Final = 5  # so many objects are quicker looked up one by one
R = TypeVar("R", TensorRecord, Manifest, Commit, Plan, Coverage, Columns)


class _RecordCache:
    """Decoded records, the least recently used leaving first, but for very large ones. Any thread may ask."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._records: OrderedDict[ObjectId, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, record_id: ObjectId) -> Any:
        with self._lock:
            if record_id not in self._records:
                return None
            self._records.move_to_end(record_id)
            return self._records[record_id][0]

    def put(self, record_id: ObjectId, record: Any, encoded_bytes: int) -> None:
        if encoded_bytes > _LARGEST_CACHED_BYTES:
            return
        with self._lock:
            if record_id in self._records:
                return
            self._records[record_id] = (record, encoded_bytes)
            self._bytes += encoded_bytes
            while self._bytes > self._limit_bytes and len(self._records) > 1:
                self._bytes -= self._records.popitem(last=False)[1][1]


class Repo:
    """A repository. `root` is its `.mp` directory; `objects`, `refs` and `config` are what it is made of."""

    def __init__(self, root: str | os.PathLike[str], config: Config, progress: events.Progress) -> None:
        self.root = os.path.abspath(root)
        self.config = config
        self.progress = progress
        self.refs = Refs(self.root, progress)
        self.objects = ObjectStore.open(
            self.root, pack_bytes=config.pack_bytes, level=config.level, progress=progress
        )
        self._cache = _RecordCache(_CACHE_BYTES)

    # Opening

    @classmethod
    def init(
        cls,
        directory: str | os.PathLike[str],
        config: Config | None = None,
        progress: events.Progress = events.silent,
    ) -> Repo:
        """Make a repository in `directory`/.mp. UsageError where there is one already."""
        root = os.path.join(os.path.abspath(directory), DIRECTORY)
        settings = config or Config()
        if os.path.lexists(root) and (not os.path.isdir(root) or is_used(root)):
            raise UsageError(f"{root} exists already", hint="use it as it is, or choose another directory")
        for part in ("tmp", "refs/heads", "refs/tags", "logs", "hooks"):
            files.make_directories(os.path.join(root, part))
        ObjectStore.init(root)
        configs.save(os.path.join(root, "config"), settings)  # last: with it, the repository exists
        return cls(root, settings, progress)

    @classmethod
    def open(cls, path: str | os.PathLike[str], progress: events.Progress = events.silent) -> Repo:
        """The repository in the directory `path`, or `path` itself being one."""
        for root in (os.path.join(path, DIRECTORY), os.fspath(path)):
            if is_repository(root):
                return cls(root, configs.load(os.path.join(root, "config")), progress)
        raise NotFoundError(f"no repository in {os.path.abspath(path)}", hint="`mp init` makes one")

    @classmethod
    def discover(cls, start: str | os.PathLike[str], progress: events.Progress = events.silent) -> Repo:
        """The repository of `start` or of the nearest directory above it."""
        directory = os.path.abspath(start)
        while True:
            if is_repository(os.path.join(directory, DIRECTORY)):
                return cls.open(directory, progress)
            above = os.path.dirname(directory)
            if above == directory:
                raise NotFoundError(
                    f"no repository in {os.path.abspath(start)} or above it",
                    hint="`mp init` makes one; -C DIR or MP_DIR names one elsewhere",
                )
            directory = above

    # Records

    def load(self, cls: type[R], record_id: ObjectId) -> R:
        """The record of that class and id. NotFoundError: another kind; DamagedError: missing or damaged."""
        record: R | None = self._cache.get(record_id)
        if isinstance(record, cls):
            return record
        return self._decoded(cls, record_id, self.objects.read_record(cls.KIND, record_id))

    def _decoded(self, cls: type[R], record_id: ObjectId, data: memoryview | npt.NDArray[np.uint8]) -> R:
        try:
            record = decode(cls, data if isinstance(data, memoryview) else data.data)
        except DamagedError as error:  # its hash is right: it was written so
            raise DamagedError(f"{cls.KIND} {short(record_id)}: {error.message}", hint=error.hint) from None
        self._cache.put(record_id, record, len(data))
        return record

    def commit(self, commit_id: ObjectId) -> Commit:
        return self.load(Commit, commit_id)

    def manifest(self, manifest_id: ObjectId) -> Manifest:
        return self.load(Manifest, manifest_id)

    def tensor(self, record_id: ObjectId) -> TensorRecord:
        return self.load(TensorRecord, record_id)

    def plan(self, plan_id: ObjectId) -> Plan:
        return self.load(Plan, plan_id)

    def coverage(self, coverage_id: ObjectId) -> Coverage:
        return self.load(Coverage, coverage_id)

    def load_many(self, cls: type[R], record_ids: Sequence[ObjectId]) -> dict[ObjectId, R]:
        """Many records at once, read in pack order."""
        out: dict[ObjectId, R] = {}
        for record_id in record_ids:
            record = self._cache.get(record_id)
            if isinstance(record, cls):
                out[record_id] = record
        lacking = list(dict.fromkeys(one for one in record_ids if one not in out))
        if len(lacking) < _FEW:
            return out | {record_id: self.load(cls, record_id) for record_id in lacking}
        places = self.objects.locate(b"".join(lacking))
        if not places.found.all() and self.objects.refresh():
            places = self.objects.locate(b"".join(lacking))
        fetched = self.objects.fetch(places, np.flatnonzero(places.found), "record")
        frames = [frame for frame in fetched if frame.header.kind == cls.KIND]
        with contextlib.suppress(DamagedError):  # one of them, of which there may be another copy
            for frame, raw in zip(frames, self.objects.decode_many(frames), strict=True):
                out[frame.id] = self._decoded(cls, frame.id, raw)
        for record_id in lacking:  # the store looks for these wherever they could be, and says what is wrong
            if record_id not in out:
                out[record_id] = self.load(cls, record_id)
        return out

    def tensors(self, manifest: Manifest) -> Mapping[str, TensorRecord]:
        """Every tensor that the store has; those of a partial manifest that it lacks are left out."""
        records = self.load_many(TensorRecord, [one for one in manifest.tensors.values() if one])
        return {key: records[one] for key, one in manifest.tensors.items() if one}

    def find_tensor(self, manifest: Manifest, key: str) -> TensorRecord:
        """One tensor by its key. NotFoundError: no such tensor, or not in the store yet."""
        if key not in manifest.tensors:
            raise NotFoundError(
                f"no tensor {key!r}", hint=nearest(key, manifest.tensors) or "mp ls REV lists them"
            )
        if not manifest.tensors[key]:
            raise never_fetched(self, manifest, [key])
        return self.tensor(manifest.tensors[key])

    # Content

    def read_blocks(
        self, record: TensorRecord, rows: npt.ArrayLike | None = None, purpose: str = "other"
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """(index, decoded bytes) of the blocks at `rows` (None: all), in pack order.

        DamagedError: a block is lost, damaged, or not of the length that the record gives it.
        """
        places = self.objects.locate(record.block_ids)
        chosen = np.arange(record.blocks) if rows is None else np.asarray(rows, np.int64)
        if not places.found[chosen].all():
            for row in chosen[~places.found[chosen]]:
                self.objects.find(record.block(int(row)))
            places = self.objects.locate(record.block_ids)
        lengths = self.block_lengths(record)
        there = places.found[chosen]
        for frame in self.objects.fetch(places, chosen[there], purpose):
            raw = self.objects.decode(frame.of_length(lengths[frame.row]))
            yield frame.row, _of_length(raw, frame.id, lengths[frame.row])
        for row in chosen[~there].tolist():  # gc moved it again while others were looked for
            block = record.block(row)
            raw = np.frombuffer(self.objects.read(block, purpose), np.uint8)
            yield row, _of_length(raw, block, lengths[row])

    def block_lengths(self, record: TensorRecord) -> list[int]:
        """Bytes of each block of a tensor."""
        from mpstore import dtypes

        dtype = _known_dtype(record)
        data_bytes = dtypes.tensor_bytes(dtype, math.prod(record.shape))
        if data_bytes is None:
            raise DamagedError(f"a tensor of {record.dtype} and shape {record.shape} does not end on a byte")
        return list(blocks.byte_lengths(data_bytes, dtype.bits, record.block_elements))

    def read_tensor(self, manifest: Manifest, key: str) -> npt.NDArray[Any]:
        """A tensor as a numpy array of its shape; bfloat16 and float8 are ml_dtypes' types. What numpy has no
        type for (4- and 6-bit floats) comes as its bytes, one-dimensional."""
        record = self.find_tensor(manifest, key)
        dtype = _known_dtype(record)
        lengths = self.block_lengths(record)
        out = np.empty(sum(lengths), np.uint8)
        starts = np.concatenate([[0], np.cumsum(lengths)]) if lengths else np.zeros(1, np.int64)
        for index, raw in self.read_blocks(record):
            out[starts[index] : starts[index + 1]] = raw
        if dtype.numpy is None:
            return out
        return out.view(dtype.numpy).reshape(record.shape)

    # Statistics

    def statistics(self, base_manifest: ObjectId, expert_manifest: ObjectId) -> DeltaStatistics | None:
        """What is known of the blocks of a (base, expert) pair; None where nothing is, or it is damaged (a
        warning: `mp analyze` makes it anew)."""
        from mpstore import statistics
        from mpstore.statistics import columns

        record = self._known(statistics.ref_name(base_manifest, expert_manifest))
        if record is None or record.purpose != columns.PURPOSE:
            return None
        try:
            found = statistics.from_columns(record)
        except DamagedError as error:
            self.progress.warn(f"{error.message}; `mp analyze` makes them anew")
            return None
        same = (found.base_manifest, found.expert_manifest) == (base_manifest, expert_manifest)
        return found if same else None

    def distances(self, manifest: ObjectId) -> Distances | None:
        """How far a checkpoint is from others, as far as somebody has measured it; None likewise."""
        from mpstore import statistics
        from mpstore.statistics import distances

        record = self._known(statistics.distances_ref(manifest))
        if record is None or record.purpose != distances.PURPOSE:
            return None
        try:
            found = distances.from_record(record)
        except DamagedError as error:
            self.progress.warn(f"{error.message}; `mp analyze --pairs` makes them anew")
            return None
        return found if found.manifest == manifest else None

    def _known(self, name: str) -> Columns | None:
        """The record that a ref of statistics names; None: there is none, or it is damaged (a warning)."""
        try:
            ref = self.refs.read(name)
            return None if ref is None else self.load(Columns, ref.value)
        except (DamagedError, NotFoundError) as error:
            self.progress.warn(f"statistics {name}: {error.message}; `mp analyze` makes them anew")
            return None

    def name_statistics(
        self, base_manifest: ObjectId, expert_manifest: ObjectId, record_id: ObjectId
    ) -> None:
        """Have `statistics` (or, of a manifest with itself, `distances`) find the (durable) record. The same
        pair has the same record: no race is lost; of distances the later ones stay, and the others are
        measured when they are asked for again."""
        from mpstore import statistics

        name = statistics.ref_name(base_manifest, expert_manifest)
        while True:
            ref = self.refs.read(name)
            old = None if ref is None else ref.value
            if old == record_id:
                return
            try:
                self.refs.move(name, old, record_id, "statistics", "")
                return
            except ConflictError:
                continue

    # Writing

    def put(
        self, writer: ObjectWriter, record: TensorRecord | Manifest | Commit | Plan | Coverage | Columns
    ) -> ObjectId:
        """Encode a record and put it into the writer's session."""
        return writer.put_record(record.KIND, encode(record))

    def put_many(self, writer: ObjectWriter, records: Sequence[TensorRecord]) -> list[ObjectId]:
        """`put` of several, with one look for what the store has."""
        return writer.put_records(TensorRecord.KIND, [encode(record) for record in records])

    def tip(self, branch: str) -> ObjectId | None:
        """The commit a branch is at; None: no such branch. UsageError: no name for a branch."""
        ref = self.refs.read(f"heads/{branch}")
        return None if ref is None else ref.value

    def advance(
        self,
        writer: ObjectWriter,
        branch: str,
        tip: ObjectId | None,
        *,
        manifest: ObjectId,
        parents: Sequence[Parent] = (),
        kind: CommitKind = "full",
        author: str = "",
        message: str = "",
        how: Mapping[str, Json] | None = None,
        time_ns: int | None = None,
    ) -> ObjectId:
        """Commit a manifest on a branch that is at `tip` (None: a new branch), and finish the writer.

        `parents` are those beside the previous commit, which is `tip`. All is durable before it moves.
        ConflictError: the branch has moved meanwhile; the commit is in the store, but nothing names it.
        DamagedError, with no commit made: where the branch is cannot be told.
        """
        self.refs.settled(f"heads/{branch}")
        previous = () if tip is None else (Parent("previous", tip),)
        now = time.time_ns() if time_ns is None else time_ns
        who = author or self.config.author
        if not who.isprintable():
            raise UsageError(f"author {who!r}: one line of text is expected")
        record = Commit(manifest, (*previous, *parents), kind, who, now, message, dict(how or {}))
        commit_id = self.put(writer, record)
        writer.finish()
        verb = str(record.how.get("verb", "commit"))
        first_line = message.partition("\n")[0]
        self.refs.move(
            f"heads/{branch}", tip, commit_id, f"{verb}: {first_line}" if first_line else verb, who
        )
        return commit_id


def _of_length(raw: npt.NDArray[np.uint8], block: ObjectId, expected: int) -> npt.NDArray[np.uint8]:
    if raw.size != expected:
        raise DamagedError(f"block {short(block)} has {raw.size} bytes, expected {expected}")
    return raw


def _known_dtype(record: TensorRecord) -> Dtype:
    from mpstore import dtypes

    dtype = dtypes.of(record.dtype)
    if dtype is None:
        raise DamagedError(f"a tensor of unknown dtype {record.dtype!r}", hint="a newer mp may know it")
    return dtype


__all__ = ["DIRECTORY", "ID_BYTES", "Repo"]
