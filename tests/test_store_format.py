"""The bytes of packs and indexes that docs/format.md shows must always read, and still be what is written."""

from __future__ import annotations

import re
from pathlib import Path

from blake3 import blake3

from mpstore.ids import block_id
from mpstore.store import ObjectStore, packindex
from mpstore.store.frame import KIND_CODES, MAX_RAW_BYTES, FrameHeader
from mpstore.store.pack import BLOCKS, PackFile, PackWriter
from mpstore.store.packindex import PackInfo
from mpstore.store.scanning import scan

PAGE = (Path(__file__).parent.parent / "docs" / "format.md").read_text()
CONTENT = b"abcdefghabcdefgh"


def shown(kind: str) -> bytes:
    found = re.search(rf"^```{kind}\n([0-9a-f]+)\n```", PAGE, re.MULTILINE)
    assert found is not None
    return bytes.fromhex(found[1])


def test_the_pack_shown_reads_with_and_without_the_index_shown(tmp_path: Path) -> None:
    pack, index = shown("pack"), shown("idx")
    name = blake3(pack).hexdigest()
    assert f"`{name}`" in PAGE
    store = ObjectStore.init(str(tmp_path))
    directory = Path(store.layout.packs)
    (directory / f"{name}.pack").write_bytes(pack)
    assert bytes(ObjectStore.open(str(tmp_path)).read(block_id(CONTENT))) == CONTENT
    (directory / f"{name}.idx").write_bytes(index)
    assert bytes(ObjectStore.open(str(tmp_path)).read(block_id(CONTENT))) == CONTENT
    table = packindex.parse(index, "shown", verify=True)
    assert table.packs == (PackInfo(bytes.fromhex(name), len(pack), BLOCKS),)
    found = scan(PackFile(str(directory / f"{name}.pack")))
    assert packindex.to_bytes(packindex.build(table.packs[0], found.entries)) == index


def test_what_is_written_is_what_is_shown(tmp_path: Path) -> None:
    writer = PackWriter(str(tmp_path), BLOCKS)
    writer.append(FrameHeader(block_id(CONTENT), 0, 0, 16, (16,)), [CONTENT])
    pack_id = writer.seal()
    writer.publish(str(tmp_path), pack_id)
    assert (tmp_path / f"{pack_id.hex()}.pack").read_bytes() == shown("pack")


def test_numbers_of_the_page_are_those_of_the_code() -> None:
    for kind, code in KIND_CODES.items():
        assert re.search(rf"\b{code} {kind}\b", PAGE)
    assert MAX_RAW_BYTES == 1 << 30
