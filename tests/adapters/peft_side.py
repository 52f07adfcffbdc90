"""Run by the Python that has PEFT: `peft_side.py OUT_DIR`. Writes adapters, bases and merged weights.

For each case: OUT/<case>/{base.npz, merged.npz, adapter/...}. Imports nothing of ours.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(13, 8)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"q": nn.Linear(8, 8), "up": nn.Linear(8, 20)}) for _ in range(2)
        )
        self.turned = Conv1D(12, 8)
        self.conv = nn.Conv2d(3, 5, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return x


LAYERS = ["up", "turned", "conv", "embed"]
# PEFT decides on each module by its type; of a square weight in a mixed model only the type could tell.
CASES = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["q", "up"]},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["q", "up"]},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q", "up"],
        "rank_pattern": {"layers.1.q": 2},
        "alpha_pattern": {"layers.0.up": 3},
    },
    "everything": {"r": 3, "lora_alpha": 5, "target_modules": LAYERS, "modules_to_save": ["head"]},
    "turned": {"r": 3, "lora_alpha": 5, "target_modules": ["turned"], "fan_in_fan_out": True},
    "regex": {"r": 4, "lora_alpha": 8, "target_modules": ["q", "up"], "alpha_pattern": {r".*\.[01]\.q": 3}},
}
out = Path(sys.argv[1])
for name, settings in CASES.items():
    torch.manual_seed(7)
    model = Small()
    base = {key: value.detach().numpy().copy() for key, value in model.state_dict().items()}
    wrapped = get_peft_model(model, LoraConfig(**settings))
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    wrapped.save_pretrained(out / name / "adapter")
    merged = wrapped.merge_and_unload().state_dict()
    merged = {key: value.numpy() for key, value in merged.items() if key in base}
    np.savez(out / name / "base.npz", **base)
    np.savez(out / name / "merged.npz", **merged)
    print(name, sorted(load_file(out / name / "adapter" / "adapter_model.safetensors")))
