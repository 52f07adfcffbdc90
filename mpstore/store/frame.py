"""A frame: one object as it lies in a pack, with all that is needed to read it and to trust its lengths.

Relies on codecs and ids. Promises: the header's own checksum is verified and every length is checked against
what is really there before anything is sliced or allocated. Layout: docs/format.md, "Frames".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from mpstore import codecs
from mpstore.codecs.segments import Buffer, as_bytes
from mpstore.errors import DamagedError, UsageError
from mpstore.ids import ID_BYTES, ObjectId, block_id, record_id, short

MAGIC: Final = b"mpF1"
_CHECKED: Final = "32sBBBBII"  # id codec form flags segments raw encoded
_FIXED: Final = struct.Struct(f"<4sI{_CHECKED}")  # magic crc, and the above
FIXED_BYTES: Final = _FIXED.size
MAX_HEADER_BYTES: Final = FIXED_BYTES + ID_BYTES + 4 * 255
MAX_RAW_BYTES: Final = 1 << 30
NO_BASE: Final = bytes(ID_BYTES)

_HAS_BASE: Final = 1
RECORD_FORM: Final = 0x80  # form byte of a record: this bit and the kind's code; of a block: its Format
KIND_CODES: Final = {"tensor": 1, "manifest": 2, "commit": 3, "plan": 4, "coverage": 5, "columns": 6}
KIND_NAMES: Final = {code: kind for kind, code in KIND_CODES.items()}

PlaceInPack: TypeAlias = tuple[str, int, int]  # the pack's name, offset and bytes of a frame


class FrameHeader(NamedTuple):
    """What a frame says of itself. `base` is NO_BASE unless the codec is a delta. This and `Frame` are tuples
    because a merge makes one of each for every block of every expert."""

    id: ObjectId
    codec: int
    form: int
    raw_bytes: int
    segment_bytes: tuple[int, ...]
    base: ObjectId = NO_BASE

    @property
    def header_bytes(self) -> int:
        return FIXED_BYTES + (ID_BYTES if self.base != NO_BASE else 0) + 4 * len(self.segment_bytes)

    @property
    def frame_bytes(self) -> int:
        """Header and payload: what reading the frame costs."""
        return self.header_bytes + sum(self.segment_bytes)

    @property
    def kind(self) -> str | None:
        """The record's kind; None: a block."""
        return record_kind(self.form)


class Frame(NamedTuple):
    """A frame that has been read: header, payload as views, and where it came from (`pack` is the file's
    name). `row` is the row of the Locations it was asked for by, -1 when read otherwise."""

    header: FrameHeader
    segments: tuple[memoryview, ...]
    pack: str
    offset: int
    purpose: str = "other"
    row: int = -1

    @property
    def id(self) -> ObjectId:
        return self.header.id

    @property
    def base(self) -> ObjectId:
        return self.header.base

    @property
    def needs_base(self) -> bool:
        return self.header.base != NO_BASE

    @property
    def raw_bytes(self) -> int:
        return self.header.raw_bytes

    def of_length(self, raw_bytes: int) -> Frame:
        """Itself, when it says that it decodes to so many bytes: to be asked before it is decoded, since a
        few bytes can stand for a gigabyte. DamagedError otherwise."""
        if self.header.raw_bytes != raw_bytes:
            block = f"block {short(self.id)} of {self.header.raw_bytes} bytes"
            raise DamagedError(f"{self.where}: {block}, where {raw_bytes} are expected")
        return self

    @property
    def place(self) -> PlaceInPack:
        return self.pack, self.offset, self.header.frame_bytes

    @property
    def where(self) -> str:
        """The place, for people."""
        return _where(self.pack, self.offset)


class Piece(NamedTuple):
    """A frame's bytes as they were read, not looked into yet: `id` is what they must hold. `pack`, `offset`,
    `purpose` and `row` as of a Frame."""

    id: ObjectId
    data: memoryview
    pack: str
    offset: int
    purpose: str = "other"
    row: int = -1

    @property
    def place(self) -> PlaceInPack:
        return self.pack, self.offset, self.data.nbytes


def _where(pack: str, offset: int) -> str:
    return f"pack {pack}, offset {offset}"


def open_piece(piece: Piece) -> Frame:
    """The frame; DamagedError: it is none, not of the size that was read, or of another object."""
    data, where = piece.data, _where(piece.pack, piece.offset)
    header = parse_header(data, where)
    if header.frame_bytes != data.nbytes:
        raise DamagedError(f"{where}: the frame is not of the size indexed")
    if header.id != piece.id:
        raise DamagedError(f"{where}: not the object {short(piece.id)}")
    segments = split_payload(header, data[header.header_bytes :])
    return Frame(header, segments, piece.pack, piece.offset, piece.purpose, piece.row)


def record_kind(form: int) -> str | None:
    """The kind a form byte stands for; None: a block. "unknown-N" for a kind this version does not know."""
    if not form & RECORD_FORM:
        return None
    code = form & ~RECORD_FORM
    return KIND_NAMES.get(code, f"unknown-{code}")


def record_form(kind: str) -> int:
    """The form byte of records of `kind`."""
    if kind not in KIND_CODES:
        raise UsageError(f"no such kind of record: {kind!r}")
    return RECORD_FORM | KIND_CODES[kind]


def object_id(form: int, raw: Buffer) -> ObjectId:
    """The id that decoded bytes have, as a block or as a record of the form's kind."""
    kind = record_kind(form)
    return block_id(raw) if kind is None else record_id(kind, raw)


def pack_header(header: FrameHeader) -> bytes:
    """The header's bytes."""
    base = header.base if header.base != NO_BASE else b""
    lengths = header.segment_bytes
    rest = struct.pack(
        f"<{_CHECKED}{len(base)}s{len(lengths)}I",
        header.id,
        header.codec,
        header.form,
        _HAS_BASE if base else 0,
        len(lengths),
        header.raw_bytes,
        sum(lengths),
        base,
        *lengths,
    )
    return MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest


def parse_header(data: memoryview, where: str) -> FrameHeader:
    """The header at the start of `data` (which need not hold the payload). DamagedError names `where`."""
    if data.nbytes < FIXED_BYTES:
        raise DamagedError(f"{where}: a frame's header is cut off")
    magic, crc, own_id, codec, form, flags, count, raw, encoded = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise DamagedError(f"{where}: no frame begins here")
    base_bytes = ID_BYTES if flags & _HAS_BASE else 0
    end = FIXED_BYTES + base_bytes + 4 * count
    if data.nbytes < end or zlib.crc32(data[8:end]) != crc:
        raise DamagedError(f"{where}: a frame's header does not have its checksum")
    base = bytes(data[FIXED_BYTES : FIXED_BYTES + base_bytes]) if base_bytes else NO_BASE
    lengths = struct.unpack_from(f"<{count}I", data, FIXED_BYTES + base_bytes)
    if flags & ~_HAS_BASE or sum(lengths) != encoded or raw > MAX_RAW_BYTES:
        raise DamagedError(f"{where}: a frame's header contradicts itself")
    return FrameHeader(own_id, codec, form, raw, lengths, base)


def split_payload(header: FrameHeader, payload: memoryview) -> tuple[memoryview, ...]:
    """The payload as one view a segment; `payload` has exactly their bytes."""
    views = []
    start = 0
    for size in header.segment_bytes:
        views.append(payload[start : start + size])
        start += size
    return tuple(views)


def codec_form(form: int) -> codecs.Format:
    """The Format that the codecs see: records are opaque bytes. DamagedError: no such format."""
    if form & RECORD_FORM:
        return codecs.Format.BYTES
    try:
        return codecs.Format(form)
    except ValueError as error:
        raise DamagedError(f"unknown format {form}") from error


def encode(
    own_id: ObjectId, raw: Any, form: int, base: tuple[ObjectId, Any] | None, level: codecs.Level
) -> tuple[FrameHeader, Sequence[Any]]:
    """Encode `raw` as a frame; the segments may be views of `raw`. `base`: id and decoded bytes to lean on.

    UsageError: longer than MAX_RAW_BYTES.
    """
    return encode_many([own_id], [raw], form, [base], level)[0]


def encode_many(
    ids: Sequence[ObjectId],
    raws: Sequence[Any],
    form: int,
    bases: Sequence[tuple[ObjectId, Any] | None],
    level: codecs.Level,
) -> list[tuple[FrameHeader, Sequence[Any]]]:
    """`encode` of several objects of one form."""
    sizes = [as_bytes(raw).size for raw in raws]
    if max(sizes) > MAX_RAW_BYTES:
        raise UsageError(f"an object of {max(sizes)} bytes: at most {MAX_RAW_BYTES} fit")
    base_raws = [None if base is None else base[1] for base in bases]
    made: list[tuple[FrameHeader, Sequence[Any]]] = []
    for own_id, size, base, encoded in zip(
        ids, sizes, bases, codecs.encode_many(raws, codec_form(form), base_raws, level), strict=True
    ):
        lengths = tuple([memoryview(segment).nbytes for segment in encoded.segments])
        leans_on = base[0] if base is not None and codecs.needs_base(encoded.codec) else NO_BASE
        header = FrameHeader(own_id, encoded.codec, form, size, lengths, leans_on)
        made.append((header, encoded.segments))
    return made
