"""A mesh of one device has the bits of that device; of more of them: ``tests/scale``."""

from __future__ import annotations

import pytest

from adamod_array import Adam, AdaMod, _engines, init, step
from tests.backend import is_here
from tests.trees import values


@pytest.mark.skipif(not is_here("jax"), reason="jax is not installed")
def test_a_mesh_of_one_device() -> None:
    """In the library's programs and in the user's, whoever says how arrays are sharded; gradients lie as they like."""
    import jax
    import numpy as np
    from jax.sharding import AxisType, NamedSharding
    from jax.sharding import PartitionSpec as P

    host = [{"w": values(2, 8, 4, seed=t).astype("float32"), "b": np.float32(t + 1)} for t in range(21)]
    for method in (Adam(amsgrad=True), AdaMod()):
        expected = init(method, host[20], lr=0.1)
        for grads in host[:20]:
            expected = step(expected, grads)
        for kind in (AxisType.Auto, AxisType.Explicit):
            sharded, whole = (NamedSharding(jax.make_mesh((1,), ("x",), (kind,)), spec) for spec in (P(None, "x"), P()))
            ours, theirs = {"w": sharded, "b": whole}, {"w": whole, "b": whole}
            for take in (step, jax.jit(step)):
                state = init(method, jax.device_put(host[20], ours), lr=0.1)
                for grads in host[:20]:
                    state = take(state, jax.device_put(grads, theirs))
                pairs = [(state.params, expected.params), *((state.slots[k], expected.slots[k]) for k in method.slots)]
                for column, wanted in pairs:
                    for name in ("w", "b"):
                        assert np.asarray(column[name]).tobytes() == np.asarray(wanted[name]).tobytes(), (method, kind)
                        assert column[name].sharding.is_equivalent_to(ours[name], column[name].ndim)
    assert not _engines.passed_over
