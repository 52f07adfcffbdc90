"""docs/format.md says what the code does: fields, examples and defaults are compared, not trusted."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import msgpack
import pytest
from blake3 import blake3

from mpstore.records import encoding, model, reflog, structures
from mpstore.records.config import Config, to_text

PAGE = (Path(__file__).parent.parent / "docs" / "format.md").read_text()
SHAPES = {cls.KIND: shape for cls, shape in structures.STRUCTURES.items()}
SHAPES |= {"ref": reflog._REF, "log": reflog._ENTRY}


def rows(kind: str) -> str:
    return re.search(rf"^\| `{kind}` \| ([^|]+) \|", PAGE, re.MULTILINE).group(1)


def example(kind: str) -> bytes:
    return bytes.fromhex(re.search(rf"^```{kind}\n([0-9a-f]+)\n```", PAGE, re.MULTILINE).group(1))


@pytest.mark.parametrize("kind", SHAPES)
def test_fields_are_as_the_page_says(kind: str) -> None:
    assert rows(kind).split(", ") == [name for name, _ in SHAPES[kind].fields]


def test_an_experts_fields_are_as_the_page_says() -> None:
    listed = re.search(r"\*\*plan\.\*\* experts: array of `\[([^\]]+)\]`", PAGE).group(1)
    assert listed.split(", ") == [name for name, _ in structures._EXPERT.fields]
    listed = re.search(r"from path to `\[([^\]]+)\]`", PAGE).group(1)
    assert listed.split(", ") == [name for name, _ in structures._Files.fields.fields]


def test_the_record_example_reads_as_the_page_says() -> None:
    data = example("record tensor")
    assert msgpack.unpackb(data) == ["tensor", 1, "BF16", [2, 3], 64, b"\1" * 32]
    assert encoding.encode(encoding.decode(model.TensorRecord, data)) == data


def test_the_log_example_reads_as_the_page_says(tmp_path: Path) -> None:
    """With msgpack and blake3 alone, as a stranger would."""
    data = example("file log")
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    entry = unpacker.unpack()
    body = data[: unpacker.tell()]
    assert unpacker.unpack() == blake3(body, derive_key_context="mpstore 2026-11-22 record log").digest()
    assert entry == ["log", 1, "heads/main", 1, None, b"\1" * 32, 5, "me", "add: first", b"", b"12345678"]
    (tmp_path / "entry").write_bytes(data)
    assert reflog.read_entry(str(tmp_path / "entry"), "heads/main", 1).why == "add: first"


def test_config_defaults_are_as_the_page_says() -> None:
    section = PAGE[PAGE.index("## config") :]
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
    stated = tomllib.loads("\n".join(f"{key} = {value}" for key, value in listed.items()))
    assert stated == dataclasses.asdict(Config()) == tomllib.loads(to_text(Config()))
