"""Steps that are not taken, gradients that are clipped in a step, and what says that gradients are finite."""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adamod_array import (
    Adam,
    AdaMod,
    RAdam,
    State,
    _engines,
    adamod_init,
    adamod_step,
    all_finite,
    clip_by_global_norm,
    global_norm,
    init,
    schedules,
    step,
)
from adamod_array import _rate as rate_module
from adamod_array import _taken as taken_module
from tests.backend import Backend, numpy_dtype
from tests.trees import METHODS, assert_same, bits, leaves, tree, values

FEW, SLOW = ("adam-amsgrad", "adamod-hold_idle"), ("cupy", "dask", "jax")
"""Methods for backends that take seconds for each."""
DECIDE = pytest.mark.only("jax", "cupy")
"""Where an array decides on the device."""


def spoiled(backend: Backend, grads: Any, number: float) -> Any:
    """The same gradients with one number in place of another."""
    host = backend.numpy(grads["layers"][0]["w"]).copy()
    host[1, 2] = number
    return {**grads, "layers": [{"w": backend.array(host, host.dtype.name)}, *grads["layers"][1:]]}


def answers(backend: Backend, ok: bool) -> list[Any]:
    """Every form in which ``where`` says it, but for a function of the gradients."""
    return [ok, np.bool_(ok), np.asarray(ok), backend.array(ok, "bool")]


def assert_not_seen(
    backend: Backend, method: Any, dtype: str, said: Callable[[bool, int], Any], *, donate: bool, **options: Any
) -> None:
    """Six steps of which two are not taken have the bits of four."""
    lr = 0.1 * schedules.linear_warmup(3)
    state, expected = (init(method, tree(backend, dtype), lr, weight_decay=0.1) for _ in range(2))
    for t in range(6):
        grads, ok = tree(backend, dtype, seed=t), t not in (0, 3)
        if ok:
            expected = step(expected, grads, **options)
        else:
            grads = spoiled(backend, grads, (np.nan, np.inf)[t > 0])
        state = step(state, grads, where=said(ok, t), donate=donate, **options)
    assert (int(state.step), int(state.skipped)) == (4, 2)
    assert bits(backend, (state.params, state.slots)) == bits(backend, (expected.params, expected.slots))


@pytest.mark.parametrize("name", METHODS)
def test_gradients_that_are_not_finite_are_never_seen(backend: Backend, name: str) -> None:
    if backend.name in SLOW and name not in FEW:
        pytest.skip("a compiler takes seconds for each method, and what is done around the rules is the same")
    assert_not_seen(backend, METHODS[name], "float32", lambda ok, t: all_finite, donate="a" in name[-4:])


@pytest.mark.slow("cupy", "dask", "jax")
def test_in_every_dtype_and_form(backend: Backend) -> None:
    dtypes = backend.table["dtypes"]
    for donate, dtype in enumerate(dtypes[-3:] if backend.name in SLOW else dtypes):
        assert_not_seen(backend, AdaMod(), dtype, lambda ok, t: answers(backend, ok)[t % 4], donate=donate % 2 == 0)
    assert_not_seen(backend, Adam(), "float32", lambda ok, t: all_finite, donate=True, max_norm=1.0)


def test_of_an_answer_of_the_host_the_arrays_are_the_same(backend: Backend) -> None:
    grads = tree(backend, seed=1)
    for donate in (False, True):
        state = adamod_step(adamod_init(tree(backend)), grads)
        arrays = leaves((state.params, state.slots))
        new = adamod_step(state, grads, where=False, donate=donate)
        assert all(a is b for a, b in zip(leaves((new.params, new.slots)), arrays, strict=True))
        assert (new.step, new.skipped) == (1, 1)
        if donate:
            with pytest.raises(ValueError, match="this state is spent"):
                adamod_step(state, grads)
        else:
            adamod_step(state, grads)
        assert adamod_step(new, grads).step == 2


def test_leaves_without_a_gradient(backend: Backend) -> None:
    """They stay as they are; a tree of nothing else is finite, and its step counts."""
    params = {"a": backend.array(values(3)), "b": backend.array(values(2))}
    state = adamod_step(adamod_init(params), {"a": backend.array(values(3)), "b": None}, where=all_finite, max_norm=1.0)
    assert state.params["b"] is params["b"] and int(state.step) == 1
    state = adamod_step(state, {"a": None, "b": None}, where=all_finite, max_norm=1.0)
    assert (int(state.step), int(state.skipped)) == (2, 0)
    assert adamod_step(adamod_init({}), {}, where=False).skipped == 1


def test_what_is_no_answer(backend: Backend) -> None:
    state, grads = adamod_init(tree(backend)), tree(backend)
    before = bits(backend, state)
    for bad, error in (
        (1, TypeError),
        (None, TypeError),
        ("yes", TypeError),
        (0.0, TypeError),
        (backend.array(1.0), TypeError),
        (backend.array([True], "bool"), ValueError),
        ([True], TypeError),
        (lambda grads: 1.0, TypeError),
    ):
        with pytest.raises(error, match="step: where must be True, False, a 0-d array of bool"):
            step(state, grads, where=bad, donate=True)
    for bad, error in ((0.0, ValueError), (-1.0, ValueError), ("1", TypeError), (backend.array([1.0]), ValueError)):
        if backend.name != "torch" or not hasattr(bad, "shape"):
            with pytest.raises(error, match="step: max_norm"):
                step(state, grads, max_norm=bad, donate=True)
    for bad_grads in ({**grads, "b": None, "c": None}, {**grads, "b": backend.array(values(5))}):
        with pytest.raises(ValueError, match=r"grads\['[bc]'\]"):
            step(state, bad_grads, where=False)
    assert bits(backend, state) == before


def test_the_count_is_a_part_of_the_state(backend: Backend) -> None:
    state = adamod_step(adamod_init(tree(backend)), tree(backend), where=False)
    assert "step=0, skipped=1," in repr(state)
    assert "skipped" not in repr(adamod_init(tree(backend)))
    assert state.replace(skipped=7).skipped == 7 and state.replace(lr=0.5).skipped == 1
    if backend.name != "strict":
        assert pickle.loads(pickle.dumps(state)).skipped == 1
        fields = state.__getstate__()
        del fields["skipped"]  # of an older release
        old = object.__new__(State)
        old.__setstate__(fields)
        assert adamod_step(old, tree(backend)).skipped == 0


# clipped in the step


@pytest.mark.slow("cupy", "dask", "jax")
def test_clipped_in_the_step_as_before_it(backend: Backend) -> None:
    """To the last bit, also of 16-bit gradients beside wide ones, of norms that overflow and of none at all."""
    dtypes = backend.table["dtypes"]
    trees = [{d: backend.array(values(7, seed=1), d)} for d in dtypes[:: 3 if backend.name in SLOW else 1]]
    trees += [{d: backend.array(values(7, seed=i), d) for i, d in enumerate(dtypes)}]
    trees += [{"a": backend.array([3e30, -4e30, 0.0]), "b": None}, {"a": backend.array([0.0, 0.0])}]
    if backend.name not in ("jax", "cupy"):  # where denormals are flushed outside of kernels
        trees += [{"a": backend.array([1e-38, 3e-39])}]
    tiny = 1e-30 if backend.name in ("jax", "cupy") else 1e-37
    cases = ((1e-3, "adamod-hold_idle"), (100.0, "adam"), (tiny, "momentum"))
    for grads, (limit, name) in itertools.product(trees, cases):
        params = {k: None if g is None else backend.array(values(*g.shape), _name(g)) for k, g in grads.items()}
        donate = limit > 1
        one, two = (init(METHODS[name], {k: _copy(backend, p) for k, p in params.items()}, 0.1) for _ in range(2))
        for _ in range(3):
            one = step(one, grads, max_norm=limit, donate=donate)
            two = step(two, clip_by_global_norm(grads, limit), donate=donate)
        assert bits(backend, one) == bits(backend, two), (backend, [*grads], limit, name)


@pytest.mark.only("numpy", "torch")  # the same decision for every framework, some of which compile each case
def test_clipped_gradients_of_another_dtype_than_their_parameters(backend: Backend) -> None:
    """The product is rounded to the gradient's dtype, as :func:`clip_by_global_norm` rounds it."""
    dtypes = backend.table["dtypes"]
    for of_g, of_p in itertools.product(dtypes, dtypes):
        if of_g == of_p or ("complex" in of_g and "complex" not in of_p):
            continue
        g, p = backend.array(values(50, seed=1), of_g), backend.array(values(50), of_p)
        clipped = step(init(METHODS["momentum"], p, 0.1), clip_by_global_norm(g, 0.3))
        found = step(init(METHODS["momentum"], p, 0.1), g, max_norm=0.3)
        assert bits(backend, found) == bits(backend, clipped), (backend, of_g, of_p)


def _name(g: Any) -> str:
    return str(g.dtype).removeprefix("torch.").removeprefix("array_api_strict.")


def _copy(backend: Backend, x: Any) -> Any:
    return x if x is None else backend.array(backend.numpy(x), _name(x))


# whether gradients are finite


def test_gradients_and_their_squares(backend: Backend) -> None:
    """The largest number whose square is finite where averages of squares are kept, and the next one."""
    for dtype in backend.table["dtypes"]:
        real = dtype.replace("complex64", "float32").replace("complex128", "float64")
        compute = "float64" if real == "float64" else "float32"
        cases = [(1.0, True), (np.nan, False), (np.inf, False), (-np.inf, False)]
        if real == "float16":  # computed in float32, which holds all of its squares
            cases += [(65504.0, True), (-65504.0, True)]
        else:
            root = float(np.sqrt(np.finfo(compute).max))
            cases += [(f * root, abs(f) < 1) for f in (0.99, -0.99, 1.01, -1.01)]
        for number, expected in cases:
            host = np.ones(5, numpy_dtype(dtype) if "complex" in dtype else np.float64)
            for place in (0, 4):
                host[:] = 1
                host[place] = number
                found = all_finite({"a": backend.array(np.ones(2), dtype), "b": backend.array(host, dtype), "c": None})
                assert tuple(found.shape) == ()
                assert bool(backend.numpy(found)) is expected, (backend, dtype, number)
                if "complex" in dtype:
                    turned = np.ones(5, numpy_dtype(dtype))
                    turned.imag = host.real
                    assert bool(backend.numpy(all_finite(backend.array(turned, dtype)))) is expected
    if "complex64" in backend.table["dtypes"]:  # the square of the modulus alone is infinite
        for z, expected in (([1.4e19 + 1.4e19j], False), ([1.2e19 + 1.2e19j, 1.8e19, 1.8e19j], True)):
            assert bool(backend.numpy(all_finite(backend.array(z, "complex64")))) is expected
    assert bool(all_finite(backend.array(np.zeros((0, 3)))))
    assert all_finite({"a": None}) is True
    with pytest.raises(TypeError, match="grads"):
        all_finite({"a": 1.0})


@pytest.mark.only("numpy", "torch")
def test_gaps_and_every_order_of_axes(backend: Backend) -> None:
    """What lies between the numbers is not read; each number is, whatever its place in memory."""
    host = np.full((6, 5, 4), 2.0, np.float32)
    host[1::2] = np.nan
    views: list[Callable[[Any], Any]] = [
        lambda x: x[::2],
        lambda x: x[:1, :, 1],
        lambda x: x[2].T,
        lambda x: x[0, 3:, ::3],
    ]
    for view in views:
        x = view(backend.array(host))
        assert bool(all_finite([x])) and float(global_norm([x])) == np.float32(np.sqrt(4.0 * view(host).size))
    whole = np.full((3, 40_000), 2.0, np.float32)  # several blocks, and threads
    for place in ((0, 0), (2, 39_999), (1, 8191), (1, 8192)):
        bad = whole.copy()
        bad[place] = np.inf
        assert bool(all_finite([backend.array(whole)])) and not bool(all_finite([backend.array(bad)]))
        assert not bool(all_finite([backend.array(bad).T]))
        bad[place] = 4.0
        assert float(global_norm([backend.array(bad)])) == np.float32(np.sqrt(4.0 * (bad.size + 3)))


@pytest.mark.only("numpy", "torch", "jax")
def test_every_part_of_a_block_is_read(backend: Backend) -> None:
    """A kernel reads some parts of a block side by side, and what is left of the last block alone."""
    for dtype in ("float16", "float32", "float64"):
        host = np.zeros(2 * 8192 + 100, dtype)
        for place in (*range(0, host.size, 512), *range(511, host.size, 512), host.size - 1):
            host[:] = 0
            host[place] = np.inf
            assert not bool(all_finite([backend.array(host, dtype)])), (dtype, place)
            host[place] = 3.0
            assert (
                bool(all_finite([backend.array(host, dtype)])) and float(global_norm([backend.array(host, dtype)])) == 3
            )


@pytest.mark.only("numpy")
def test_scalars_of_numpy(backend: Backend) -> None:
    """What a function of NumPy's returns of 0-d arrays is read by the same kernels, which stay in force."""
    grads = [np.float32(3.0), np.float32(-4.0)]
    assert bool(all_finite(grads)) and float(global_norm(grads)) == 5.0
    assert not bool(all_finite([np.float32(1e20)]))
    state = adamod_init([np.zeros((), np.float32)] * 2)
    assert step(state, grads, where=all_finite, max_norm=1.0).step == 1
    assert _engines.READ not in _engines.passed_over


# decided on the device


@DECIDE
def test_a_device_decides_and_nobody_waits(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    state = adamod_init(tree(backend), lr=0.1)
    cls = type(backend.array(1.0))

    def refuse(*_: Any) -> Any:
        raise AssertionError("the host waits for the device")

    with monkeypatch.context() as patched:
        for name in ("__bool__", "__float__", "__int__", "__index__", *(["item"] if backend.name == "jax" else [])):
            if backend.name == "jax":  # what CuPy's are cannot be patched
                patched.setattr(cls, name, refuse)
        for seed in range(4):
            grads = tree(backend, seed=seed)
            state = adamod_step(state, spoiled(backend, grads, np.inf) if seed == 1 else grads, where=all_finite)
    assert tuple(state.step.shape) == () and type(state.step) is cls
    assert (int(state.step), int(state.skipped)) == (3, 1)
    again = adamod_step(state, tree(backend))  # counts go on where they are
    assert (int(again.step), int(again.skipped)) == (4, 1)


@pytest.mark.only("torch")
def test_tensors_that_are_not_read(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a GPU: here the CPU's, of which this package is told that reading would cost something."""
    for module in (rate_module, taken_module):
        monkeypatch.setattr(module, "is_free_to_read", lambda namespace, x: False)
    for method in (AdaMod(), RAdam(), Adam(amsgrad=True)):
        assert_not_seen(backend, method, "float32", lambda ok, t: all_finite, donate=False)
        said = functools.partial(_as_tensor, backend)
        assert_not_seen(backend, method, "bfloat16", said, donate=True, max_norm=1.0)
    state = step(adamod_init(tree(backend)), tree(backend), where=all_finite)
    assert tuple(state.step.shape) == () and not isinstance(state.step, int)


def _as_tensor(backend: Backend, ok: bool, t: int) -> Any:
    return backend.array(ok, "bool")


@pytest.mark.only("torch")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_every_option_inside_of_torch_compile(backend: Backend) -> None:
    """Without a break of the graph; what is wrong is said as outside of it."""
    import torch

    if backend.engine != "eager":
        pytest.skip("the same program whatever the engine")
    begin = init(METHODS["momentum"], backend.array(values(3)), lr=0.1)
    every: tuple[dict[str, Any], ...] = ({"max_norm": 1.0, "where": all_finite}, {"where": False})
    for options in every:
        compiled = torch.compile(functools.partial(step, **options), backend="eager", fullgraph=True)
        state = expected = begin
        for number in (2.0, np.inf):
            grads = backend.array([1.0, number, 3.0])
            state, expected = compiled(state, grads), step(expected, grads, **options)
        assert (int(state.step), int(state.skipped)) == (expected.step, expected.skipped)
        assert_same(backend, (state.params, state.slots), (expected.params, expected.slots), ulp=4)
    with pytest.raises(ValueError, match="step: max_norm must be positive"):
        torch.compile(lambda s, g: step(s, g, max_norm=-1.0), backend="eager")(begin, begin.params)


@pytest.mark.only("torch")
def test_derivatives_of_a_clipped_step(backend: Backend) -> None:
    """By gradients, whose norm depends on each of them, by the limit and by the rate: as of clip, then step."""
    import torch

    found = []
    for clips in (False, True):
        g, lr, limit = (torch.tensor(x, requires_grad=True) for x in ([3.0, -4.0, 1.0], 0.1, 2.0))
        state = init(METHODS["momentum"], torch.ones(3))
        for _ in range(2):
            if clips:
                state = step(state, clip_by_global_norm(g, limit), lr=lr)
            else:
                state = step(state, g, lr=lr, max_norm=limit, where=all_finite)
        found.append(torch.autograd.grad((state.params * torch.tensor([1.0, 2.0, 3.0])).sum(), (g, lr, limit)))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two) and bool(one.abs().max() > 0)


@pytest.mark.only("torch")
def test_inside_of_torch_compile(backend: Backend) -> None:
    import torch

    if backend.engine != "eager":
        pytest.skip("the same program whatever the engine")
    compiled = torch.compile(lambda s, g, ok: adamod_step(s, g, where=ok), backend="eager", fullgraph=True)
    state, expected = (adamod_init(tree(backend), lr=0.1) for _ in range(2))
    for seed in range(5):
        grads, ok = tree(backend, seed=seed), seed not in (0, 2)
        state = compiled(state, grads if ok else spoiled(backend, grads, np.nan), torch.tensor(ok))
        expected = adamod_step(expected, grads) if ok else expected
    assert (int(state.step), int(state.skipped)) == (3, 2)
    assert_same(backend, (state.params, state.slots), (expected.params, expected.slots), ulp=2)


@pytest.mark.only("jax")
def test_inside_of_jit_scan_and_vmap(backend: Backend) -> None:
    """One program for every answer, without a call of the host's."""
    import jax
    import jax.numpy as jnp

    params, grads = backend.array(values(5)), jnp.stack([backend.array(values(5, seed=t)) for t in range(6)])
    bad = grads.at[2, 1].set(jnp.nan).at[4, 0].set(1e30)
    expected = adamod_init(params, lr=0.1)
    for t in (0, 1, 3, 5):
        expected = adamod_step(expected, grads[t])

    def take(state: Any, g: Any) -> Any:
        return adamod_step(state, g, where=all_finite, max_norm=1e6), None

    jitted = jax.jit(lambda state, g: take(state, g)[0])
    state = adamod_init(params, lr=0.1)
    for g in bad:
        state = jitted(state, g)
    scanned = jax.lax.scan(take, adamod_init(params, lr=0.1), bad)[0]
    both = jax.vmap(lambda p, gs: jax.lax.scan(take, adamod_init(p, lr=0.1), gs)[0])(
        jnp.stack([params] * 2), jnp.stack([bad, bad])
    )
    for found in (state, scanned, jax.tree.map(lambda x: x[1], both)):
        assert (int(found.step), int(found.skipped)) == (4, 2)
        assert_same(backend, (found.params, found.slots), (expected.params, expected.slots))
    assert jitted._cache_size() <= 2  # an int of the host's at first, then an array
    text = jitted.lower(state, bad[0]).as_text()
    assert "callback" not in text


@pytest.mark.only("jax")
def test_counts_keep_their_width(backend: Backend) -> None:
    """Also beside parameters of 64 bits, where JAX's flag says 32; there a count ends at the largest number."""
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        wide = jnp.ones(2, jnp.float64)
    with jax.enable_x64(False):
        for options in ({}, {"where": all_finite}):

            def maybe(state: Any, taken: Any, options: Any = options) -> Any:
                return jax.lax.cond(taken, lambda s: step(s, s.params, **options), lambda s: s, state)

            state = jax.jit(maybe)(init(Adam(), wide), True)
            assert (state.step.dtype, int(state.step)) == (jnp.int32, 1)
        for count in (2**31 - 2, 2**31 - 1, 2**40):
            state = init(Adam(), jnp.ones(2)).replace(step=count, skipped=count)
            for ok in (True, False):
                state = step(state, state.params, where=jnp.asarray(ok))
            assert int(state.step) == int(state.skipped) == 2**31 - 1
