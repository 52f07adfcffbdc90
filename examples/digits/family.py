"""A real family, made by training: a digit classifier and fine-tunes of it, in the Hugging Face layout.

Relies on numpy, ml_dtypes, safetensors and scikit-learn's bundled digits (no download). A network of three
hidden layers learns upright digits; each expert goes on from it with another view of the same digits. About
ten seconds on two cores; the same weights run after run on one machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

Array = npt.NDArray[np.float32]
Weights = dict[str, Array]

WIDTH = 256
LAYERS = ((64, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, 10))
TEST_SHARE = 0.25

VIEWS: Mapping[str, Callable[[Array], Array]] = {
    "upright": lambda images: images,
    "inverted": lambda images: 1 - images,
    "mirrored": lambda images: images[:, :, ::-1],
    "turned": lambda images: np.rot90(images, axes=(1, 2)),
}
EXPERTS = tuple(name for name in VIEWS if name != "upright")


@dataclass(frozen=True)
class Digits:
    """Images float32 of shape (n, 8, 8) in 0..1 and labels of shape (n,)."""

    images: Array
    labels: npt.NDArray[np.int64]

    def seen_as(self, view: str) -> Array:
        return np.ascontiguousarray(VIEWS[view](self.images).reshape(len(self.images), 64))


def load() -> tuple[Digits, Digits]:
    """The digits, shuffled once and split into training and test."""
    bundle = load_digits()
    order = np.random.default_rng(7).permutation(len(bundle.target))
    images = (bundle.images[order] / 16).astype(np.float32)
    labels = bundle.target[order].astype(np.int64)
    split = int(len(labels) * TEST_SHARE)
    return Digits(images[split:], labels[split:]), Digits(images[:split], labels[:split])


def fresh_weights() -> Weights:
    """He initialisation."""
    generator = np.random.default_rng(0)
    weights: Weights = {}
    for number, (inputs, outputs) in enumerate(LAYERS):
        scale = np.sqrt(2 / inputs)
        weights[f"layers.{number}.weight"] = (generator.standard_normal((outputs, inputs)) * scale).astype(
            "f4"
        )
        weights[f"layers.{number}.bias"] = np.zeros(outputs, np.float32)
    return weights


def forward(weights: Weights, inputs: Array) -> list[Array]:
    """The activations of every layer; the last are the logits."""
    activations = [inputs]
    for number in range(len(LAYERS)):
        output = activations[-1] @ weights[f"layers.{number}.weight"].T + weights[f"layers.{number}.bias"]
        activations.append(np.maximum(output, 0) if number < len(LAYERS) - 1 else output)
    return activations


def accuracy(weights: Weights, digits: Digits, view: str) -> float:
    """Share of `digits`, seen as `view`, that the network names rightly."""
    logits = forward(weights, digits.seen_as(view))[-1]
    return float(np.mean(np.argmax(logits, axis=1) == digits.labels))


def gradients(weights: Weights, inputs: Array, labels: npt.NDArray[np.int64]) -> Weights:
    """Gradients of the mean cross-entropy."""
    activations = forward(weights, inputs)
    shifted = np.exp(activations[-1] - activations[-1].max(axis=1, keepdims=True))
    slope = shifted / shifted.sum(axis=1, keepdims=True)
    slope[np.arange(len(labels)), labels] -= 1
    slope /= len(labels)
    found: Weights = {}
    for number in reversed(range(len(LAYERS))):
        found[f"layers.{number}.weight"] = slope.T @ activations[number]
        found[f"layers.{number}.bias"] = slope.sum(axis=0)
        if number:
            slope = (slope @ weights[f"layers.{number}.weight"]) * (activations[number] > 0)
    return found


def train(
    weights: Weights, digits: Digits, views: tuple[str, ...], epochs: int, rate: float, seed: int
) -> Weights:
    """Adam with weight decay over the digits seen as each of `views`; `weights` itself stays as it is."""
    generator = np.random.default_rng(seed)
    inputs = np.concatenate([digits.seen_as(view) for view in views])
    labels = np.concatenate([digits.labels] * len(views))
    weights = {name: array.copy() for name, array in weights.items()}
    first = {name: np.zeros_like(array) for name, array in weights.items()}
    second = {name: np.zeros_like(array) for name, array in weights.items()}
    step = 0
    for _ in range(epochs):
        for batch in np.array_split(generator.permutation(len(labels)), max(1, len(labels) // 64)):
            step += 1
            for name, gradient in gradients(weights, inputs[batch], labels[batch]).items():
                first[name] += 0.1 * (gradient - first[name])
                second[name] += 0.001 * (gradient**2 - second[name])
                scaled = (first[name] / (1 - 0.9**step)) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
                weights[name] -= (rate * (scaled + 0.01 * weights[name])).astype(np.float32)
    return weights


def write(directory: Path, weights: Weights, view: str) -> None:
    """One checkpoint: two shards of bf16, their index, a config and a tokenizer-like preprocessor file."""
    directory.mkdir(parents=True)
    stored = {name: array.astype(ml_dtypes.bfloat16) for name, array in weights.items()}
    names = list(stored)
    weight_map = {}
    for shard, chosen in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file_name = f"model-{shard:05}-of-00002.safetensors"
        save_file({name: stored[name] for name in chosen}, directory / file_name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(chosen, file_name))
    total = sum(array.nbytes for array in stored.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    config = {"model_type": "digits-mlp", "layers": LAYERS, "torch_dtype": "bfloat16"}
    preprocessor = {"image_size": [8, 8], "scale": 1 / 16}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2))
    (directory / "README.md").write_text(f"# Digits, {view}\n\nTrained by examples/digits.\n")


def make(root: Path, smoke: bool = False) -> None:
    """Train and write `root/base` and one directory for each of EXPERTS; `smoke`: as briefly as that goes."""
    training, _ = load()
    base = train(fresh_weights(), training, ("upright",), epochs=2 if smoke else 8, rate=1e-3, seed=1)
    write(root / "base", base, "upright")
    rounded = {name: array.astype(ml_dtypes.bfloat16).astype(np.float32) for name, array in base.items()}
    for number, view in enumerate(EXPERTS):
        epochs = 1 if smoke else 6
        expert = train(rounded, training, ("upright", view), epochs=epochs, rate=3e-4, seed=2 + number)
        write(root / view, expert, view)
