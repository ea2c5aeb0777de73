"""Adam, AdaMod, RAdam and untuned warmups on whatever arrays you have.

>>> import numpy as np
>>> from adamod_array import adamod_init, adamod_step
>>> params = {"w": np.zeros(3), "b": np.zeros(1)}
>>> state = adamod_init(params, lr=1e-3)
>>> state = adamod_step(state, grads={"w": np.ones(3), "b": np.ones(1)})
>>> state.step
1
"""

from adamod_array import _registration as _registration
from adamod_array import diagnostics, schedules
from adamod_array._engines import engine, release_memory
from adamod_array._formulas import abs_sq, bias_correction, corrected_average, corrected_update, corrected_weights
from adamod_array._math import host_math
from adamod_array._method import Method
from adamod_array._norm import all_finite, clip_by_global_norm, global_norm
from adamod_array._show import show
from adamod_array._state import State
from adamod_array._step import init, step
from adamod_array.adam import Adam
from adamod_array.adamod import AdaMod
from adamod_array.diffgrad import DiffGrad, DiffMod
from adamod_array.functional import (
    adam_init,
    adam_step,
    adamod_init,
    adamod_step,
    diffgrad_init,
    diffgrad_step,
    diffmod_init,
    diffmod_step,
    momentum_init,
    momentum_step,
    radam_init,
    radam_step,
)
from adamod_array.momentum import Momentum
from adamod_array.radam import RAdam

__version__ = "0.1.0"

__all__ = [
    "AdaMod",
    "Adam",
    "DiffGrad",
    "DiffMod",
    "Method",
    "Momentum",
    "RAdam",
    "State",
    "abs_sq",
    "adam_init",
    "adam_step",
    "adamod_init",
    "adamod_step",
    "all_finite",
    "bias_correction",
    "clip_by_global_norm",
    "corrected_average",
    "corrected_update",
    "corrected_weights",
    "diagnostics",
    "diffgrad_init",
    "diffgrad_step",
    "diffmod_init",
    "diffmod_step",
    "engine",
    "global_norm",
    "host_math",
    "init",
    "momentum_init",
    "momentum_step",
    "radam_init",
    "radam_step",
    "release_memory",
    "schedules",
    "show",
    "step",
]
