"""Run by the Python that has mergekit: `mergekit_side.py IN.npz CASES.json OUT.npz`. Imports nothing of ours.

A case: {"operator", "base": array name or null, "models": [array names], "params": {name: value or list}}.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from mergekit.merge_methods import merge_tensors

torch.set_num_threads(1)
arrays = np.load(sys.argv[1])
results = {}
for number, case in enumerate(json.loads(pathlib.Path(sys.argv[2]).read_text())):
    names = ([case["base"]] if case["base"] else []) + case["models"]
    tensors = [torch.from_numpy(arrays[name].copy()) for name in names]
    params = {}
    for key, value in case["params"].items():
        if isinstance(value, list):  # one a model; the base comes first and has none
            params[key] = {i + bool(case["base"]): one for i, one in enumerate(value)}
        else:
            params[key] = value
    merged = merge_tensors(
        tensors, case["operator"], parameters=params, base_index=0 if case["base"] else None, name="w"
    )
    results[str(number)] = merged.numpy()
np.savez(sys.argv[3], **results)
