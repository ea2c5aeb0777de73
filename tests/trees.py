"""What many tests step: every method, a small nested tree, and the exact bits of a tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import optree

from adamod_array import Adam, AdaMod, DiffGrad, DiffMod, Method, Momentum, RAdam
from tests.backend import Backend
from tests.compare import assert_close

METHODS: dict[str, Method] = {
    "adam": Adam(),
    "adam-eps_root": Adam(eps=0.0, eps_root=1e-8),
    "adam-amsgrad": Adam(amsgrad=True),
    "adamod": AdaMod(),
    "adamod-hold_idle": AdaMod(hold_idle=True),
    "adamod-reference": AdaMod(variant="reference"),
    "radam": RAdam(),
    "radam-eps_root": RAdam(eps=0.0, eps_root=1e-8),
    "radam-skip": RAdam(below="skip"),
    "radam-reference": RAdam(variant="reference"),
    "momentum": Momentum(),
    "momentum-nesterov": Momentum(nesterov=True),
    "diffgrad": DiffGrad(),
    "diffmod": DiffMod(),
}
"""Every built-in method in each of its forms."""


def values(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Numbers of both signs and of different size, none of them zero, each one exact in 8 bits."""
    rng = np.random.default_rng(seed)
    signed = rng.integers(16, 32, shape) * rng.choice([-1.0, 1.0], shape)
    return np.asarray(np.ldexp(signed, rng.integers(-8, 0, shape)))


def tree(backend: Backend, dtype: str = "float32", seed: int = 0) -> dict[str, Any]:
    """``{'b': (2,), 'layers': [{'w': (2, 3)}, {'w': (3,)}]}`` of :func:`values`."""
    return {
        "layers": [
            {"w": backend.array(values(2, 3, seed=seed), dtype)},
            {"w": backend.array(values(3, seed=seed + 1), dtype)},
        ],
        "b": backend.array(values(2, seed=seed + 2), dtype),
    }


def leaves(x: Any) -> list[Any]:
    """The leaves of a tree, None among them."""
    return list(optree.tree_leaves(x, none_is_leaf=True))


def bits(backend: Backend, x: Any) -> list[Any]:
    """Path, dtype, shape and bytes of every leaf: equal for two trees if and only if their bits are."""
    paths, arrays, _ = optree.tree_flatten_with_path(x, none_is_leaf=True)
    hosts = [leaf if leaf is None or isinstance(leaf, int) else backend.numpy(leaf) for leaf in arrays]
    described = [(h.dtype.name, h.shape, h.tobytes()) if isinstance(h, np.ndarray) else h for h in hosts]
    return list(zip(paths, described, strict=True))


def assert_same(backend: Backend, actual: Any, expected: Any, *, ulp: float = 0) -> None:
    """Two trees of the same containers and dtypes, whose numbers are equal (or within ``ulp``)."""
    pair = [optree.tree_flatten(x, none_is_leaf=True) for x in (actual, expected)]
    assert pair[0][1] == pair[1][1]
    for a, e in zip(pair[0][0], pair[1][0], strict=True):
        if a is None or isinstance(a, int):
            assert a == e
        else:
            assert a.dtype == e.dtype
            assert_close(backend.numpy(a), backend.numpy(e), ulp=ulp)
