"""What the simulated rates say of the claims on their variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from adamod_array.schedules import radam_warmup
from reproduction.findings.rate_laws import chance, tail
from reproduction.frame import Finding, Values, wherever
from reproduction.runs.simulated_rates import BETA2

FIRST = 20
"""The step from which on sample variances are trusted."""
FLAT = 0.25
"""What is called constant stays within this part of its last value."""


@dataclass(frozen=True)
class Found:
    """The results of the experiment."""

    means: dict[float, Values]
    """Adam's, by the mean of the gradients."""
    applied: dict[str, Values]
    """At mean 0, by method."""
    squared: dict[float, Values]
    """Adam's in the first 100 steps, by the mean."""

    def rectified(self, mean: float) -> np.ndarray:
        """Return the variance of the rate times RAdam's factor."""
        each = self.means[mean]
        return np.asarray(radam_warmup(BETA2)(each["t"]) ** 2 * each["variance"])


def at(values: Values, name: str, step: int) -> float:
    """Return what was recorded at a step."""
    return float(values[name][np.searchsorted(values["t"], step)])


def findings(of: Found) -> list[Finding]:
    """Return what is said of the claims."""
    return [*_early(of), *_rectification(of), *_existence(), *_means(of), *_applied(of), *_fluctuations(of)]


def _early(of: Found) -> list[Finding]:
    zero = of.means[0.0]
    growth = {mean: at(each, "variance", FIRST) / float(each["variance"][-1]) for mean, each in of.means.items()}
    later = at(zero, "variance", 100) / float(zero["variance"][-1])
    until = zero["t"][zero["variance"] > 2 * zero["variance"][-1]][-1]
    shares = {t: chance(t, 100.0) for t in (1, 2, 5, 10)}
    some = {f"$t = {t}$": share >= 1e-3 for t, share in shares.items()}
    return [
        Finding(
            "radam/figure-1-and-ma-yarats-3",
            f"{growth[0.0]:.0f} times as large at $t = {FIRST}$ as at 10,000, for $\\mu = 0$",
            f"at least 10 times as large at $t = {FIRST}$ as in the end",
            "holds" if growth[0.0] >= 10 else "does not hold",
        ),
        Finding(
            "untuned/3-2-elevated",
            f"{later:.0f} times its last value at $t = 100$, and more than twice up to $t = {until}$",
            r"at least twice its last value at $t = 100$, a tenth of $1/(1-\beta_2)$; $\mu = 0$",
            "holds" if later >= 2 else "does not hold",
        ),
        Finding(
            "radam/what-if-the-gradient-is-not",
            ", ".join(f"{growth[mean]:.0f} ($\\mu = {mean:g}$)" for mean in growth if mean)
            + f" times as large at $t = {FIRST}$ as at 10,000",
            "at least 10 times, for each mean",
            *wherever({f"{mean:g}": ratio >= 10 for mean, ratio in growth.items() if mean}, "means"),
        ),
        Finding(
            "adamod/introduction-2",
            "share of rates above 10 and 100 times the stationary one: "
            + "; ".join(f"{at_ten:.2g} and {shares[t]:.1g} at $t = {t}$" for t, at_ten in _tens(shares).items()),
            r"by the $\chi^2$ law, one rate in 1,000 is above 100 times the stationary one, which is called extremely"
            " large here",
            *wherever(some, "steps"),
        ),
    ]


def _tens(shares: dict[int, float]) -> dict[int, float]:
    return {t: chance(t, 10.0) for t in shares}


def _rectification(of: Found) -> list[Finding]:
    zero, tame = of.means[0.0], of.means[0.0]["t"] >= FIRST
    flat = {mean: of.rectified(mean)[tame] / of.rectified(mean)[-1] for mean in of.means}
    is_flat = {mean: bool(np.max(np.abs(x - 1)) <= FLAT) for mean, x in flat.items()}
    fall = at(zero, "variance", FIRST) / float(zero["variance"][-1])
    criterion = f"for $t \\ge {FIRST}$ within {FLAT:.0%} of its last value"
    return [
        Finding(
            "radam/readme-on-eq-8-analytically-reducing",
            f"$\\omega_t^2\\operatorname{{Var}}\\psi_t$ is {flat[0.0].min():.2f} to {flat[0.0].max():.2f} of its"
            f" last value, while the variance itself falls {fall:.0f}-fold",
            f"{criterion}; $\\mu = 0$",
            "holds" if is_flat[0.0] else "does not hold",
        ),
        Finding(
            "radam/what-if-the-gradient-is-not-2",
            ", ".join(f"{x.min():.2f} to {x.max():.2f} ($\\mu = {mean:g}$)" for mean, x in flat.items() if mean)
            + " of the last value",
            f"{criterion}, for each mean; what it does to trainings is in the rows on RAdam",
            *wherever({f"{mean:g}": held for mean, held in is_flat.items() if mean}, "means"),
        ),
    ]


def _existence() -> list[Finding]:
    # E[psi^2] = E[1/v] exists where the chance of psi > x falls faster than x^-2; the square's variance needs x^-4
    root = {t: tail(t) > 2.001 for t in range(1, 5)}
    square = {t: tail(t) > 4.001 for t in range(1, 5)}
    none, first = {f"$t = {t}$": not exists for t, exists in root.items()}, [t for t in root if not root[t]]
    powers = ", ".join(f"{tail(t):.2f}" for t in root)
    criterion = r"a variance exists where, by the $\chi^2$ law, $P(\psi_t > x)$ falls faster than $x^{-2}$"
    return [
        Finding(
            "untuned/3-2-first-half",
            f"$P(\\psi_t > x)$ falls like $x$ to the power of minus {powers} at $t$ = 1 to 4: no variance up to"
            f" $t = {max(first, default=0)}$",
            criterion + "; the first of these steps decides",
            "holds" if first[:1] == [1] else "does not hold",
        ),
        Finding(
            "untuned/3-2-divergent",
            f"the variance of the rate is infinite at $t$ = {', '.join(map(str, first))}; that of its square at $t$ = "
            + ", ".join(str(t) for t, exists in square.items() if not exists),
            criterion + r", for the steps with $\rho_t \le 4$",
            *wherever(none, "steps"),
        ),
    ]


def _means(of: Found) -> list[Finding]:
    zero, ten = of.means[0.0], of.means[10.0]
    small = at(ten, "variance", FIRST) / at(zero, "variance", FIRST)
    less = {
        mean: at(of.squared[0.0], "squared", 100) / at(each, "squared", 100)
        for mean, each in of.squared.items()
        if mean > 0
    }
    names = {mean: f"coefficient {1 / mean:.2g}" for mean in less}
    seen = ", ".join(f"{ratio:.3g} ({names[mean]})" for mean, ratio in less.items())
    return [
        Finding(
            "radam/what-if-the-gradient-is-not-3",
            f"{small:.1e} of that at $\\mu = 0$, at $t = {FIRST}$",
            "below a hundredth",
            "holds" if small < 0.01 else "does not hold",
        ),
        Finding(
            "untuned/3-2-footnote-4",
            f"{seen} times less than at mean 0, at $t = 100$",
            "at least twice less, for each mean",
            *wherever({names[mean]: ratio >= 2 for mean, ratio in less.items()}, "coefficients of variation"),
        ),
        Finding(
            "untuned/footnote-4",
            ", ".join(f"{ratio:.3g} ({names[mean]})" for mean, ratio in less.items() if mean > 1) + " times less",
            "at least ten times less, for each coefficient below 1",
            *wherever({names[m]: ratio >= 10 for m, ratio in less.items() if m > 1}, "coefficients of variation"),
        ),
    ]


def _applied(of: Found) -> list[Finding]:
    adam = of.applied["Adam"]
    mods = {name.split("= ")[1].rstrip("$"): each for name, each in of.applied.items() if "AdaMod" in name}
    steps = (1, 2, 5, 10, 100, 1000, 10_000)
    final = float(adam["variance"][-1])
    tamed, less, texts = {}, {}, []
    ratios: dict[str, float] = {}
    for beta3, each in mods.items():
        seen = {t: at(each, "variance", t) for t in steps}
        texts.append(", ".join(f"{value:.1g}" for value in seen.values()) + f" ($\\beta_3 = {beta3}$)")
        for t, value in seen.items():
            place = f"{beta3} at $t = {t:,}$"
            tamed[place] = t > 2 and value <= 2 * final  # up to 2 there is none: it cannot be estimated
            if t >= 10:
                ratios[place] = value / at(of.applied["RAdam"], "variance", t)
            if t >= FIRST:
                less[place] = value <= 0.9 * at(adam, "variance", t)
    marks = ", ".join(f"{t:,}" for t in steps)
    return [
        Finding(
            "article/no-warm-up-needed",
            f"variance at $t$ = {marks}: {'; '.join(texts)}; Adam's ends at {final:.1g}",
            "at each of these steps at most twice what Adam's variance is in the end; at $t = 1$ and 2 there is"
            " none, by law, and the sample's is chance (which was decided afterwards)",
            *wherever(tamed, "places"),
        ),
        Finding(
            "article/similar-to-radam",
            "AdaMod's variance over RAdam's: " + ", ".join(f"{ratio:.2g} ({place})" for place, ratio in ratios.items()),
            "within a factor of two",
            *wherever({place: 0.5 <= ratio <= 2 for place, ratio in ratios.items()}, "places"),
        ),
        Finding(
            "adamod/methods-variance",
            "over Adam's at $t$ = 100, 1,000 and 10,000: "
            + "; ".join(
                ", ".join(f"{at(each, 'variance', t) / at(adam, 'variance', t):.2g}" for t in steps if t >= FIRST)
                + f" ($\\beta_3 = {beta3}$)"
                for beta3, each in mods.items()
            ),
            "the variance over coordinates is at least a tenth less than Adam's, at each of these steps",
            *wherever(less, "places"),
        ),
    ]


def _fluctuations(of: Found) -> list[Finding]:
    adam = of.applied["Adam"]
    smoother, texts = {}, []
    for name, each in of.applied.items():
        if "AdaMod" in name:
            beta3 = name.split("= ")[1].rstrip("$")
            quotients = each["fluctuation"] / adam["fluctuation"]
            texts.append(", ".join(f"{q:.2g}" for q in quotients) + f" ($\\beta_3 = {beta3}$)")
            for end, q in zip(each["windows"], quotients, strict=True):
                smoother[f"{beta3} up to $t = {end:,}$"] = bool(q <= 0.9)
    windows = " and ".join(f"{end:,}" for end in adam["windows"])
    return [
        Finding(
            "adamod/methods-fluctuations",
            f"over Adam's, in the 100 steps up to $t$ = {windows}: {'; '.join(texts)}",
            "a coordinate's standard deviation about a line, in parts of its rate, is at least a tenth less than"
            " Adam's",
            *wherever(smoother, "places"),
        ),
    ]
