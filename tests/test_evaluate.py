"""A program run over blocks gives the bits of the rule as it is written, whatever its temporaries share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adamod_array._method import apply_rule
from adamod_array._program.evaluate import Evaluation
from adamod_array._program.trace import constants, trace
from adamod_array._scalars import arguments
from tests.compare import assert_close
from tests.test_results import PASSED_ON, RULES
from tests.trees import METHODS, values

pytestmark = pytest.mark.only("numpy")

EVERY = METHODS | RULES | PASSED_ON


@given(
    name=st.sampled_from(sorted(EVERY)),
    dtype=st.sampled_from(["float32", "float64"]),
    decays=st.booleans(),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
)
def test_every_rule(name: str, dtype: str, decays: bool, sizes: list[int]) -> None:
    method, number = EVERY[name], np.dtype(dtype).type
    program = trace(method, decay=decays)
    assert program.is_real
    c = tuple(number(0.5 / (k + 1)) for k in range(sum(name.startswith("c") for name in program.scalars)))
    lr, decay = number(0.125), number(0.75) if decays else None
    with np.errstate(all="ignore"):  # 1e300 is infinite in float32
        scalars = [*arguments(lr, decay, c), *map(number, constants(method))]
    evaluation = Evaluation(program, scalars, np.dtype(dtype), max(sizes))
    for seed, n in enumerate(sizes):
        g, p, *slots = (np.abs(values(n, seed=seed + k)).astype(dtype) for k in range(2 + len(method.slots)))
        before = [x.copy() for x in (g, p, *slots)]
        with np.errstate(all="ignore"):
            expected = apply_rule(method, np, lr, decay, c, g, p, slots)
            actual = [np.array(np.broadcast_to(np.asarray(x, dtype), n)) for x in evaluation(g, p, *slots)]
            for x, e in zip(actual, expected, strict=True):
                assert_close(x, np.broadcast_to(np.asarray(e, dtype), n))
        assert all(np.array_equal(x, y) for x, y in zip(before, (g, p, *slots), strict=True))
