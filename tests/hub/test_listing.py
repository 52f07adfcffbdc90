"""What the Hub answers about a model: taken as it should be, refused by name where it is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpstore.errors import RemoteError
from mpstore.remotes.address import Address
from mpstore.remotes.listing import HubFile, commit_of, model_of

ADDRESS = Address("org/model", "main")
OID = "ab" * 32
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def entry(**changes: Any) -> dict[str, Any]:
    """A file of 5 bytes as the Hub lists it."""
    return {"type": "file", "path": "config.json", "size": 5, "oid": "1f" * 20} | changes


def test_files_come_sorted_by_path_and_folders_are_left_out() -> None:
    entries = [
        entry(path="model.safetensors", size=9, lfs={"oid": OID, "size": 9, "pointerSize": 134}),
        {"type": "directory", "path": "a", "oid": "2f" * 20, "size": 0},
        entry(),
    ]
    model = model_of(ADDRESS, "c0ffee", entries)
    assert model.files == (
        HubFile("config.json", 5, None, "1f" * 20),
        HubFile("model.safetensors", 9, bytes.fromhex(OID), "1f" * 20),
    )
    assert model.file("model.safetensors") == model.files[1]
    assert model.file("absent") is None


def test_the_commit_is_the_one_the_revision_names() -> None:
    assert commit_of(ADDRESS, {"sha": "c0ffee", "id": "org/model"}) == "c0ffee"


@pytest.mark.parametrize("info", [None, [], {}, {"sha": ""}, {"sha": 7}, "c0ffee"])
def test_an_answer_without_a_commit_is_refused(info: Any) -> None:
    with pytest.raises(RemoteError, match=r"org/model.*names no commit"):
        commit_of(ADDRESS, info)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"path": None}, "a file without a name"),
        ({"path": 3}, "a file without a name"),
        ({"size": None}, "config.json.*None as its size"),
        ({"size": -1}, "config.json.*-1 as its size"),
        ({"size": "5"}, "config.json.*'5' as its size"),
        ({"size": True}, "config.json.*True as its size"),
        ({"lfs": {}}, "config.json.*None as its SHA-256"),
        ({"lfs": {"oid": 5}}, "config.json.*5 as its SHA-256"),
        ({"lfs": {"oid": "xyz"}}, "config.json.*'xyz' as its SHA-256"),
        ({"lfs": {"oid": OID[:-2]}}, "config.json.*as its SHA-256"),
        ({"lfs": "yes"}, "config.json.*None as its SHA-256"),
    ],
)
def test_an_entry_that_is_not_of_the_hubs_form_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RemoteError, match=said):
        model_of(ADDRESS, "c0ffee", [entry(**changes)])


@given(
    entries=st.lists(
        JSON | st.fixed_dictionaries({"type": st.just("file"), "path": JSON, "size": JSON, "lfs": JSON})
    )
)
def test_any_answer_is_a_model_or_a_remote_error(entries: list[Any]) -> None:
    try:
        model = model_of(ADDRESS, "c0ffee", entries)
    except RemoteError:
        return
    assert all(file.size >= 0 and (file.sha256 is None or len(file.sha256) == 32) for file in model.files)
