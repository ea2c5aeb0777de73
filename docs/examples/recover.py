"""Recover an image from its blurred picture, and a complex field from intensities, by gradient steps.

    python docs/examples/recover.py --backend cupy

on NumPy's arrays or CuPy's; prints a table and draws recovered.png. The two problems are in problems.py.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from problems import Array, Deblurring, PhaseRetrieval
from sklearn.datasets import load_sample_image
from tqdm import tqdm

from adamod_array import Adam, AdaMod, Method, Momentum, init, step

METHODS: dict[str, Method] = {
    "plain gradient": Momentum(beta=0.0),
    "Adam": Adam(),
    "AdaMod, beta3 = 0.99": AdaMod(beta3=0.99),
}
SWEPT = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
BEST = {"deblurring": (1.0, 0.1, 0.03), "phase retrieval": (1.0, 0.3, 1.0)}
"""Of the swept learning rates, those of the smallest loss after 150 steps."""
COLOURS = ("#555555", "#D55E00", "#0072B2")


def photograph(name: str, size: int) -> np.ndarray:
    """The middle of one of the two photographs that come with scikit-learn: grey, in [0, 1], averaged to this size."""
    grey = load_sample_image(name).astype(np.float64).mean(axis=2) / 255
    shrink = min(grey.shape) // size
    top, left = ((length - size * shrink) // 2 for length in grey.shape)
    middle = grey[top : top + size * shrink, left : left + size * shrink]
    return np.asarray(middle.reshape(size, shrink, size, shrink).mean(axis=(1, 3)))


def host(x: Array) -> np.ndarray:
    """The array in NumPy's memory."""
    return np.asarray(x.get() if hasattr(x, "get") else x)


def psnr(x: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, of images in [0, 1]."""
    return float(-10 * np.log10(np.mean((x - truth) ** 2)))


Panels = list[tuple[str, np.ndarray]]
"""Grey pictures in [0, 1], and their titles."""


@dataclass
class Experiment:
    """A problem on arrays of one backend, how a result is judged by the truth, and how it is shown."""

    name: str
    problem: Any
    judge: Callable[[np.ndarray], str]
    panels: Callable[[np.ndarray], Panels]

    def recover(self, method: Method, rate: float, steps: int, every: int = 5) -> tuple[np.ndarray, dict[int, float]]:
        """The unknown after so many steps, and the loss on the way."""
        state = init(method, self.problem.start(), lr=rate)
        losses = {0: self.problem.loss(state.params)}
        for t in tqdm(range(1, steps + 1), desc=f"{self.name}, {type(method).__name__}, {rate:g}", leave=False):
            state = step(state, self.problem.gradient(state.params), donate=True)
            if t % every == 0 or t == steps:
                losses[t] = self.problem.loss(state.params)
        return host(state.params), losses


def deblurring(xp: Any, size: int) -> Experiment:
    """A photograph of a temple, out of focus."""
    truth = photograph("china.jpg", size)
    seen = Deblurring.measured(truth, np.random.default_rng(0))

    def judge(x: np.ndarray) -> str:
        return f"PSNR {psnr(x, truth):.2f} dB"

    def panels(x: np.ndarray) -> Panels:
        return [
            ("photograph", truth),
            (f"seen: {judge(seen)}", seen),
            (f"recovered: {judge(x)}", x),
            ("what is left, 5 times", 5 * abs(x - truth)),
        ]

    return Experiment("deblurring", Deblurring(xp.asarray(seen)), judge, panels)


def phase_retrieval(xp: Any, size: int) -> Experiment:
    """Two photographs, one as the amplitude of a field and one as its phase, from -pi/2 to pi/2."""
    truth = (0.2 + 0.8 * photograph("china.jpg", size)) * np.exp(1j * np.pi * (photograph("flower.jpg", size) - 0.5))
    masks, amplitudes = PhaseRetrieval.measured(truth, np.random.default_rng(0))

    def turned(x: np.ndarray) -> np.ndarray:
        overlap = np.vdot(x, truth)  # the one phase that no intensity shows
        return np.asarray(x * overlap / abs(overlap))

    def judge(x: np.ndarray) -> str:
        return f"error {np.linalg.norm(turned(x) - truth) / np.linalg.norm(truth):.4f}"

    def panels(x: np.ndarray) -> Panels:
        return [
            ("one of 6 patterns seen", np.fft.fftshift(amplitudes[0]) / 4),
            (f"amplitude: {judge(x)}", abs(x)),
            ("phase", np.angle(turned(x)) / np.pi + 0.5),
            ("what is left, 20 times", 20 * abs(turned(x) - truth)),
        ]

    return Experiment("phase retrieval", PhaseRetrieval(xp.asarray(masks), xp.asarray(amplitudes)), judge, panels)


def draw(path: str, rows: list[tuple[Panels, dict[str, dict[int, float]]]]) -> None:
    """A row a problem: pictures, then the loss of every method over the steps."""
    figure = Figure(figsize=(13, 2.8 * len(rows)), layout="constrained")
    for axes, (pictures, losses) in zip(figure.subplots(len(rows), 5), rows, strict=True):
        for each, (title, picture) in zip(axes[:4], pictures, strict=True):
            each.imshow(picture, cmap="gray", vmin=0, vmax=1)
            each.set_title(title, fontsize=10)
            each.axis("off")
        smallest = min(min(curve.values()) for curve in losses.values())
        for (name, curve), colour in zip(losses.items(), COLOURS, strict=True):
            above = [value - smallest or np.nan for value in curve.values()]
            axes[4].plot(list(curve), above, label=name.replace("beta3", r"$\beta_3$"), color=colour)
        axes[4].set(yscale="log", xlabel="step", ylim=(1e-6, None))
        axes[4].set_title("loss above the smallest", fontsize=10)
        axes[4].legend(loc="upper right", edgecolor="none", fontsize=8)
    figure.savefig(path, dpi=100)


def main() -> None:
    """The table, then the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy", choices=("numpy", "cupy"), help="whose arrays (default: numpy)")
    parser.add_argument("--output", default="recovered.png", help="where the picture goes (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=150, help="of each method (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side, a power of 2 (default: %(default)s)")
    parser.add_argument("--sweep", action="store_true", help="every learning rate, not only the best; draws nothing")
    options = parser.parse_args()
    xp = importlib.import_module(options.backend)

    rows = []
    print(f"{'problem':<16}{'method':<22}{'rate':<7}{'loss':<10}judged by the truth")
    for experiment in (deblurring(xp, options.size), phase_retrieval(xp, options.size)):
        start = host(experiment.problem.start())
        loss = experiment.problem.loss(experiment.problem.start())
        print(f"{experiment.name:<16}{'(start)':<22}{'':<7}{loss:<10.4g}{experiment.judge(start)}")
        curves = {}
        for (name, method), best in zip(METHODS.items(), BEST[experiment.name], strict=True):
            for rate in SWEPT if options.sweep else (best,):
                found, curves[name] = experiment.recover(method, rate, options.steps)
                last = curves[name][options.steps]
                print(f"{experiment.name:<16}{name:<22}{rate:<7g}{last:<10.4g}{experiment.judge(found)}")
        rows.append((experiment.panels(found), curves))
    if not options.sweep:
        draw(options.output, rows)
        print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
