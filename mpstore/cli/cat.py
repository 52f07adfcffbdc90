"""`mp cat`: print a tensor, or save it as .npy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mpstore.cli.options import verb
from mpstore.cli.quantities import figure, size
from mpstore.cli.session import Session

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MOST_JSON_VALUES = 4096


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
    import numpy as np

    value: dict[str, Any] = {
        "tensor": tensor,
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "raw_bytes": array.nbytes,
    }
    plain = _plain(array)
    if plain.dtype.kind == "f":
        finite = plain[np.isfinite(plain)].astype(np.float64)
        value["nonfinite"] = int(plain.size - finite.size)
        if finite.size:
            value |= {"min": finite.min(), "max": finite.max(), "mean": finite.mean(), "norm": _norm(finite)}
            value |= {key: float(value[key]) for key in ("min", "max", "mean", "norm")}
    return value


def _norm(finite: npt.NDArray[np.float64]) -> float:
    return float((finite * finite).sum() ** 0.5)


def _title(value: dict[str, Any]) -> str:
    shape = "×".join(map(str, value["shape"])) or "scalar"
    words = [f"{value['tensor']}: {value['dtype']} {shape}, {size(value['raw_bytes'])}"]
    words += [f"{key} {figure(value[key])}" for key in ("min", "max", "mean", "norm") if key in value]
    if value.get("nonfinite"):
        words.append(f"{value['nonfinite']} not finite")
    return ", ".join(words)
