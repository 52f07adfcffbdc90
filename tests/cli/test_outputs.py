"""What a command writes beside the repository: files that flags name, directories, standard output."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import MP, Command, clean_environment
from families import read_safetensors, write_checkpoint

NORM = "model.norm.weight"


def test_what_is_no_file_is_left_as_it_is(mp: Command, tmp_path: Path) -> None:
    """Publishing by a rename would take the place of a pipe, or as root of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert str(pipe) in mp("cat", "base", NORM, "-o", pipe, code=2).err
    assert "/dev/null" in mp("cat", "base", NORM, "-o", "/dev/null", code=2).err
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_stays_one_and_what_it_leads_to_is_written(mp: Command, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.npy"
    link.symlink_to(tmp_path / "there" / "norm.npy")
    for _ in range(2):  # made, then replaced
        mp("cat", "base", NORM, "-o", link)
        assert link.is_symlink()
        assert np.load(tmp_path / "there" / "norm.npy").ndim == 1


def test_a_full_standard_output_is_told_from_a_full_repository(mp: Command) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    words = [*MP, "branch", "again", "base"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            words, cwd=mp.directory, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert "standard output" in ended.stderr
    assert "is done" in ended.stderr
    assert "again" in mp("branch").out.split()


@pytest.mark.parametrize("words", [[], ["--help"], ["log", "-h"], ["--version"]])
def test_help_that_cannot_be_written_is_no_full_repository(mp: Command, words: list[str]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*MP, *words], cwd=mp.directory, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("mp: error: standard output: ")


@pytest.mark.parametrize("words", [["log", "nope"], ["log", "nope", "--json"]])
def test_an_error_that_nobody_hears_keeps_its_exit_code(mp: Command, words: list[str]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        assert subprocess.run([*MP, *words], cwd=mp.directory, stderr=full, check=False).returncode == 3


def test_an_encoding_that_lacks_a_character_is_no_error(empty: Command, tmp_path: Path) -> None:
    write_checkpoint(
        tmp_path / "model", {"größe": np.zeros(4, np.float32), "重み": np.zeros((2, 2), np.float32)}
    )
    empty("add", tmp_path / "model", "--branch", "m")
    environment = clean_environment({"PYTHONIOENCODING": "latin-1"})
    done = subprocess.run(
        [*MP, "ls", "m"], cwd=empty.directory, env=environment, capture_output=True, check=True
    )
    assert "größe" in done.stdout.decode("latin-1")
    assert "\\u91cd\\u307f" in done.stdout.decode("latin-1")


def test_complex_numbers_have_a_json_form(empty: Command, tmp_path: Path) -> None:
    header = b'{"z":{"dtype":"C64","shape":[2],"data_offsets":[0,16]}}'
    values = np.array([1 + 2j, complex(float("inf"), -1)], np.complex64)
    (tmp_path / "z.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())
    empty("add", tmp_path / "z.safetensors", "--branch", "z")
    assert empty.json("cat", "z", "z")["values"] == [[1.0, 2.0], [None, -1.0]]


def test_an_update_does_not_take_away_tensors_that_were_not_chosen(mp: Command, tmp_path: Path) -> None:
    whole, some = tmp_path / "whole", tmp_path / "some"
    write_checkpoint(tmp_path / "one", {"a": np.zeros(3, np.float32), "b": np.ones(3, np.float32)})
    mp("add", tmp_path / "one", "--branch", "one")
    mp("checkout", "one", whole)
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert "1 tensors more" in mp("checkout", "one", whole, "--update", "--tensor", "a", code=2).err
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before
    mp("checkout", "one", some, "--tensor", "a")
    mp("checkout", "one", some, "--update", "--tensor", "a")
    assert list(read_safetensors(some / "model.safetensors")) == ["a"]


def test_an_author_is_one_line(mp: Command, merge_words: Callable[..., list[str]]) -> None:
    ended = mp("merge", *merge_words("linear"), "--branch", "m", code=2, MP_AUTHOR="x\nDate: 1970")
    assert "MP_AUTHOR" in ended.err
    assert "m" not in mp("branch").out.split()
