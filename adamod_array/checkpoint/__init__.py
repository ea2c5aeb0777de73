"""States on disk and between frameworks: a run saved from any arrays goes on, to the last bit, on any others.

A file is in the safetensors format: nothing in it is executed, and other programs can read it. The format is described
in the documentation, "Checkpoints". ``save`` and ``load`` need the library ``safetensors``:
``pip install 'adamod_array[checkpoint]'``.
"""

from __future__ import annotations

import os
from typing import Any

from adamod_array._state import State
from adamod_array._tree import P
from adamod_array.checkpoint import _file
from adamod_array.checkpoint._error import CheckpointError
from adamod_array.checkpoint._match import Held, Template, assembled

__all__ = ["CheckpointError", "convert", "load", "save"]


def save(state: State[Any], path: str | os.PathLike[str]) -> None:
    """Write a state to one file, which is the old one or the new one whenever the process dies.

    The file is written in a temporary folder beside it, synced to the disk, and renamed. A link is followed, so that it
    goes on pointing to the file. Arrays on the host are written from where they are; those of a device, of JAX's
    compiled programs or with gaps in memory are copied to the host first.

    Parameters
    ----------
    state : State
        Of any framework, its arrays all in reach of this process.
    path : str or path
        The file, ``run.safetensors``. One that is there is replaced, and keeps its permissions.

    Raises
    ------
    TypeError
        The learning rate, or a field of the method, cannot be written as data: a function that is no ``Schedule``, say.
    ValueError
        The state is spent; a part of an array lies with other processes; two leaves have the same path.
    OSError
        The file cannot be written. One that was there is as it was.
    ImportError
        safetensors is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from adamod_array import adam_init
    >>> from adamod_array.checkpoint import load, save
    >>> params = {"w": np.arange(3.0)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "run.safetensors")
    ...     save(adam_init(params), path)
    ...     load(path, like=params)
    State(Adam(beta1=0.9, beta2=0.999, eps=1e-08, eps_root=0.0, amsgrad=False), step=0, lr=0.001,
      params={'w': float64[3]},
      slots: m, v)
    """
    if isinstance(path, State):
        raise TypeError("save: the order is save(state, path)")
    _file.write(Held.of(state), path)


def load(path: str | os.PathLike[str], like: P | State[P], *, method: Any = None, lr: Any = None) -> State[P]:
    """Return the state that a file holds, in arrays like others.

    All names, dtypes and shapes are compared before the first array is made; arrays are then read one at a time.

    Parameters
    ----------
    path : str or path
        A file of :func:`save`.
    like : tree of arrays or State
        Parameters, whose numbers do not matter, in the containers, framework, dtypes, devices and shardings wanted.
        Of a State the slots are looked at too, so that they may be sharded in another way than their parameters; its
        counts, rates and hyperparameters do not matter.
    method : Method or a tree prefix of methods, optional
        What the file must hold. It is needed for a method of your own, unless ``like`` is a State of it.
    lr : float, schedule, or a tree prefix of them, optional
        In place of the learning rate in the file; needed for a schedule of a class of your own.

    Returns
    -------
    State
        With the step count, method, rates and decays of the file. Parameters of PyTorch require gradients where those
        of ``like`` do.

    Raises
    ------
    CheckpointError
        The file is damaged, or not of :func:`save`; it holds other leaves than ``like``, other dtypes or shapes,
        another method, or numbers that JAX would halve because ``jax_enable_x64`` is off. The message names the leaf
        or field.
    TypeError, ValueError
        ``like``, ``method`` or ``lr`` is none.
    OSError
        The file cannot be read.
    ImportError
        safetensors is not installed.

    Examples
    --------
    See :func:`save`.
    """
    if isinstance(like, (str, os.PathLike)):
        raise TypeError("load: the order is load(path, like)")
    template = Template.of(like)
    with _file.opened(path, template, method, lr) as held:
        return assembled(held, template)


def convert(state: State[Any], like: P | State[P]) -> State[P]:
    """Return a copy of a state in arrays like others; it shares no memory with the state, nor with ``like``.

    Parameters
    ----------
    state : State
        Of any framework.
    like : tree of arrays or State
        As in :func:`load`: leaves are matched by their paths.

    Returns
    -------
    State
        With the numbers, bit for bit, and the counts, method, rates and decays of ``state``.

    Raises
    ------
    CheckpointError
        Leaves differ in path, dtype or shape, or would lose bits.
    TypeError, ValueError
        ``like`` is none; the state is spent, or a part of it lies with other processes.

    Examples
    --------
    >>> import numpy as np
    >>> from adamod_array import momentum_init
    >>> from adamod_array.checkpoint import convert
    >>> state = momentum_init({"w": np.arange(3.0)}, lr=0.5)
    >>> other = convert(state, like={"w": np.zeros(3)})
    >>> other.params, np.shares_memory(other.params["w"], state.params["w"])
    ({'w': array([0., 1., 2.])}, False)
    """
    return assembled(Held.of(state), Template.of(like))
