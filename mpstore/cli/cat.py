"""`mp cat`: print a tensor, or save it as .npy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from mpstore.cli.options import verb
from mpstore.cli.quantities import figure, size
from mpstore.cli.session import Session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MOST_JSON_VALUES = 4096
_PIECE_ELEMENTS = 1 << 20


@verb(
    "cat",
    """
  mp cat merged model.norm.weight
  mp cat merged model.norm.weight -o norm.npy
""",
)
@click.argument("revision", metavar="REV")
@click.argument("tensor", metavar="TENSOR")
@click.option("-o", "--output", metavar="F.npy", help="Save the tensor as a numpy file.")
def command(session: Session, revision: str, tensor: str, output: str | None) -> None:
    """Print the tensor TENSOR of REV, or save it.

    .npy has no bfloat16 or float8: these are saved as float32, which holds every value of them exactly. With
    --json the values are in the document up to 4096 of them.
    """
    path = None if output is None else session.output_path(output, "-o")
    repository = session.repository()
    array = repository.tensors(revision)[tensor]
    value = _document(tensor, array)
    if path is not None:
        repository.save_tensor(revision, tensor, path)
        session.report(value | {"output": output}, [f"{output}: {_title(value)}"])
        return
    value["values"] = _plain(array).tolist() if array.size <= _MOST_JSON_VALUES else None
    session.answer(value, [_title(value), *str(_plain(array)).splitlines()])


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """In a type that numpy prints as numbers."""
    return array if array.dtype.isbuiltin == 1 else array.astype("float32")


def _document(tensor: str, array: npt.NDArray[np.generic]) -> dict[str, Any]:
    flat = array.reshape(-1)
    value: dict[str, Any] = {
        "tensor": tensor,
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "raw_bytes": array.nbytes,
    }
    if _plain(flat[:0]).dtype.kind == "f":
        value |= _figures(flat)
    return value


def _figures(flat: npt.NDArray[Any]) -> dict[str, Any]:
    """Of the finite values, piece by piece, since what is computed with takes four times as much memory."""
    import numpy as np

    least, most, totals, squares, count = math.inf, -math.inf, [], [], 0
    for start in range(0, flat.size, _PIECE_ELEMENTS):
        plain = _plain(flat[start : start + _PIECE_ELEMENTS])
        finite = plain[np.isfinite(plain)].astype(np.float64)
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
            with np.errstate(over="ignore"):  # values near the largest of a float64: the norm is infinite
                totals.append(float(finite.sum()))
                squares.append(float((finite * finite).sum()))
            count += finite.size
    value: dict[str, Any] = {"nonfinite": flat.size - count}
    if count:
        norm = math.fsum(squares) ** 0.5
        value |= {"min": least, "max": most, "mean": math.fsum(totals) / count, "norm": norm}
    return value


def _title(value: dict[str, Any]) -> str:
    shape = "×".join(map(str, value["shape"])) or "scalar"
    words = [f"{value['tensor']}: {value['dtype']} {shape}, {size(value['raw_bytes'])}"]
    words += [f"{key} {figure(value[key])}" for key in ("min", "max", "mean", "norm") if key in value]
    if value.get("nonfinite"):
        words.append(f"{value['nonfinite']} not finite")
    return ", ".join(words)
