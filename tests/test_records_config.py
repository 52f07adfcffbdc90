"""`.mp/config`: round trip, and clear words for every way it can be wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpstore.errors import DamagedError, MpError, UsageError
from mpstore.records import config as configs
from mpstore.records.config import Config

printable = st.text(max_size=20).filter(str.isprintable)


@given(
    st.integers(1, 2**20).map(lambda n: n * 64),
    st.sampled_from(["fast", "default", "small", "max"]),
    st.integers(1, 2**40),
    st.integers(0, 4096),
    printable,
)
def test_what_is_written_is_read(
    elements: int, level: str, pack_bytes: int, threads: int, author: str
) -> None:
    config = Config(
        block_elements=elements, compression=level, pack_bytes=pack_bytes, threads=threads, author=author
    )
    assert configs.from_text(configs.to_text(config), "config") == config


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("format = 2\n", UsageError, "format 2.*knows format 1"),
        ("format = 0\n", UsageError, "format 0"),
        ("format = 2\nunheard_of = 1\n", UsageError, "format 2"),  # the version is said before anything else
        ("", DamagedError, "does not say its `format`"),
        ("format = true\n", DamagedError, "format"),
        ("format = '1'\n", DamagedError, "format"),
        ("format = 1\nblock_elements = \n", DamagedError, "does not parse"),
        ("\x00", DamagedError, "does not parse"),
        ("format = 1\nblock_element = 64\n", UsageError, "unknown setting 'block_element'"),
        ("format = 1\nblock_elements = 65\n", UsageError, "multiple of 64"),
        ("format = 1\nblock_elements = 0\n", UsageError, "from 64"),
        ("format = 1\nblock_elements = 64.0\n", UsageError, "whole number"),
        ("format = 1\nthreads = -1\n", UsageError, "threads"),
        ("format = 1\nthreads = true\n", UsageError, "threads"),
        ("format = 1\ncompression = 'best'\n", UsageError, "fast, default, small or max"),
        ("format = 1\nauthor = 'a\\nb'\n", UsageError, "author"),
        ('format = 1\nauthor = "a\\nb"\n', UsageError, "author"),
    ],
)
def test_what_cannot_be_meant_is_named(text: str, error: type[MpError], words: str) -> None:
    if "author = 'a" in text:  # a literal string: the backslash is a backslash
        assert configs.from_text(text, "config").author == "a\\nb"
        return
    with pytest.raises(error, match=words):
        configs.from_text(text, "config")


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        configs.from_text("format = 1\nblock_element = 64\n", "config")
    assert "block_elements" in (caught.value.hint or "")


def test_a_lost_config_says_how_to_restore_it(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    path = tmp_path / "config"
    configs.save(str(path), replace(Config(), block_elements=128))
    assert configs.load(str(path)).block_elements == 128
    for content in (None, b"", b"\xff\xfe", b"form", b"x" * (2 << 20)):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        else:
            path.touch()
            path.unlink()
        with pytest.raises(DamagedError, match="config") as caught:
            configs.load(str(path))
        path.write_text("format = 1\n")
        assert configs.load(str(path)) == Config()
        if len(content or b"") < (1 << 20):
            assert "format = 1" in (caught.value.hint or "")
