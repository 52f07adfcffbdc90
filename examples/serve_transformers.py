"""Loads a model from `mp serve` with transformers, and compares it with the same one loaded from a directory.

    mp serve --port 8000 &
    HF_ENDPOINT=http://127.0.0.1:8000 HF_HUB_DISABLE_XET=1 python examples/serve_transformers.py math DIR

`math` is a branch of the repository that is served, DIR what `mp checkout math DIR` wrote (or what was
added). Prints one JSON document; exits with 1 where a weight or an output differs by a bit. Imports nothing
of mpstore: it is what any user of transformers would run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import torch
from transformers import AutoModel


def outputs(model: torch.nn.Module, vocabulary: int) -> torch.Tensor:
    """The last hidden state of two made-up sentences."""
    ids = torch.arange(2, 34).reshape(2, 16) * 7 % vocabulary
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a branch, as the served repository knows it")
    parser.add_argument("directory", help="the same checkpoint on disk")
    parser.add_argument("--revision", default="main")
    chosen = parser.parse_args()
    if "HF_ENDPOINT" not in os.environ:
        parser.error("set HF_ENDPOINT to the address that `mp serve` prints")
    served = AutoModel.from_pretrained(chosen.name, revision=chosen.revision).eval()
    local = AutoModel.from_pretrained(chosen.directory).eval()
    pairs = zip(served.state_dict().items(), local.state_dict().items(), strict=True)
    differing = [a for (a, one), (b, other) in pairs if a != b or not torch.equal(one, other)]
    vocabulary = local.config.vocab_size
    found, expected = outputs(served, vocabulary), outputs(local, vocabulary)
    same = not differing and torch.equal(found, expected)
    document = {
        "class": type(served).__name__,
        "dtype": str(served.dtype),
        "parameters": sum(one.numel() for one in served.parameters()),
        "output_shape": list(found.shape),
        "output_norm": float(found.float().norm()),
        "differing_tensors": differing,
        "same": same,
    }
    print(json.dumps(document))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
