"""Norms, clipping, finiteness and diagnostics: those of the whole tree, in every process."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch.distributed.tensor import DTensor, Partial, Replicate

from adamod_array import (
    adam_init,
    adamod_init,
    adamod_step,
    all_finite,
    clip_by_global_norm,
    diagnostics,
    global_norm,
)
from tests.scale.meshes import assert_same_bits, layouts, number, partial, spread, whole

ULP = 2.0**-22
"""Of float32 numbers of size 1, two: sums are taken in another order."""


def trees(mesh: Any) -> Any:
    """Trees of DTensors in all layouts beside a plain tensor, and the same of one process."""
    plain = {"w": number(6, 4), "uneven": number(5, 3), "one": number(1, 2), "plain": number(3)}
    for k, (first, second) in enumerate(
        itertools.pairwise([*layouts(mesh), [Partial()] * mesh.ndim, layouts(mesh)[0]])
    ):
        of = dict(zip(plain, (first, second, layouts(mesh)[k % 3], None), strict=True))
        yield {name: x if of[name] is None else spread(x, mesh, of[name]) for name, x in plain.items()}, plain


def case_norms(mesh: Any) -> None:
    for tree, plain in trees(mesh):
        norm, expected = global_norm(tree), global_norm(plain)
        assert not isinstance(norm, DTensor) and norm.shape == () and norm.dtype == torch.float32
        torch.testing.assert_close(norm, expected, rtol=ULP, atol=0.0)
        for limit in (float(expected) / 3, 1e6):
            clipped = clip_by_global_norm(tree, limit)
            for name, x in clip_by_global_norm(plain, limit).items():
                assert isinstance(clipped[name], DTensor) == (name != "plain")
                torch.testing.assert_close(whole(clipped[name]), x, rtol=2 * ULP, atol=0.0)


def case_norms_of_numbers_whose_squares_overflow(mesh: Any) -> None:
    placements = layouts(mesh)[1]
    for size in (1e-30, 1e30):
        x = number(6, 4).double() * size
        tree = {"w": spread(x.float(), mesh, placements)}
        torch.testing.assert_close(global_norm(tree).double(), x.norm(), rtol=2.0**-21, atol=0.0)
    for bad in (math.nan, math.inf):
        x = number(6, 4)
        x[5, 3] = bad  # the last process's
        norm = global_norm([spread(x, mesh, placements)])
        assert not math.isfinite(norm) and math.isnan(norm) == math.isnan(bad)
        (clipped,) = clip_by_global_norm([spread(x, mesh, placements)], 1.0)
        assert whole(clipped).isnan().all()


def case_finiteness(mesh: Any) -> None:
    """One process's number is everybody's, also where a sum makes it."""
    for tree, _ in trees(mesh):
        found = all_finite(tree)
        assert not isinstance(found, DTensor) and found.dtype == torch.bool and bool(found)
    for placements in layouts(mesh):
        for bad in (math.nan, math.inf, 1e20):
            x = number(6, 4)
            x[5, 3] = bad
            assert not all_finite({"a": number(2), "w": spread(x, mesh, placements)})
    half = torch.full((6, 4), 1e19)
    assert all_finite([spread(half, mesh, layouts(mesh)[1])])
    if mesh.size() == 1:
        return
    each = DTensor.from_local(half, mesh, [Partial()] * mesh.ndim)  # of 2e19 the square is infinite
    assert not all_finite([each])
    p = spread(number(6, 4), mesh, layouts(mesh)[1])
    for donate in (False, True):
        state = adamod_step(adamod_init(p), each, where=all_finite, donate=donate)
        assert (state.step, state.skipped) == (0, 1)
        assert_same_bits(state.params, number(6, 4), "not stepped")


def case_a_step_with_max_norm(mesh: Any) -> None:
    """Has the bits of one with gradients that are clipped before, and those of one process to the order of a sum."""
    for tree, plain in trees(mesh):
        layout = [Replicate()] * mesh.ndim
        params = {name: x if name == "plain" else spread(x, mesh, layout) for name, x in plain.items()}
        limit = float(global_norm(plain)) / 2
        state = adamod_step(adamod_init(params, lr=0.1), tree, max_norm=limit, where=all_finite)
        before = {name: g.redistribute(mesh, layout) if isinstance(g, DTensor) else g for name, g in tree.items()}
        clipped = adamod_step(adamod_init(params, lr=0.1), clip_by_global_norm(before, limit))
        alone = adamod_step(adamod_init(plain, lr=0.1), plain, max_norm=limit)
        for name, x in state.params.items():
            assert_same_bits(x, clipped.params[name], name)
            torch.testing.assert_close(whole(state.slots["m"][name]), alone.slots["m"][name], rtol=2 * ULP, atol=0.0)


def case_diagnostics(mesh: Any) -> None:
    for placements in layouts(mesh):
        params = {"w": number(6, 4), "uneven": number(5, 3), "plain": number(3), "none": None}
        whole_on_each = "plain", "none"
        spread_out = {name: x if name in whole_on_each else spread(x, mesh, placements) for name, x in params.items()}
        state: Any = adamod_init(spread_out, beta3=0.5)
        alone: Any = adamod_init(params, beta3=0.5)
        for t in range(3):
            grads = {name: x if x is None else number(*x.shape, seed=t) for name, x in params.items()}
            theirs = {name: x if name in whole_on_each else partial(x, mesh) for name, x in grads.items()}
            (old, state), (old_alone, alone) = (
                (each, adamod_step(each, g)) for each, g in ((state, theirs), (alone, grads))
            )
        fraction = diagnostics.bounded_fraction(state)
        assert not isinstance(fraction, DTensor) and 0 < fraction < 1
        assert_same_bits(fraction, diagnostics.bounded_fraction(alone), f"{placements}")
        pairs = [
            (diagnostics.effective_rates(state), diagnostics.effective_rates(alone)),
            (diagnostics.update_magnitudes(old, state), diagnostics.update_magnitudes(old_alone, alone)),
        ]
        for actual, expected in pairs:
            assert actual["none"] is None
            for name in ("w", "uneven", "plain"):
                assert name == "plain" or actual[name].placements == tuple(placements)
                torch.testing.assert_close(whole(actual[name]), expected[name], rtol=4 * ULP, atol=0.0)
            counts, theirs = diagnostics.histogram(actual).counts, diagnostics.histogram(expected).counts
            assert not isinstance(counts, DTensor) and torch.equal(counts, theirs)


def case_a_norm_that_is_differentiated(mesh: Any) -> None:
    for placements in layouts(mesh):
        x = spread(number(6, 4), mesh, placements).requires_grad_()
        (found,) = torch.autograd.grad(global_norm([x]), x)
        torch.testing.assert_close(whole(found), number(6, 4) / number(6, 4).norm(), rtol=4 * ULP, atol=0.0)
    assert adam_init(x).params is x
