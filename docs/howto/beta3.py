"""Where runs of several lengths end, by beta3: the tables of method_and_beta3.md.

    python docs/howto/beta3.py

prints them in two minutes. Three problems, each at one learning rate: a line through points, an image out of focus,
and the demo's classifier of handwritten digits, which needs scikit-learn and tqdm.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adamod_array import Adam, AdaMod, Method, init, schedules, step

DOCS = Path(__file__).parent.parent
LENGTHS = (100, 400, 1_000, 10_000)
BETA3 = (0.9, 0.99, 0.999, 0.9999)


class Problem(NamedTuple):
    """Parameters at the start, the gradients of one run by the parameters, and what the parameters are worth."""

    start: Any
    rate: float
    gradients: Callable[[], Iterator[Callable[[Any], Any]]]
    worth: Callable[[Any], str]


def line() -> Problem:
    """README's first example: 3 x + 0.5 from 50 points, and the slope that was found."""
    x = np.linspace(-1, 1, 50)

    def gradient(params: Any) -> Any:
        error = params["slope"] * x + params["offset"] - (3 * x + 0.5)
        return {"slope": np.mean(error * x), "offset": np.mean(error)}

    start = {"slope": np.zeros(()), "offset": np.zeros(())}
    return Problem(start, 0.1, lambda: iter(lambda: gradient, None), lambda params: f"{params['slope']:.2f}")


def image() -> Problem:
    """A bright square of 16 by 16 pixels, seen out of focus, recovered from nothing; peak signal to noise in dB."""
    problems = module("examples", "problems")
    truth = np.zeros((32, 32))
    truth[8:24, 8:24] = 1
    seen = problems.Deblurring.measured(truth, np.random.default_rng(0)).astype(np.float64)
    deblurring = problems.Deblurring(seen)

    def worth(found: Any) -> str:
        return f"{-10 * np.log10(np.mean((found - truth) ** 2)):.1f}"

    return Problem(np.zeros_like(seen), 0.02, lambda: iter(lambda: deblurring.gradient, None), worth)


def digits() -> Problem:
    """The demo's network and batches; the share of test images that are read right, in per cent."""
    demo, mlp = module("demo", "demo"), module("demo", "mlp")
    data = demo.digits()

    def gradients() -> Iterator[Callable[[Any], Any]]:
        rng = np.random.default_rng(1)
        for x, y in mlp.batches(*data.train, demo.BATCH, 1_000, rng):
            yield functools.partial(mlp.gradient, x=x, y=y)

    start = mlp.initial_params(demo.SIZES, np.random.default_rng(0))
    return Problem(start, 0.01, gradients, lambda params: f"{100 * mlp.accuracy(params, *data.test):.0f}")


PROBLEMS = {"line": line, "image": image, "digits": digits}


def module(folder: str, name: str) -> Any:
    """Return one of the programs of another page."""
    sys.path.insert(0, str(DOCS / folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def ends(problem: Problem, method: Method, lr: Any, lengths: tuple[int, ...]) -> list[str]:
    """Return what the parameters are worth after so many steps of one run."""
    state = init(method, problem.start, lr=lr)
    found = []
    for gradient in problem.gradients():
        state = step(state, gradient(state.params))
        if state.step in lengths:
            found.append(problem.worth(state.params))
        if state.step == max(lengths):
            break
    return found


def rows(problem: Problem, lengths: tuple[int, ...] = LENGTHS) -> list[str]:
    """Return a line of the table for each length; bold is what has a memory of a tenth of the run or less."""
    adam = [ends(problem, Adam(), problem.rate * schedules.linear_warmup(n / 10), (n,))[0] for n in lengths]
    columns = [adam]
    for beta3 in BETA3:
        found = ends(problem, AdaMod(beta3=beta3), problem.rate, lengths)
        is_short = [round(1 / (1 - beta3)) <= n / 10 for n in lengths]
        columns.append([f"**{cell}**" if short else cell for cell, short in zip(found, is_short, strict=True)])
    return [f"| {' | '.join([f'{n:,}', *cells])} |" for n, *cells in zip(lengths, *columns, strict=True)]


def main() -> None:
    """Print the table of every problem."""
    for name, make in PROBLEMS.items():
        print(f"{name}\n", *rows(make()), sep="\n")


if __name__ == "__main__":
    main()
