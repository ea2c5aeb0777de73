"""What the simulated update magnitudes say of Ma & Yarats' claims."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from reproduction.frame import Finding, Values, wherever

VARIANCE = 1e-9
"""Of the gradients, in the paper's simulation."""
LAW_NAMES = {
    "normal": "normal",
    "Student": "Student's t",
    "Laplace": "Laplace",
    "sparse": "sparse",
    "mean 1": "mean of one deviation",
    "falling": "falling variance",
}
MINIMA = ("normal", "Student", "Laplace", "sparse", "falling")
"""Laws of mean 0, as it is at a minimum."""


@dataclass(frozen=True)
class Found:
    """The results of the experiment, by what they are of."""

    methods: dict[str, Values]
    laws: dict[str, Values]
    first_order: dict[str, Values]
    scales: dict[float, Values]
    radam_at_one: Values
    rectified: dict[tuple[str, float], Values]
    first: Values
    parameters: int

    def settled(self) -> float:
        """Return the mean of Adam's late medians."""
        return late(self.methods["Adam"])

    def error(self, limit: float) -> float:
        """Return its standard error: medians of iterations that are 100 apart do not know each other."""
        t = self.methods["Adam"]["t"]
        quartile = NormalDist().inv_cdf(0.75)
        # the density of |x| at its median, of a normal x with that median, gives the error of the median of n
        density = 2 * NormalDist().pdf(quartile) * quartile / limit
        return 1 / (2 * density * math.sqrt(self.parameters)) / math.sqrt(t[-1] / 2 / 100)


def median(values: Values) -> np.ndarray:
    """Return the median magnitude at each step that was recorded."""
    return np.asarray(values["quantiles"][:, 2])


def at(values: Values, step: int) -> float:
    """Return the median magnitude at a step."""
    return float(median(values)[np.searchsorted(values["t"], step)])


def late(values: Values) -> float:
    """Return the mean of the medians in the second half of the iterations."""
    return float(np.mean(median(values)[values["t"] > values["t"][-1] / 2]))


def findings(of: Found) -> list[Finding]:
    """Return what is said of the claims."""
    return [*_radam(of), *_first_step(of), *_settling(of), *_large_at_first(of), *_invariance(of)]


def _radam(of: Found) -> list[Finding]:
    places = {f"{LAW_NAMES[law]}, variance {variance:g}": each for (law, variance), each in of.rectified.items()}
    warm = {place: float(each["warm"]) for place, each in places.items()}
    corrected = {place: float(max(each["corrected"])) for place, each in places.items()}
    verdict, extent = wherever({place: off < 1e-11 for place, off in warm.items()}, "kinds of gradients")
    heavy, heavy_extent = wherever({place: off < 1e-11 for place, off in corrected.items()}, "kinds of gradients")
    apart = next(iter(places.values()))["heavy"]
    criterion = f"at most $10^{{-11}}$ off, relative to the largest update, for {len(places)} kinds of gradients"
    return [
        Finding(
            "untuned/3-1-fixed-warmup",
            f"$\\omega_t$ times Adam's updates from $t = 5$ on, at most {max(warm.values()):.0e} off",
            criterion,
            verdict,
            extent,
        ),
        Finding(
            "untuned/3-1-momentum",
            f"the first four updates are $(1-\\beta_1)/(1-\\beta_1^t)$ times those of heavy-ball momentum, at most"
            f" {max(corrected.values()):.0e} off; at $t$ = 2 to 4, that is {1 - apart[1]:.2f} to {1 - apart[3]:.2f} of"
            " them",
            f"{criterion}; the factor is the bias correction of footnote 2 and, unsaid there, $1-\\beta_1$",
            heavy,
            heavy_extent,
        ),
    ]


def _first_step(of: Found) -> list[Finding]:
    adam = of.methods["Adam"]
    one = float(np.max(np.abs(adam["range"][0] - 1)))
    kept, corrected = of.first["kept"], of.first["corrected"]
    readings = {
        "as equations 2 and 3 define them": bool(np.max(np.abs(kept - 1)) < 1e-12),
        "after both bias corrections": bool(np.max(np.abs(corrected - 1)) < 1e-12),
    }
    deviation = [float(each) for each in adam["deviation"][:4]]
    still = {f"$t = {t}$": each < 1e-12 for t, each in enumerate(deviation, start=1)}
    return [
        Finding(
            "untuned/3-2-first-half-2",
            f"$|m_1|/\\sqrt{{v_1}}$ is {np.mean(kept):.3f} for all parameters, and {np.mean(corrected):.3f} after"
            " both bias corrections",
            "1 to $10^{-12}$",
            *wherever(readings, "readings"),
        ),
        Finding(
            "untuned/3-2-3-3-figure-2",
            f"1, within {one:.0e}",
            f"all {of.parameters:,} magnitudes at $t = 1$ are 1 to $10^{{-15}}$",
            "holds" if one < 1e-15 else "does not hold",
        ),
        Finding(
            "untuned/3-2-2",
            "the standard deviation over parameters is "
            + ", ".join("0" if each < 1e-12 else f"{each:.2f}" for each in deviation)
            + r" at $t$ = 1 to 4, the steps with $\rho_t \le 4$",
            "below $10^{-12}$ at each of these steps",
            *wherever(still, "steps"),
        ),
    ]


def _settling(of: Found) -> list[Finding]:
    adam = of.methods["Adam"]
    t, settled, error = adam["t"], of.settled(), of.error(of.settled())
    outside = np.flatnonzero((np.abs(median(adam) / settled - 1) > 0.05) & (t <= 1000))
    steady = int(t[outside[-1] + 1])
    single = median(adam)[t > t[-1] / 2]
    low, high = np.quantile(single, (0.025, 0.975))
    readings = {
        "the limit": abs(settled - 0.153) < 0.0005 + 2 * error,
        "the median of a single late iteration": bool(low - 0.0005 <= 0.153 <= high + 0.0005),
    }
    begins = abs(at(adam, 40) - 0.16) < 0.005 and 20 <= steady <= 80
    return [
        Finding(
            "untuned/3-3-figure-2-6-1",
            f"median {at(adam, 40):.3f} at $t = 40$; within 5 % of its limit from $t = {steady}$ on",
            "0.16 after rounding at $t = 40$, and within 5 % of the limit for good from a step of 20 to 80 on",
            "holds" if begins else "does not hold",
        ),
        Finding(
            "untuned/3-3",
            f"the limit is {settled:.4f} ± {error:.4f}; the medians of single late iterations, {low:.4f} to {high:.4f}",
            "0.153, to its rounding, within two standard errors of the limit, or among the middle 95 % of single"
            " iterations: the paper does not say which it is",
            *wherever(readings, "readings"),
        ),
    ]


def _large_at_first(of: Found) -> list[Finding]:
    larger = {LAW_NAMES[law]: _most(of.laws[law]) for law in MINIMA}
    first_order = {name: _most(each) for name, each in of.first_order.items()}
    return [
        Finding(
            "untuned/3-3-2",
            "largest median of the first 40 iterations over the late one: "
            + ", ".join(f"{ratio:.1f} ({law})" for law, ratio in larger.items()),
            "at least twice as large, for each law of mean 0",
            *wherever({law: ratio >= 2 for law, ratio in larger.items()}, "laws of gradients"),
        ),
        Finding(
            "untuned/3-3-2-sgd",
            ", ".join(f"{ratio:.2f} ({name})" for name, ratio in first_order.items()),
            "the same quotient is at most 1.1",
            *wherever({name: ratio <= 1.1 for name, ratio in first_order.items()}, "methods"),
        ),
    ]


def _most(values: Values) -> float:
    return float(np.max(median(values)[values["t"] <= 40]) / late(values))


def _invariance(of: Found) -> list[Finding]:
    base = of.scales[VARIANCE]
    same = {
        f"{variance:.1e}": str(each["digest"]) == str(base["digest"]) and np.array_equal(each["range"], base["range"])
        for variance, each in of.scales.items()
        if variance != VARIANCE
    }
    medians = {LAW_NAMES[law]: late(each) for law, each in of.laws.items()}
    near = {law: 1 / 1.5 <= value / medians["normal"] <= 1.5 for law, value in medians.items() if law != "normal"}
    return [
        Finding(
            "untuned/footnote-5",
            "the same bits" if all(same.values()) else "other bits",
            f"with variances of {' and '.join(same)}, $2^{{20}}$ times {VARIANCE:g} and as much less, 500 parameters"
            " take the same steps as with that, to the last bit",
            *wherever(same, "variances"),
        ),
        Finding(
            "untuned/6-2",
            "late medians: " + ", ".join(f"{value:.3f} ({law})" for law, value in medians.items()),
            "within a factor of 1.5 of that of normal gradients",
            *wherever(near, "laws of gradients"),
        ),
    ]
