"""Run by the Python that has mergekit: evaluates settings as its recipes do. Imports nothing of ours.

stdin: [[setting, tensor name, t], ...] as JSON; stdout: [value, ...].
"""

import json
import sys

from mergekit.config import InputModelDefinition, evaluate_setting


def plain(value):
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


found = []
for setting, name, t in json.load(sys.stdin):
    entry = InputModelDefinition(model="m", parameters={"p": setting})
    found.append(evaluate_setting(name, entry.parameters["p"], t, validate=plain))
json.dump(found, sys.stdout)
