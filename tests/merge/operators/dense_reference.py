"""Every operator's formula, dense and in float64, written from docs and papers and not from the code.

Each function takes (base, models, weights/params of the experts, global params) as float64 arrays of the
tensor's shape. Selections by magnitude look at |x - b| in float32, as the formula's inputs are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from blake3 import blake3

Params = dict[str, Any]


def _delta32(b: np.ndarray, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        d = np.float32(x) - np.float32(b)
    return np.where(np.float32(x) == np.float32(b), np.float32(0), d)


def _sum(b, deltas, experts, p, elect, normalize_default):
    y = [e.get("weight", 1.0) * d for d, e in zip(deltas, experts, strict=True)]
    if elect:
        s = np.where(sum(y) >= 0, 1.0, -1.0)
        m = [np.sign(one) == s for one in y]
        total = sum(one * k for one, k in zip(y, m, strict=True))
        weights = sum(e.get("weight", 1.0) * k for e, k in zip(experts, m, strict=True))
        weights = np.where(weights == 0, 1.0, weights)
    else:
        total = sum(y)
        weights = sum(e.get("weight", 1.0) for e in experts)
        weights = 1.0 if abs(weights) < 1e-8 else weights
    if p.get("normalize", normalize_default):
        total = total / weights
    return b + p.get("lambda", 1.0) * total


def linear(_b, xs, experts, p):
    w = [e["weight"] for e in experts]
    total = sum(wi * x for wi, x in zip(w, xs, strict=True))
    return total / sum(w) if p.get("normalize", True) else total


def average(_b, xs, _experts, _p):
    return sum(xs) / len(xs)


def task_arithmetic(b, xs, experts, p):
    return _sum(b, [x - b for x in xs], experts, p, False, False)


def _largest(b, x, density):
    d = _delta32(b, x)
    if density >= 1 or d.size == 0:
        return x - b
    k = max(1, math.floor(density * d.size))
    threshold = np.sort(np.abs(d).ravel())[::-1][k - 1]
    return np.where(np.abs(d) >= threshold, x - b, 0.0)


def _restored(before, after, p):
    """The trimmed delta, scaled so that the sum of its magnitudes is what it was."""
    sums = np.abs(before).sum(), np.abs(after).sum()
    return after * (sums[0] / sums[1]) if p.get("rescale") and min(sums) >= 1e-7 else after


def ties(b, xs, experts, p):
    deltas = [_largest(b, x, e.get("density", 1.0)) for x, e in zip(xs, experts, strict=True)]
    deltas = [_restored(x - b, d, p) for x, d in zip(xs, deltas, strict=True)]
    return _sum(b, deltas, experts, p, True, True)


def _crumbs(b, x, e):
    d = _delta32(b, x)
    density, n = e.get("density", 1.0), d.size
    if density >= 1 or n == 0:
        return x - b
    kept, top = math.floor(density * n), math.floor(e.get("gamma", 0.01) * n)
    bottom = n - kept - top
    if bottom < 0:
        top, bottom = top + bottom, 0
    if kept == 0:
        return 0.0 * x
    inside = np.sort(np.abs(d).ravel())[bottom : n - top]
    return np.where((np.abs(d) >= inside[0]) & (np.abs(d) <= inside[-1]), x - b, 0.0)


def breadcrumbs(b, xs, experts, p):
    deltas = [_restored(x - b, _crumbs(b, x, e), p) for x, e in zip(xs, experts, strict=True)]
    return _sum(b, deltas, experts, p, False, False)


def breadcrumbs_ties(b, xs, experts, p):
    deltas = [_restored(x - b, _crumbs(b, x, e), p) for x, e in zip(xs, experts, strict=True)]
    return _sum(b, deltas, experts, p, True, False)


def draws(seed: int, name: str, manifest: bytes, n: int) -> np.ndarray:
    """Uniform draws in [0, 1) as docs/operators.md describes them, with Python's integers."""
    text = name.encode()
    message = seed.to_bytes(8, "little") + len(text).to_bytes(8, "little") + text + manifest
    digest = blake3(message, derive_key_context="mpstore 2026-11-22 random mask").digest()
    state = int.from_bytes(digest[:8], "little")
    result = []
    for _ in range((n + 1) // 2):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        z ^= z >> 31
        result += [z % 2**32 / 2**32, (z >> 32) / 2**32]
    return np.array(result[:n])


def _rescaled(d, kept, how, chance):
    if how == "true":
        return np.where(kept, d / chance, 0.0)
    if how == "l1":
        before, after = np.abs(d).sum(), np.abs(d[kept]).sum()
        return np.where(kept, d, 0.0) * (before / after if before >= 1e-7 and after >= 1e-7 else 1.0)
    return np.where(kept, d, 0.0)


def _dare(b, xs, experts, p):
    deltas = []
    for x, e in zip(xs, experts, strict=True):
        density = e.get("density", 1.0)
        kept = draws(p["seed"], p["name"], e["key"], x.size).reshape(x.shape) < density
        deltas.append(_rescaled(x - b, kept, p.get("rescale", "true"), density) if density < 1 else x - b)
    return deltas


def dare_linear(b, xs, experts, p):
    return _sum(b, _dare(b, xs, experts, p), experts, p, False, False)


def dare_ties(b, xs, experts, p):
    return _sum(b, _dare(b, xs, experts, p), experts, p, True, False)


def _della(b, xs, experts, p):
    deltas = []
    for x, e in zip(xs, experts, strict=True):
        density, epsilon = e.get("density", 1.0), e.get("epsilon", 0.15)
        if density >= 1 or x.size == 0:
            deltas.append(x - b)
            continue
        rows = _delta32(b, x).reshape(-1, x.shape[-1] if x.ndim else 1)
        chance = np.empty(rows.shape)
        for row, d in zip(chance, rows, strict=True):
            for r, j in enumerate(sorted(range(d.size), key=lambda j, d=d: (abs(d[j]), j))):
                row[j] = density - epsilon + 2 * epsilon * r / (d.size - 1) if d.size > 1 else density
        chance = chance.reshape(x.shape)
        kept = draws(p["seed"], p["name"], e["key"], x.size).reshape(x.shape) < chance
        deltas.append(_rescaled(x - b, kept, p.get("rescale", "true"), chance))
    return deltas


def della_linear(b, xs, experts, p):
    return _sum(b, _della(b, xs, experts, p), experts, p, False, False)


def della(b, xs, experts, p):
    return _sum(b, _della(b, xs, experts, p), experts, p, True, True)


def slerp(b, xs, _experts, p):
    (x,), t = xs, p["t"]
    nb, nx = np.linalg.norm(b), np.linalg.norm(x)
    cos = (b / (nb if nb > 1e-8 else 1) * (x / (nx if nx > 1e-8 else 1))).sum()
    if abs(cos) > 0.9995:
        return (1 - t) * b + t * x
    theta = math.acos(cos)
    return (math.sin((1 - t) * theta) * b + math.sin(t * theta) * x) / math.sin(theta)


def _arc(v, w, t, axis):
    """Spherical interpolation along an axis (None: flattened)."""
    keep = {"axis": axis, "keepdims": True}
    nv = np.maximum(np.sqrt((v * v).sum(**keep)), 1e-7)
    nw = np.maximum(np.sqrt((w * w).sum(**keep)), 1e-7)
    cos = np.clip((v / nv * (w / nw)).sum(**keep), -1, 1)
    flat = 1 - cos**2 <= 1e-13
    theta = np.arccos(np.where(flat, 0, cos))
    arc = (np.sin((1 - t) * theta) * v + np.sin(t * theta) * w) / np.sin(theta)
    return np.where(flat, (1 - t) * v + t * w, arc)


def nuslerp(b, xs, experts, p):
    w = [e["weight"] for e in experts]
    t = 0.5 if abs(sum(w)) < 1e-6 else w[1] / sum(w)
    row_axis = 0 if p.get("nuslerp_row_wise", False) else -1
    axis = None if p.get("nuslerp_flatten", True) else row_axis
    if p.get("vectors", "deltas") == "weights":
        return _arc(xs[0], xs[1], t, axis)
    return b + _arc(xs[0] - b, xs[1] - b, t, axis)


def multislerp(b, xs, experts, p):
    on_weights = p.get("vectors", "deltas") == "weights"
    if len(xs) == 1:
        return xs[0]
    vs = [x if on_weights else x - b for x in xs]
    w = np.array([e["weight"] for e in experts], float)
    w = w / w.sum() if p.get("normalize_weights", True) else w
    norms = [np.linalg.norm(v) for v in vs]
    us = [v / (n + 1e-8) for v, n in zip(vs, norms, strict=True)]
    m = sum(wi * u for wi, u in zip(w, us, strict=True))
    if np.linalg.norm(m) < 1e-8:
        result = sum(wi * v for wi, v in zip(w, vs, strict=True))
    else:
        m = m / np.linalg.norm(m)
        tangent = sum(wi * (u - (u * m).sum() * m) for wi, u in zip(w, us, strict=True))
        tau = np.linalg.norm(tangent) + 1e-8
        length = sum(wi * n for wi, n in zip(w, norms, strict=True))
        result = (m * math.cos(tau) + tangent * math.sin(tau) / tau) * length
    return result if on_weights else b + result


def karcher(b, xs, _experts, p):
    if len(xs) == 1:
        return xs[0]
    tol = p.get("tol", 1e-5)
    norms = [np.linalg.norm(x) for x in xs]
    us = [x / n for x, n in zip(xs, norms, strict=True) if n > tol]
    if not us:
        return 0.0 * b
    m = sum(us) / len(us)
    m = m / np.linalg.norm(m) if np.linalg.norm(m) >= tol else us[0]
    for _ in range(p.get("max_iter", 10)):
        tangent = np.zeros_like(m)
        for u in us:
            cos = np.clip((u * m).sum(), -1, 1)
            theta = math.acos(cos)
            if theta >= tol and math.pi - theta > 1e-7:
                tangent += theta / math.sin(theta) * (u - cos * m) / len(us)
        step = np.linalg.norm(tangent)
        if step < tol:
            break
        m = math.cos(step) * m + math.sin(step) * tangent / step
        m = m / np.linalg.norm(m)
    return m * sum(norms) / len(norms)


def model_stock(b, xs, _experts, p):
    rows = p.get("filter_wise", False)
    shape = (-1, b.shape[-1] if b.ndim else 1) if rows else (1, -1)
    ds = [(x - b).reshape(shape) for x in xs]
    cosines = []
    for u, v in itertools.combinations(ds, 2):
        norms = np.linalg.norm(u, axis=-1) * np.linalg.norm(v, axis=-1)
        cosines.append(np.clip((u * v).sum(axis=-1) / np.maximum(norms, 1e-6), -1, 1))
    c, n = np.mean(cosines, axis=0), len(xs)
    divisor = 1 + (n - 1) * c
    t = np.where(np.abs(divisor) < 1e-6, 0.0, n * c / np.where(np.abs(divisor) < 1e-6, 1, divisor))[:, None]
    mean = sum(x.reshape(shape) for x in xs) / n
    return (t * mean + (1 - t) * b.reshape(shape)).reshape(b.shape)


def sce(b, xs, _experts, p):
    if b.size == 0:
        return b
    ds = np.stack([np.float64(_delta32(b, x)) for x in xs]).reshape(len(xs), -1)
    share = p.get("select_topk", 1.0)
    if share < 1:
        variance = np.float32(ds.var(axis=0))
        k = int(np.count_nonzero(variance) * share)
        keep = np.zeros(b.size, bool)
        keep[sorted(range(b.size), key=lambda j: (-variance[j], j))[:k]] = True
        ds = ds * keep
    energy = (ds**2).mean(axis=1)
    w = energy / energy.sum() if energy.sum() >= 1e-6 else np.full(len(xs), 1 / len(xs))
    s = np.where(np.float32(ds).sum(axis=0) >= 0, 1, -1)
    m = (np.sign(ds) == s) * w[:, None]
    return b + ((ds * m).sum(axis=0) / np.maximum(m.sum(axis=0), 1e-6)).reshape(b.shape)


def nearswap(b, xs, _experts, p):
    (x,) = xs
    w = np.clip(p["t"] / np.maximum(np.abs(x - b), 1e-6), 0, 1)
    return (1 - w) * b + w * x


def passthrough(b, xs, _experts, p):
    return (xs[0] if xs else b) * p.get("scale", 1.0)


def tsv(b, xs, _experts, p):
    ds = [np.float64(_delta32(b, x)) for x in xs]
    if b.ndim != 2 or 0 in b.shape:
        return b + p.get("lambda", 1.0) * sum(ds) / len(ds)
    k = math.ceil(min(b.shape) / len(ds))
    us, ss, vs = [], [], []
    for d in ds:
        u, s, vt = np.linalg.svd(d, full_matrices=False)
        rank = min(k, int((s > s[0] * max(b.shape) * 2.0**-23).sum()))  # float32's rounding is no rank
        us.append(u[:, :rank])
        ss.append(s[:rank])
        vs.append(vt[:rank].T)
    if not sum(s.size for s in ss):
        return b

    def polar(a):
        u, s, vt = np.linalg.svd(a, full_matrices=False)
        r = int((s > s[0] * max(a.shape) * np.finfo(float).eps).sum())
        return u[:, :r] @ vt[:r]

    u, v = polar(np.hstack(us)), polar(np.hstack(vs))
    return b + p.get("lambda", 1.0) * u @ np.diag(np.concatenate(ss)) @ v.T


REFERENCE: dict[str, Callable[..., np.ndarray]] = {
    f.__name__: f
    for f in (
        linear,
        average,
        task_arithmetic,
        ties,
        dare_linear,
        dare_ties,
        breadcrumbs,
        breadcrumbs_ties,
        della_linear,
        della,
        slerp,
        nuslerp,
        multislerp,
        karcher,
        model_stock,
        sce,
        nearswap,
        passthrough,
        tsv,
    )
}
