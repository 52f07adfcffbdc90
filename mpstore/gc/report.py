"""What a collection did, or would do, as plain values.

Relies on nothing. Promises: bytes are of packs on disk; the keys are those of `mp gc --json`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class GcReport:
    """What a collection did, or with dry_run would do. Bytes are of packs on disk.

    kept_for_deltas_*: objects that only deltas need; released_bases_*: those that went because the deltas on
    them (rebased_objects) were encoded anew, which made these larger by rebased_growth_bytes; given_bases:
    blocks that had none and are deltas now; kept_by_sessions: labels of running writers (pid, host) whose
    objects stay; foreign_sessions: those of another host, which this one cannot know to be alive;
    dropped_sessions: those that the user declared dead; dead_sessions: those whose process has ended without
    a word, which a collection sweeps.
    """

    dry_run: bool
    live_objects: int = 0
    removed_objects: int = 0
    removed_bytes: int = 0
    removed_packs: int = 0
    repacked_objects: int = 0
    repacked_packs: int = 0
    repack_read_bytes: int = 0
    repack_written_bytes: int = 0
    kept_for_deltas_objects: int = 0
    kept_for_deltas_bytes: int = 0
    released_bases_objects: int = 0
    released_bases_bytes: int = 0
    rebased_objects: int = 0
    rebased_growth_bytes: int = 0
    given_bases_objects: int = 0
    removed_statistics: int = 0
    removed_reflog_entries: int = 0
    removed_sessions: int = 0
    removed_temporary_files: int = 0
    pack_bytes_before: int = 0
    pack_bytes_after: int = 0
    seconds: float = 0.0
    kept_by_sessions: tuple[str, ...] = ()
    foreign_sessions: tuple[str, ...] = ()
    dropped_sessions: tuple[str, ...] = ()
    dead_sessions: tuple[str, ...] = ()
    damaged_packs: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Keys of `mp gc --json`."""
        return asdict(self)
