"""Complex parameters through the kernels on the CPU, which have pairs of reals: the bits of NumPy's eager rule."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from adamod_array import Adam, AdaMod, DiffGrad, Method, Momentum, engine, init, step
from tests.backend import Backend, numpy_dtype
from tests.compare import assert_close
from tests.trees import METHODS, bits

pytest.importorskip("numba")
pytestmark = pytest.mark.only("numpy", "torch", "jax")

BY_IEEE = {name: method for name, method in METHODS.items() if "g_last" not in method.slots}
"""Of sums, products, quotients, roots and comparisons of reals."""
REAL = {"complex64": "float32", "complex128": "float64"}
BIG = 150_003  # more than one thread, more than one block, and a remainder
SHAPES = {"matrix": (30, 7), "number": (), "nothing": (0, 2), "one": (1,), "big": (BIG,)}


@pytest.fixture(autouse=True)
def kernels(backend: Backend) -> Iterator[None]:
    """In force, and float64 in JAX; a kernel that does not work is no reason to pass."""
    if backend.engine != "numba":
        pytest.skip("the kernels alone")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if backend.name == "jax":
            import jax

            with jax.enable_x64(True):
                yield
        else:
            yield


def drawn(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray[Any, Any]:
    """Numbers of many magnitudes, rounded once, none so small that its square is denormal."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 2, shape)
    if dtype in REAL:
        x = x + 1j * rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 2, shape)
    return np.asarray(x).astype(numpy_dtype(dtype))


def on(backend: Backend, x: np.ndarray[Any, Any]) -> Any:
    """The same bits on the backend, and the same strides where it has any."""
    if backend.name == "numpy":
        return x.copy(order="K")
    if backend.name == "torch":
        return backend.xp.from_numpy(x.copy(order="K"))
    return backend.xp.asarray(x)


def stepped(backend: Backend, method: Method, params: Any, grads: Any, *, donate: bool = False, **options: Any) -> Any:
    """The state after a step for each tree of gradients."""
    with engine(backend.engine):
        state = init(method, {name: on(backend, x) for name, x in params.items()}, lr=0.1, weight_decay=0.01)
        for each in grads:
            state = step(state, {name: on(backend, x) for name, x in each.items()}, donate=donate, **options)
    return state


def is_by_kernel(backend: Backend, state: Any) -> bool:
    """Whether every leaf of the last step was stepped by a kernel."""
    plan = state.resolved()[0].plan
    plan = getattr(plan, "inner", plan)
    return plan.program is not None if backend.name == "jax" else bool(plan.groups) and not plan.fallback


EAGER = Backend("numpy", "cpu", "eager")


def assert_bits(backend: Backend, state: Any, expected: Any) -> None:
    assert bits(backend, (state.params, state.slots)) == bits(EAGER, (expected.params, expected.slots))


def case(dtype: str, *dtypes: str, shapes: Any = SHAPES, steps: int = 3) -> tuple[Any, list[Any]]:
    """Parameters and gradients of a tree with leaves of a dtype, and one leaf of each of the others."""
    leaves = {name: (shape, dtype) for name, shape in shapes.items()} | {f"of {x}": ((40, 3), x) for x in dtypes}
    trees = [
        {name: drawn(*leaf, seed=100 * t + k) for k, (name, leaf) in enumerate(leaves.items())}
        for t in range(steps + 1)
    ]
    return trees[0], trees[1:]


CASES = [
    (name, dtype, donate)
    for name in BY_IEEE
    for dtype, donate in [("complex64", True), ("complex128", False), ("complex64", False), ("complex128", True)]
    if name == "adamod" or donate == (dtype == "complex64")  # every kernel takes a second to compile
]


@pytest.mark.parametrize(("name", "dtype", "donate"), CASES)
def test_steps_have_the_bits_of_the_rule(backend: Backend, name: str, dtype: str, donate: bool) -> None:
    """With real leaves in the tree, some in the dtype of the parts and some in another."""
    method = METHODS[name]
    params, grads = case(dtype, *(["float16", "float32", "float64"] if name == "adamod" else []))
    state = stepped(backend, method, params, grads, donate=donate)
    assert is_by_kernel(backend, state)
    assert_bits(backend, state, stepped(EAGER, method, params, grads))


@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("name", sorted({*METHODS} - {*BY_IEEE}))
def test_moduli_and_exponentials_are_near(backend: Backend, name: str, dtype: str) -> None:
    """DiffGrad's friction is 1/(1 + exp(-abs(z))): 1 ulp of each of the two, which NumPy rounds in its own way.

    Divided once and multiplied twice, 4 ulp of an update; added to what is larger, of which it is half an ulp more.
    """
    params, grads = case(dtype, steps=2)
    state = stepped(backend, METHODS[name], params, grads)
    assert is_by_kernel(backend, state)
    expected = stepped(EAGER, METHODS[name], params, grads)
    for slot in METHODS[name].slots:
        for leaf in SHAPES:
            assert_close(backend.numpy(state.slots[slot][leaf]), expected.slots[slot][leaf])
    for leaf, p in expected.params.items():
        assert_close(backend.numpy(state.params[leaf]), p, ulp=2, atol=8 * float(np.finfo(dtype).eps) * 0.1)


@pytest.mark.parametrize("dtype", REAL)
def test_no_number_is_too_odd(backend: Backend, dtype: str) -> None:
    """Zeros of both signs, infinities, NaN and denormals, in both parts: products are those of complex numbers."""
    real = np.finfo(REAL[dtype])
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, float(real.smallest_subnormal), -float(real.tiny), float(real.max), 1.0]
    pairs = np.asarray([complex(a, b) for a in odd for b in odd]).astype(dtype)
    pairs.real, pairs.imag = np.repeat(odd, len(odd)), np.tile(odd, len(odd))
    params, grads = {"a": pairs, "b": pairs[::-1].copy()}, [{"a": np.roll(pairs, k), "b": pairs} for k in (1, 9, 20)]
    for method in (AdaMod(), Adam(amsgrad=True), Momentum(nesterov=True), Sums()):
        state = stepped(backend, method, params, grads)
        expected = stepped(EAGER, method, params, grads)
        assert is_by_kernel(backend, state)
        for found, wanted in (
            (state.params, expected.params),
            *((state.slots[x], expected.slots[x]) for x in method.slots),
        ):
            for leaf in params:
                a, e = (x.view(x.real.dtype) for x in (backend.numpy(found[leaf]), wanted[leaf]))
                assert ((a == e) & (np.signbit(a) == np.signbit(e)) | (np.isnan(a) & np.isnan(e))).all()


@pytest.mark.parametrize("dtype", REAL)
def test_a_norm_and_a_step_that_is_not_taken(backend: Backend, dtype: str) -> None:
    params, grads = case(dtype, "float32", shapes={"z": (50,)} if dtype == "complex64" else {"z": (50,), "y": (BIG,)})
    for options in ({"max_norm": 0.25}, {"where": np.bool_(False)}, {"max_norm": 1e-3, "where": np.bool_(True)}):
        state = stepped(backend, AdaMod(), params, grads, **options)
        wanted = stepped(EAGER, AdaMod(), params, grads, **options)
        if "max_norm" not in options:
            assert_bits(backend, state, wanted)
        for leaf, p in wanted.params.items():  # the norm's sum has an order of its own; updates are at most 0.1
            assert_close(backend.numpy(state.params[leaf]), p, ulp=4, atol=8 * float(np.finfo(dtype).eps) * 0.1)


@dataclasses.dataclass(frozen=True)
class Sums(Method):
    """Real numbers added to complex ones: there are zeros of two signs."""

    slots = ("a", "b", "c")

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, a: Any, b: Any, k: Any) -> tuple[Any, ...]:
        return g + lr, lr - g, g - lr, xp.abs(g) + g


@dataclasses.dataclass(frozen=True)
class Forms(Method):
    """Every operation that complex numbers have, on pairs of them and beside a real one."""

    half: float = 0.5
    slots = ("a", "b", "c")

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any, a: Any, b: Any, k: Any) -> tuple[Any, ...]:
        size = xp.abs(g)
        alike = xp.where(g == p, g * p, xp.where(p != p, size, -g))
        if xp.isdtype(g.dtype, "complex floating"):
            shrunk = xp.where(size > 2.0, g - 0.25, xp.imag(g) + alike)  # constants that real numbers do not have
        else:
            shrunk = g * 3.0
        return (g * p - lr) + (self.half + p) * g, lr - g + (self.half - p) * size, shrunk, size + k * 0.75


@dataclasses.dataclass(frozen=True)
class Quotients(Method):
    """Each kind of them."""

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
        return ((p - lr) / (g + 2.0) + g / (xp.abs(p) + 0.5) + lr / (g * g + 1.0),)


@dataclasses.dataclass(frozen=True)
class Root(Method):
    """A function of complex numbers that has no form in reals here."""

    def rule(self, xp: Any, lr: Any, c: Any, g: Any, p: Any) -> tuple[Any, ...]:
        return (p - lr * xp.sqrt(g),)


@pytest.mark.parametrize("dtype", REAL)
def test_a_rule_of_ones_own(backend: Backend, dtype: str) -> None:
    """With constants of its own for complex numbers. Moduli are the C library's in NumPy, and may be 1 ulp off.

    A quotient of complex numbers has five roundings more in either form.
    """
    params, grads = case(dtype, REAL[dtype], shapes={"big": (BIG,), "few": (20,)})
    params["few"][:5] = grads[0]["few"][:5]
    for method, ulp in ((Forms(), 4), (Quotients(), 16)):
        state = stepped(backend, method, params, grads[:1])
        expected = stepped(EAGER, method, params, grads[:1])
        assert is_by_kernel(backend, state)
        for found, wanted in (
            (state.params, expected.params),
            *((state.slots[x], expected.slots[x]) for x in method.slots),
        ):
            for leaf in params:
                size = float(np.abs(wanted[leaf]).max())
                atol = ulp * float(np.finfo(dtype).eps) * size
                assert_close(backend.numpy(found[leaf]), wanted[leaf], ulp=ulp, atol=atol)


def test_a_rule_that_is_left_to_the_framework(backend: Backend) -> None:
    """Beside real leaves, which a kernel takes; without a warning."""
    params, grads = case("complex64", "float32", shapes={"z": (20,)})
    state, expected = stepped(backend, Root(), params, grads[:1]), stepped(EAGER, Root(), params, grads[:1])
    assert not is_by_kernel(backend, state)
    assert_close(backend.numpy(state.params["z"]), expected.params["z"], ulp=8)


@pytest.mark.parametrize("dtype", REAL)
def test_real_gradients_of_complex_parameters(backend: Backend, dtype: str) -> None:
    params, _ = case(dtype)
    for real in ("float16", "float32") if dtype == "complex64" else ("float64",):
        _, grads = case(real)
        for donate in (False, True):
            state = stepped(backend, AdaMod(), params, grads, donate=donate)
            assert_bits(backend, state, stepped(EAGER, AdaMod(), params, grads))


@pytest.mark.only("numpy")
def test_which_leaves_a_kernel_takes() -> None:
    from adamod_array._engines.numba_compile import storages
    from adamod_array._program.trace import trace

    storage_of = storages(functools.partial(trace, AdaMod()))

    def taken(p: str, g: str, *slots: str) -> bool:
        arrays = [np.zeros(1, dtype) for dtype in (p, g, *slots)]
        return storage_of(arrays[0], arrays[1], arrays[2:]) is not None

    assert taken("complex64", "complex64", "complex64", "float32", "float32")
    assert taken("complex64", "float32", "complex64", "float32", "float32")
    assert taken("complex128", "float64", "complex128", "float64", "float64")
    assert not taken("complex64", "complex128", "complex64", "float32", "float32")
    assert not taken("complex128", "float32", "complex128", "float64", "float64")
    assert not taken("complex64", "complex64", "complex64", "complex64", "float32")
    assert not taken("complex64", "complex64", "complex64", "float64", "float32")
    assert not taken("float32", "float32", "complex64", "float32", "float32")


LAYOUTS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "F order": (lambda x: np.asfortranarray(x), True),
    "gaps": (lambda x: np.repeat(x, 2, axis=1)[:, ::2], False),
    "transposed": (lambda x: np.ascontiguousarray(x.T).T, True),
}


@pytest.mark.only("numpy", "torch")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(backend: Backend, layout: str) -> None:
    """What lies without gaps is stepped by the kernel; the rest by the rule, to the same bits."""
    lay, is_taken = LAYOUTS[layout]
    host = [drawn((30, 40), "complex64", seed=k) for k in range(4)]

    def given(x: Any) -> Any:
        return lay(x) if backend.name == "numpy" else backend.xp.from_numpy(lay(x))

    expected = stepped(EAGER, AdaMod(), {"z": host[0]}, [{"z": x} for x in host[1:]])
    for donate in (False, True):
        p = given(host[0].copy())
        state = init(AdaMod(), {"z": p}, lr=0.1, weight_decay=0.01)
        for x in host[1:]:
            state = step(state, {"z": given(x)}, donate=donate)
        if is_taken:
            assert is_by_kernel(backend, state)
        if is_taken or backend.name == "numpy":
            assert_bits(backend, state, expected)
        assert (state.params["z"] is p) == donate


@pytest.mark.only("numpy")
def test_arrays_that_processors_do_not_read() -> None:
    """Other byte orders and addresses between elements; halves of an element are addresses that a kernel takes."""
    backend = Backend("numpy", "cpu", "numba")
    host = [drawn((33,), "complex64", seed=k) for k in range(3)]
    expected = stepped(EAGER, AdaMod(), {"z": host[0]}, [{"z": x} for x in host[1:]])

    def shifted(x: Any, by: int) -> Any:
        memory = np.zeros(x.nbytes + 16, np.uint8)
        y = memory[by : by + x.nbytes].view(x.dtype)
        y[...] = x
        return y

    ways: list[Callable[[Any], Any]] = [lambda x: x.astype(">c8"), lambda x: shifted(x, 1), lambda x: shifted(x, 4)]
    for odd in ways:
        for donate in (False, True):
            state = init(AdaMod(), {"z": host[0].copy()}, lr=0.1, weight_decay=0.01)
            for x in host[1:]:
                state = step(state, {"z": odd(x)}, donate=donate)
            assert_bits(backend, state, expected)


@pytest.mark.only("torch")
def test_tensors_that_say_what_is_to_be_made_of_their_memory() -> None:
    """Conjugate and negative views, as gradients from the first step on or later, and as parameters; views of pairs."""
    import torch

    backend = Backend("torch", "cpu", "numba")
    host = [drawn((33,), "complex64", seed=k) for k in range(4)]
    expected = stepped(EAGER, AdaMod(), {"z": host[0]}, [{"z": x} for x in host[1:]])
    given: dict[str, Callable[[Any], Any]] = {
        "plain": torch.from_numpy,
        "conjugate": lambda x: torch.from_numpy(x.conj()).conj(),
        "negative": lambda x: torch._neg_view(torch.from_numpy(-x)),
        "both": lambda x: torch._neg_view(torch.from_numpy(-x.conj())).conj(),
        "pairs": lambda x: torch.view_as_complex(torch.from_numpy(np.pad(x.view(np.float32), (2, 0)))[2:].view(-1, 2)),
    }
    for donate in (False, True):
        for kinds in (("plain", name, "plain") for name in given):
            state = init(AdaMod(), {"z": torch.from_numpy(host[0].copy())}, lr=0.1, weight_decay=0.01)
            for x, kind in zip(host[1:], kinds, strict=True):
                state = step(state, {"z": given[kind](x.copy())}, donate=donate)
                assert is_by_kernel(backend, state), kind
            assert_bits(backend, state, expected)
        parameter = init(AdaMod(), {"z": torch.from_numpy(host[0].conj()).conj()}, lr=0.1, weight_decay=0.01)
        new = step(parameter, {"z": torch.from_numpy(host[1])}, donate=donate)
        one = stepped(EAGER, AdaMod(), {"z": host[0]}, [{"z": host[1]}])
        # the rule itself, by PyTorch's own roots
        assert_close(new.params["z"].resolve_conj().numpy(), one.params["z"], ulp=4)


@pytest.mark.only("torch")
def test_the_gradient_may_be_a_view_of_the_parameter() -> None:
    import torch

    z = drawn((33,), "complex64", seed=1)
    expected = stepped(EAGER, Momentum(), {"z": z}, [{"z": z.conj()}])
    for donate in (False, True):
        p = torch.from_numpy(z.copy())
        state = step(init(Momentum(), {"z": p}, lr=0.1, weight_decay=0.01), {"z": p.conj()}, donate=donate)
        assert_bits(Backend("torch", "cpu", "numba"), state, expected)


@pytest.mark.only("jax")
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("method", [AdaMod(), Adam(amsgrad=True), DiffGrad()], ids=repr)
def test_programs_of_the_user(method: Method, dtype: str) -> None:
    """Call the kernel, and have the bits of the library's own."""
    import jax

    backend = Backend("jax", "cpu", "numba")
    params, grads = case(dtype, "float32")
    state = expected = init(method, {name: on(backend, x) for name, x in params.items()}, lr=0.1, weight_decay=0.01)
    jitted = jax.jit(step)
    given = [{name: on(backend, x) for name, x in each.items()} for each in grads]
    text = jitted.lower(state, given[0]).as_text()
    assert text.count("adamod_array_") >= 2  # for complex and for real leaves
    for each in given:
        state, expected = jitted(state, each), step(expected, each)
    # rates that are arrays, of which the library's own program makes its tables
    state, expected = step(state, given[0], lr=jax.numpy.asarray(0.5)), step(expected, given[0], lr=0.5)
    assert bits(backend, (state.params, state.slots)) == bits(backend, (expected.params, expected.slots))


@pytest.mark.only("numpy")
def test_the_modulus_is_that_of_the_c_library() -> None:
    """As NumPy's is: in float32 correctly rounded but for ties, in float64 the very function."""
    import numba

    from adamod_array._engines.numba_memory import hypot

    compiled = numba.vectorize(["float32(float32, float32)", "float64(float64, float64)"])(lambda a, b: hypot(a, b))
    rng = np.random.default_rng(0)
    for dtype in REAL.values():
        range_ = np.finfo(dtype).maxexp - 1
        a, b = (
            np.ldexp(rng.normal(size=200_000), rng.integers(-range_, range_, 200_000)).astype(dtype) for _ in range(2)
        )
        b[::2] = a[::2] * rng.uniform(-1, 1, 100_000).astype(dtype)  # of like size
        odd = np.asarray([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0], dtype)
        a, b = np.concatenate([a, np.repeat(odd, 6)]), np.concatenate([b, np.tile(odd, 6)])
        with np.errstate(all="ignore"):
            assert_close(compiled(a, b), np.hypot(a, b), ulp=1)
            exact = np.hypot(a.astype(np.longdouble), b.astype(np.longdouble)).astype(dtype)
            assert_close(compiled(a, b), exact, ulp=1)
