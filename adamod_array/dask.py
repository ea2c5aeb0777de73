"""The loop of Dask's users: :func:`persist` computes a state, chunk by chunk where the chunks are.

A step of Dask's arrays is lazy, and steps that are never computed make one graph that grows. A training loop computes
each of them: on Dask's threads, or on the workers of ``dask.distributed``, where adamod_array is installed too.

Examples
--------
>>> import dask.array as da
>>> from adamod_array import adamod_init, adamod_step
>>> from adamod_array.dask import persist
>>> target = da.ones(6, chunks=2)
>>> state = persist(adamod_init(da.zeros(6, chunks=2), lr=0.5, beta3=0.5))
>>> for _ in range(100):
...     state = persist(adamod_step(state, state.params - target))
>>> state.step, state.params.compute().round()
(100, array([1., 1., 1., 1., 1., 1.]))
"""

from __future__ import annotations

from typing import Any

from adamod_array import _engines
from adamod_array._late import needed
from adamod_array._state import State
from adamod_array._tree import P

try:
    import dask
except ModuleNotFoundError as error:
    raise needed("dask", error) from None

__all__ = ["persist"]


def persist(state: State[P], **options: Any) -> State[P]:
    """Compute the parameters and slots of a state in one call, and keep them in memory, chunk by chunk.

    Chunks are where Dask's scheduler computes them: in this process, or on the workers of a
    ``dask.distributed.Client``, which computes in the background and is not waited for. The old state's chunks are
    released once nobody has that state and the step has read them: at most two states are in memory.

    Parameters
    ----------
    state : State
        Of Dask's arrays; sizes of chunks may be unknown.
    **options
        Of ``dask.persist``, such as ``scheduler="threads"``; of a Client, those of its ``compute``.

    Returns
    -------
    State
        The same numbers in arrays of Dask with the same chunks, whose graphs hold nothing that is left to compute but
        the reading of each chunk. A leaf's arrays after a step are computed by one task a chunk, and are kept together.

    Raises
    ------
    TypeError
        ``state`` is no State, or its arrays are not Dask's.

    Examples
    --------
    >>> import dask.array as da
    >>> from adamod_array import adam_init, adam_step
    >>> from adamod_array.dask import persist
    >>> state = adam_step(adam_init(da.zeros(4, chunks=2), lr=0.5), da.ones(4, chunks=2))
    >>> persist(state, scheduler="threads").params.compute()
    array([-0.5, -0.5, -0.5, -0.5])
    """
    if not isinstance(state, State):
        raise TypeError(f"persist: expected a State from init or step, got {type(state).__name__}")
    leaves, _ = state.resolved()
    if leaves.namespace is None:
        return state
    if leaves.namespace.name != "dask":
        raise TypeError(f"persist: the state holds {leaves.namespace.name} arrays, not Dask's")
    there = [i for i, p in enumerate(leaves.params) if p is not None]
    columns = [[*xs] for xs in leaves.columns]
    computed = _engines.persisted([[xs[i] for xs in columns] for i in there], lambda *xs: dask.persist(*xs, **options))
    for i, arrays in zip(there, computed, strict=True):
        for xs, x in zip(columns, arrays, strict=True):
            xs[i] = x
    params, *slots = map(leaves.tree, columns)
    return state.replace(params=params, slots=dict(zip(leaves.method.slots, slots, strict=True)))
