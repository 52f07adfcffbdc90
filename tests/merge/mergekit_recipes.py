"""Run by the Python that has mergekit: `mergekit_recipes.py DIR`, DIR/recipes/* to DIR/theirs/*. Offline."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge

torch.set_num_threads(1)
root = Path(sys.argv[1])
os.chdir(root)
for recipe in sorted((root / "recipes").glob("*.yml")):
    config = MergeConfiguration.model_validate(yaml.safe_load(recipe.read_text()))
    options = MergeOptions(cuda=False, copy_tokenizer=False, write_model_card=False)
    run_merge(config, out_path=str(root / "theirs" / recipe.stem), options=options)
