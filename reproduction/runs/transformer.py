"""A character model of Python's standard library: a decoder-only Transformer, layer norms after the residuals.

The original Transformer (Vaswani et al. 2017) has its layer norms there, and it is what the papers say needs a warmup.
The other position, ahead of attention and feed-forward network and once more at the end (*pre-norm*), is a variant.
Functions of a dict of tensors; the layers are stacked in the first axis.
"""

from __future__ import annotations

import functools
import hashlib
import math
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

Params = dict[str, Any]

VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))
"""The characters that are told apart; any other is read as a question mark."""


class Size(NamedTuple):
    """Of the network."""

    layers: int
    width: int
    heads: int
    context: int


SIZE = Size(layers=6, width=32, heads=4, context=32)
"""The network of the experiments."""


class Corpus(NamedTuple):
    """Text as numbers of characters in VOCABULARY."""

    train: np.ndarray
    valid: np.ndarray
    digest: str
    """Of the text: it is of one Python release."""


@functools.cache
def corpus(held_out: int = 200_000) -> Corpus:
    """The modules of the standard library one after another, by name; the last characters are held out."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    text = np.frombuffer(b"".join(path.read_bytes() for path in paths), np.uint8)
    numbers = np.full(256, VOCABULARY.index("?"))
    numbers[np.frombuffer(VOCABULARY.encode(), np.uint8)] = np.arange(len(VOCABULARY))
    codes = numbers[text]
    return Corpus(codes[:-held_out], codes[-held_out:], hashlib.sha256(text.tobytes()).hexdigest()[:12])


def data_digest() -> str:
    """Return the digest of the text, under which results are kept."""
    return corpus().digest


def entropy() -> float:
    """Return that of single characters, in nats: the loss of a model that sees no context."""
    share = np.bincount(corpus().train, minlength=len(VOCABULARY)) / len(corpus().train)
    return float(-np.sum(share * np.log(share, where=share > 0, out=np.zeros_like(share))))


def windows(text: np.ndarray, starts: np.ndarray, length: int) -> tuple[Any, Any]:
    """Characters, and the character that follows each."""
    rows = torch.from_numpy(text[starts[:, None] + np.arange(length + 1)])
    return rows[:, :-1], rows[:, 1:]


def initial_params(size: Size, seed: int, *, pre_norm: bool = False) -> Params:
    """Uniform matrices of Glorot & Bengio 2010, as in the original; normal embeddings of variance 1/width.

    With ``pre_norm`` there are the parameters of a final layer norm, too: by them :func:`loss` knows the variant.
    """
    random = torch.Generator().manual_seed(seed)
    layers, width, _, context = size
    characters, inner = len(VOCABULARY), 4 * width

    def glorot(*shape: int, fan_out: int | None = None) -> Any:
        bound = math.sqrt(6 / (shape[-2] + (fan_out or shape[-1])))
        return (2 * torch.rand(shape, generator=random) - 1) * bound

    params = {
        "embedding": torch.randn(characters, width, generator=random) * width**-0.5,
        "position": torch.randn(context, width, generator=random) * width**-0.5,
        "query_key_value": glorot(layers, width, 3 * width, fan_out=width),
        "attention_out": glorot(layers, width, width),
        "attention_scale": torch.ones(layers, width),
        "attention_shift": torch.zeros(layers, width),
        "inner": glorot(layers, width, inner),
        "inner_bias": torch.zeros(layers, inner),
        "outer": glorot(layers, inner, width),
        "outer_bias": torch.zeros(layers, width),
        "outer_scale": torch.ones(layers, width),
        "outer_shift": torch.zeros(layers, width),
        "output": glorot(width, characters),
    }
    if pre_norm:
        params |= {"final_scale": torch.ones(width), "final_shift": torch.zeros(width)}
    return {name: p.requires_grad_() for name, p in params.items()}


STACKED = (
    *("query_key_value", "attention_out", "attention_scale", "attention_shift"),
    *("inner", "inner_bias", "outer", "outer_bias", "outer_scale", "outer_shift"),
)


def loss(params: Params, x: Any, y: Any, heads: int) -> Any:
    """Cross-entropy with the next character, in nats."""
    width = params["embedding"].shape[1]
    pre_norm = "final_scale" in params
    h = params["embedding"][x] * width**0.5 + params["position"]
    for layer in zip(*(params[name].unbind() for name in STACKED), strict=True):
        qkv, out, scale, shift, inner, inner_bias, outer, outer_bias, outer_scale, outer_shift = layer
        fed_by = inner, inner_bias, outer, outer_bias
        if pre_norm:
            h = h + attention(layer_norm(h, scale, shift), qkv, out, heads)
            h = h + feed_forward(layer_norm(h, outer_scale, outer_shift), *fed_by)
        else:
            h = layer_norm(h + attention(h, qkv, out, heads), scale, shift)
            h = layer_norm(h + feed_forward(h, *fed_by), outer_scale, outer_shift)
    if pre_norm:
        h = layer_norm(h, params["final_scale"], params["final_shift"])
    return functional.cross_entropy((h @ params["output"]).flatten(0, 1), y.flatten())


def layer_norm(h: Any, scale: Any, shift: Any) -> Any:
    """Each position to mean 0 and variance 1 over its numbers, then scaled and shifted."""
    return functional.layer_norm(h, h.shape[-1:], scale, shift)


def attention(h: Any, qkv: Any, out: Any, heads: int) -> Any:
    """Causal self-attention: each position sees itself and those before it."""
    q, k, v = (h @ qkv).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return attended.transpose(1, 2).flatten(2) @ out


def feed_forward(h: Any, inner: Any, inner_bias: Any, outer: Any, outer_bias: Any) -> Any:
    """Two layers with a rectifier between them, at each position."""
    return functional.relu(h @ inner + inner_bias) @ outer + outer_bias
