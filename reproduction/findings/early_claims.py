"""What the first steps of real trainings say of the claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reproduction.findings import magnitudes_claims
from reproduction.frame import Finding, Values, wherever
from reproduction.runs.early_transformer import LOOKS

BATCHES = (32, 128, 287)
NOISES = (0.0, 0.2)
"""Shares of labels that are drawn at random."""
TASKS = {0.0: "all images learned", 0.2: "noisy labels"}
WINDOWS = (8, 32)
"""Batches of the Transformer."""


@dataclass(frozen=True)
class Found:
    """The results of the experiment: arrays over seeds, then over the steps looked at."""

    t: np.ndarray
    digits: dict[tuple[float, int], dict[str, Any]]
    transformer: dict[int, dict[str, Any]]
    transformer_at: np.ndarray
    minimum: Values

    def at(self, step: int) -> int:
        """Return where a step stands among those looked at."""
        return int(np.searchsorted(self.t, step))

    def late(self) -> dict[str, float]:
        """Return the median updates of the last quarter of the steps, by task and batch."""
        found = {
            f"{TASKS[noise]} at {batch}": float(np.mean(each["moved"][:, 1, self.t > 0.75 * self.t[-1]]))
            for (noise, batch), each in self.digits.items()
        }
        at = self.transformer_at
        for batch, each in self.transformer.items():
            found[f"Transformer at {batch}"] = float(np.mean(each["moved"][:, at > 0.75 * at[-1]]))
        return found


def findings(of: Found) -> list[Finding]:
    """Return what is said of the claims."""
    return [*_variation(of), *_correlation(of), *_start(of), *_settling(of), *_stationary(of)]


def _variation(of: Found) -> list[Finding]:
    plain = {batch: of.digits[0.0, batch]["variation"] for batch in BATCHES}
    first = {batch: float(np.median(each[:, 0])) for batch, each in plain.items()}
    crossed = {batch: _settles_above(of.t, np.median(each, axis=0)) for batch, each in plain.items()}
    shares: dict[str, float] = {}
    texts = []
    for batch in BATCHES:
        noisy = of.digits[0.0, batch]["noisy"]
        seen = {step: float(noisy[:, of.at(step)].min()) for step in LOOKS}
        shares |= {f"digits at {batch} in step {step}": share for step, share in seen.items()}
        texts.append(f"digits at {batch}: " + ", ".join(f"{share:.0%}" for share in seen.values()))
    for batch, each in of.transformer.items():
        by_tensor = [float(np.nanmin(each["noisy"][:, i])) for i in range(len(LOOKS))]
        shares |= {f"Transformer at {batch} in step {LOOKS[i]}": share for i, share in enumerate(by_tensor)}
        texts.append(f"Transformer at {batch}, in its least noisy tensor: " + ", ".join(f"{s:.0%}" for s in by_tensor))
    return [
        Finding(
            "untuned/figure-1a-first-half",
            ", ".join(f"{value:.2f} (batches of {batch})" for batch, value in first.items()),
            "the median of the seeds is below 1 at $t = 1$, for each size of batches",
            *wherever({str(batch): value < 1 for batch, value in first.items()}, "sizes of batches"),
        ),
        Finding(
            "untuned/figure-1a-second-half",
            ", ".join(
                f"{'never' if step is None else 'from the start' if step == 1 else f'from {step} on'}"
                f" (batches of {batch})"
                for batch, step in crossed.items()
            ),
            "above 1 for good from a step of 25 to 100 on, for each size of batches",
            *wherever(
                {str(batch): step is not None and 25 <= step <= 100 for batch, step in crossed.items()},
                "sizes of batches",
            ),
        ),
        Finding(
            "radam/what-if-the-gradient-is-not-4",
            f"share of coordinates whose deviation exceeds their mean at $t$ = {', '.join(map(str, LOOKS))}: "
            + "; ".join(texts),
            "a tenth or more, in each seed, size of batches and step, and in each tensor of the Transformer",
            *wherever({place: share >= 0.1 for place, share in shares.items()}, "places"),
        ),
    ]


def _settles_above(t: np.ndarray, variation: np.ndarray) -> int | None:
    """Return the first recorded step from which on it stays above 1."""
    below = np.flatnonzero(variation <= 1)
    if len(below) == 0:
        return 1
    return int(t[below[-1] + 1]) if below[-1] + 1 < len(t) else None


def _correlation(of: Found) -> list[Finding]:
    steps = (1, 2, 5, 10, 50, 100, 1000)
    least = {
        step: min(float(np.median(of.digits[0.0, batch]["correlation"][:, of.at(step)])) for batch in BATCHES)
        for step in steps
    }
    spread = {}
    for name in ("moved", "rates"):
        quartiles = [np.median(of.digits[0.0, batch][name], axis=0) for batch in BATCHES]
        spread[name] = {
            step: [float((q[2] - q[0])[of.at(step)] / q[1][of.at(step)]) for q in quartiles] for step in steps[1:-1]
        }
    regular = {
        f"$t = {step}$": all(m <= r / 2 for m, r in zip(spread["moved"][step], spread["rates"][step], strict=True))
        for step in spread["moved"]
    }
    marks = ", ".join(map(str, spread["moved"]))
    return [
        Finding(
            "untuned/figure-1b",
            "least median of the seeds over the sizes of batches: "
            + ", ".join(f"{value:.2f} at $t = {step:,}$" for step, value in least.items()),
            "0.9 or more, for each size of batches; chosen afterwards",
            *wherever({f"$t = {step:,}$": value >= 0.9 for step, value in least.items()}, "steps"),
        ),
        Finding(
            "untuned/3-2",
            f"distance of the quartiles over the median at $t$ = {marks}: updates "
            + ", ".join(f"{max(x):.2f}" for x in spread["moved"].values())
            + "; rates "
            + ", ".join(f"{min(x):.2f}" for x in spread["rates"].values()),
            "the updates' is at most half of that of the rates $1/\\sqrt{\\hat v_t}$, for each size of batches"
            " (printed: the largest of the updates, the least of the rates)",
            *wherever(regular, "steps"),
        ),
    ]


def _start(of: Found) -> list[Finding]:
    off = {
        f"{TASKS[noise]} at {batch}": float(np.max(np.abs(each["moved"][:, :, 0] - 1)))
        for (noise, batch), each in of.digits.items()
    }
    return [
        Finding(
            "untuned/figure-1c-start",
            f"1, at most {max(off.values()):.0e} off",
            "the quartiles at $t = 1$ are 1 to $10^{-5}$, in each training",
            *wherever({place: value < 1e-5 for place, value in off.items()}, "places"),
        )
    ]


def _settling(of: Found) -> list[Finding]:
    limit = magnitudes_claims.late(of.minimum)
    simulated = {step: magnitudes_claims.at(of.minimum, step) for step in (10, 20, 40)}
    least: dict[int, float] = {}
    slower, reached = {}, {}
    for (noise, batch), each in of.digits.items():
        place = f"{TASKS[noise]} at {batch}"
        middle = each["moved"][:, 1]
        for step, value in simulated.items():
            seen = float(middle[:, of.at(step)].min())
            least[step] = min(seen, least.get(step, seen))
            slower[f"{place} in step {step}"] = seen >= 1.1 * value
        small = np.flatnonzero(np.median(middle, axis=0) <= 1.1 * limit)
        reached[place] = int(of.t[small[0]]) if len(small) else None
    stays = {place: abs(value / limit - 1) <= 0.25 for place, value in of.late().items()}
    curve = magnitudes_claims.median(of.minimum)
    there = int(of.minimum["t"][np.argmax(curve <= 1.1 * limit)])
    return [
        Finding(
            "untuned/3-3-3",
            "least median of a training at $t$ = 10, 20, 40: "
            + ", ".join(f"{value:.2f}" for value in least.values())
            + "; at the minimum "
            + ", ".join(f"{value:.2f}" for value in simulated.values()),
            "at least a tenth above the minimum's, in each training, at each of these steps",
            *wherever(slower, "places"),
        ),
        Finding(
            "untuned/3-3-4",
            f"at step {there} at the minimum; "
            + ", ".join(
                f"{step or 'never'} ({place}{'' if stays[place] else ', and passes on'})"
                for place, step in reached.items()
            ),
            f"the median first comes within a tenth of the minimum's limit, {limit:.3f}, at a step of 50 to 200,"
            " and later than there, and its mean over the last quarter of the steps is within a quarter of it (added"
            " afterwards)",
            *wherever(
                {p: step is not None and max(50, there) <= step <= 200 and stays[p] for p, step in reached.items()},
                "places",
            ),
        ),
    ]


def _stationary(of: Found) -> list[Finding]:
    limit, late = magnitudes_claims.late(of.minimum), of.late()
    digits = {place: value for place, value in late.items() if "Transformer" not in place}
    ratios = {}
    for task in (*TASKS.values(), "Transformer"):
        values = [value for place, value in late.items() if place.startswith(task)]
        ratios[task] = max(values) / min(values)
    return [
        Finding(
            "untuned/figure-1c-settle",
            "mean of the median updates over the last quarter of the steps: "
            + ", ".join(f"{value:.3f} ({place})" for place, value in digits.items()),
            "within a quarter of 0.15",
            *wherever({place: abs(value / 0.15 - 1) <= 0.25 for place, value in digits.items()}, "places"),
        ),
        Finding(
            "untuned/6-2-similar",
            f"{limit:.3f} at the minimum; " + ", ".join(f"{value:.3f} ({place})" for place, value in late.items()),
            "late medians within a factor of 1.5 of the minimum's",
            *wherever({place: 1 / 1.5 <= value / limit <= 1.5 for place, value in late.items()}, "places"),
        ),
        Finding(
            "untuned/6-2-batches",
            "largest late median over the least, of the sizes of batches: "
            + ", ".join(f"{ratio:.2f} ({task})" for task, ratio in ratios.items()),
            "at most 1.5 in each task, though the variance of the gradients differs"
            f" {BATCHES[-1] / BATCHES[0]:.0f}-fold"
            f" (Transformer: {WINDOWS[-1] // WINDOWS[0]}-fold)",
            *wherever({task: ratio <= 1.5 for task, ratio in ratios.items()}, "tasks"),
        ),
    ]
