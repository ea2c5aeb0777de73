"""Numbers of a tree, counted in bins of the logarithm."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, NamedTuple

import numpy as np

from adamod_array import _check, _dtensor, _tree
from adamod_array._method import Array
from adamod_array._modes import contained
from adamod_array._namespace import COMPUTE_DTYPE, REAL_DTYPE, dtype_name
from adamod_array._tree import Tree


class Histogram(NamedTuple):
    """How many numbers lie in each bin.

    Attributes
    ----------
    counts : array
        Integers: first those below ``edges[0]``, then those in ``[edges[i], edges[i + 1])``, last those from
        ``edges[-1]`` up. NaN is nowhere.
    edges : array
        Ascending, of NumPy, in float64.
    """

    counts: Array
    edges: np.ndarray[Any, Any]


@contained
def histogram(rates: Tree, *, decades: tuple[int, int] = (-8, 8), per_decade: int = 10) -> Histogram:
    """Count all numbers of a tree in fixed bins of equal width in the logarithm, as the AdaMod paper draws rates.

    Fixed, so that the histograms of many steps, layers and runs can be stacked and added.

    Parameters
    ----------
    rates : array or tree of arrays
        Real floating arrays of one framework, from :func:`effective_rates` or :func:`update_magnitudes`;
        None leaves are passed over.
    decades : tuple of two ints
        The bins begin and end at these powers of ten.
    per_decade : int
        Bins for each factor of ten.

    Returns
    -------
    Histogram
        ``counts``, two more than there are bins, and ``edges``, one more; compared in each array's compute dtype.

    Raises
    ------
    TypeError
        A leaf is not a real floating array.
    ValueError
        The tree has no arrays; there are no bins.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array.diagnostics import histogram
    >>> counts, edges = histogram(np.asarray([0.0, 0.2, 0.3, 1.0, 5.0, np.inf]), decades=(-1, 1), per_decade=1)
    >>> print(counts, edges)
    [1 2 2 1] [ 0.1  1.  10. ]
    """
    _check.refuse_state(rates, "rates", "write histogram(effective_rates(state))")
    low, high = decades
    if not (low < high and per_decade > 0):
        raise ValueError(f"histogram: expected two ascending decades and bins in them, got {decades} and {per_decade}")
    steps = range(low * per_decade, high * per_decade + 1)
    edges = np.asarray([float(f"1e{k // per_decade}") * 10 ** (k % per_decade / per_decade) for k in steps])
    leaves, spec = _tree.flatten(rates)
    namespace = _check.params(leaves, functools.partial(_tree.path, spec, "rates"), "rates")
    if namespace is None:
        raise ValueError("rates has no arrays to count")
    xp, counts = namespace.xp, []
    at = [i for i, x in enumerate(leaves) if x is not None]
    placings, arrays = _dtensor.parts([leaves[i] for i in at])
    for i, x in zip(at, arrays, strict=True):
        dtype = COMPUTE_DTYPE[dtype_name(x)]
        if dtype in REAL_DTYPE:
            raise TypeError(f"{_tree.path(spec, 'rates', i)} must be real, got {dtype_name(x)}")
        with namespace.on_device(x):
            x = namespace.cast(x, namespace.dtype(dtype))
            puts_it_beside = namespace.name in ("jax", "cupy")
            device = None if puts_it_beside else namespace.device(x)
            counts.append(_counts(xp, xp.reshape(x, (-1,)), xp.asarray(edges, dtype=x.dtype, device=device)))
    return Histogram(_dtensor.combined(counts, placings, "sum", operator.add), edges)


def _counts(xp: Any, x: Array, edges: Array) -> Array:
    """Count the numbers of each bin, the first and last of which are open."""
    number = ~xp.isnan(x)
    numbers = xp.reshape(xp.sum(xp.astype(number, xp.int32)), (1,))
    below = xp.astype(xp.searchsorted(xp.sort(xp.where(number, x, math.inf)), edges), numbers.dtype)
    return xp.concat([below[:1], below[1:] - below[:-1], numbers - below[-1:]])
