"""Every method as a gradient transformation of optax, schedules both ways, and states of optax's optimizers.

Examples
--------
>>> import jax
>>> import jax.numpy as jnp
>>> import optax
>>> from adamod_array import AdaMod
>>> from adamod_array.optax import as_optax
>>> optimizer = optax.chain(optax.clip_by_global_norm(1.0), as_optax(AdaMod(beta3=0.9), learning_rate=1.0))
>>> params = {"w": jnp.zeros(2)}
>>> state = optimizer.init(params)
>>> updates, state = jax.jit(optimizer.update)({"w": jnp.asarray([0.6, -0.8])}, state, params)
>>> print(optax.apply_updates(params, updates)["w"].round(3))
[-0.1  0.1]
"""

from adamod_array._late import needed

try:
    from adamod_array.optax._schedules import as_schedule, from_schedule
    from adamod_array.optax._state import state_from_optax
    from adamod_array.optax._transformation import MethodState, as_optax
except ModuleNotFoundError as error:
    raise needed("optax", error) from None

__all__ = ["MethodState", "as_optax", "as_schedule", "from_schedule", "state_from_optax"]
