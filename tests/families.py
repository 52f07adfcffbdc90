"""Tiny checkpoint families in the Hugging Face layout, written byte by byte for the tests.

Relies on numpy and ml_dtypes; writes its own safetensors so that the code under test is not its own judge.
Promises: the same seed gives the same bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

NAMES = {
    np.dtype(ml_dtypes.bfloat16): "BF16",
    np.dtype(np.float16): "F16",
    np.dtype(np.float32): "F32",
    np.dtype(np.float64): "F64",
    np.dtype(np.int64): "I64",
    np.dtype(np.int8): "I8",
    np.dtype(np.bool_): "BOOL",
    np.dtype(ml_dtypes.float8_e4m3fn): "F8_E4M3",
}
DTYPES = {name: dtype for dtype, name in NAMES.items()}
HIDDEN, LAYERS, VOCABULARY, INTERMEDIATE = 64, 2, 128, 96

Tensors = Mapping[str, np.ndarray]


def safetensors_bytes(tensors: Tensors, header: Mapping[str, Any] | None = None) -> bytes:
    """A safetensors file; `header` replaces entries of the true one (to lie), or removes them (None)."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        entries[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    entries.update(header or {})
    text = json.dumps({name: entry for name, entry in entries.items() if entry is not None}).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """What a plain reader sees in a safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    found = {}
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__":
            start, stop = (8 + length + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(raw[start:stop], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


def read_checkpoint(directory: Path) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint directory."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(directory.glob("*.safetensors")):
        found.update(read_safetensors(path))
    return found


def write_checkpoint(directory: Path, tensors: Tensors, shards: int = 2) -> Path:
    """A sharded checkpoint: safetensors files, index, config, tokenizer."""
    directory.mkdir(parents=True)
    names = list(tensors)
    weight_map = {}
    for shard in range(shards):
        file_name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        chosen = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        (directory / file_name).write_bytes(safetensors_bytes({name: tensors[name] for name in chosen}))
        weight_map.update(dict.fromkeys(chosen, file_name))
    total = sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (directory / "config.json").write_text(json.dumps(llama_config(), indent=2))
    (directory / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"vocab": {}}}))
    return directory


def llama_config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


def llama_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("q", "k", "v", "o"):
            shapes[f"{prefix}.self_attn.{name}_proj.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{prefix}.mlp.gate_proj.weight"] = (INTERMEDIATE, HIDDEN)
        shapes[f"{prefix}.mlp.up_proj.weight"] = (INTERMEDIATE, HIDDEN)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        shapes[f"{prefix}.input_layernorm.weight"] = (HIDDEN,)
        shapes[f"{prefix}.post_attention_layernorm.weight"] = (HIDDEN,)
    return {**shapes, "model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def base_tensors(dtype: str = "BF16", seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        name: (
            np.ones(shape, np.float32)
            if len(shape) == 1
            else (generator.standard_normal(shape) * 0.05).astype(np.float32)
        ).astype(DTYPES[dtype])
        for name, shape in llama_shapes().items()
    }


def fine_tuned(
    base: Tensors, seed: int, untouched: Iterable[str] = (), scale: float = 2e-3
) -> dict[str, np.ndarray]:
    """The base moved a little, layers by different amounts; tensors named in `untouched` stay as they are."""
    generator = np.random.default_rng(seed)
    still = set(untouched)
    moved = {}
    for name, array in base.items():
        step = generator.standard_normal(array.shape) * scale * generator.uniform(0.1, 3.0)
        moved[name] = array if name in still else (array.astype(np.float32) + step).astype(array.dtype)
    return moved


@dataclass(frozen=True)
class Family:
    """Directories of a base and its experts."""

    base: Path
    experts: Mapping[str, Path]


def write_family(
    root: Path, dtype: str = "BF16", experts: Iterable[str] = ("math", "code"), seed: int = 0
) -> Family:
    """A base and experts; each expert leaves one layer's attention untouched."""
    base = base_tensors(dtype, seed)
    directories = {}
    for number, name in enumerate(experts):
        layer = f"model.layers.{number % LAYERS}.self_attn."
        untouched = [key for key in base if key.startswith(layer)]
        directories[name] = write_checkpoint(root / name, fine_tuned(base, seed + 1 + number, untouched))
    return Family(write_checkpoint(root / "base", base), directories)
