"""The experiments, a module each.

How one is added:

1. Write ``experiments/NAME.py`` with a function for one *unit run* (one training with one seed and one configuration,
   or one simulation): keyword arguments in, a dict of NumPy arrays and numbers out, nothing written, random numbers
   from its seed alone. Arguments must have a faithful ``repr`` (numbers, words, tuples, methods and schedules have),
   because a run is stored under them: what has ended is not run again, unless ``--fresh`` asks for it or what it
   computes has changed (``digest.py``). What several experiments run stands in ``runs/``, over which methods, rates and
   seeds in ``grids/``; what is too long for a module here, in ``runs/`` and ``findings/``.
2. Add a function that lists the runs, ``runs(quick) -> list[Run]``: ``Run(train, method=AdaMod(), seed=0)``. With
   ``quick`` all experiments together take about two minutes.
3. Write each claim into ``claims/SOURCE.toml``, once, with the published value. Add a function ``report(results, quick)
   -> Report`` of the stored results: a ``Finding`` for each claim, with the result, the criterion and the verdict that
   follows from them; the tests that it rests on (``statistics.py``); figures (``style.panels``); tables as Markdown;
   and checks, which must hold in quick and in full. A claim that does not reproduce is reported. A check that fails
   makes the session fail: it says what this library must do (a closed form, a law of the simulation within its
   statistical error), not what a training is hoped to show.
4. End with ``EXPERIMENT = Experiment(name, title, about, runs, report)`` and list NAME below.
5. ``python -m reproduction NAME``, with ``--quick`` at first. Look at the pictures.

The runner stores each run as soon as it ends, several at a time in processes of one thread each, and shows a bar.
``import mlp`` and ``from demo import digits`` give the demo's network and data.
"""

from __future__ import annotations

import importlib

from reproduction.frame import Experiment

NAMES = (
    "magnitudes",
    "warmups",
    "variance",
    "bound",
    "early",
    "transformer",
    "layer_norm",
    "first_gradients",
    "lengths",
    "rates",
    "diffgrad",
    "robustness",
    "images",
    "depth",
    "lstm",
    "sgdm",
    "restart",
    "late",
    "interchangeable",
    "first_steps",
    "variants",
    "compact",
    "printed",
    "agreement",
)  # fmt: skip
"""In the order of the page."""


def load(name: str) -> Experiment:
    """The experiment of that name."""
    experiment: Experiment = importlib.import_module(f"reproduction.experiments.{name}").EXPERIMENT
    return experiment
