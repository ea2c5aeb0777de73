"""What the papers' own tables say of the papers' claims."""

from __future__ import annotations

import numpy as np

from reproduction.frame import Check, Experiment, Finding, Report, Results, Run, wherever
from reproduction.runs.printed_tables import Table, largest, smallest_seen, tables, unrounded
from reproduction.statistics import LEVEL, Test

ABOUT = r"""
Nothing is trained: means, standard deviations and numbers of seeds are the papers', as printed. Two methods in the same
setting are *told apart* where Welch's t test rejects that their means are the same, at the level 0.05 after Holm's
correction for all pairs of the table. A standard deviation that is printed as 0.0 is taken to be the largest that is
rounded to it. As the numbers are rounded to a digit that matters, each table is drawn again many times, every number
evenly from those that would be printed the same, and tested likewise.
"""

UNTUNED = {"untuned-1": "untuned/table-1", "untuned-2": "untuned/table-2", "untuned-3": "untuned/table-3"}
"""Tables, and the claims that the warmups are not told apart in them."""
UNIVERSAL = ("untuned/table-1", "untuned/table-3")
"""Claims of all configurations at once, which one exception refutes: "across all configurations", "no differences"."""


def runs(quick: bool) -> list[Run]:
    """The roundings of each table."""
    return [Run(unrounded, table=name, draws=200 if quick else 5000, seed=0) for name in tables()]


def warmups(table: Table, claim: str, results: Results) -> tuple[Finding, list[Test]]:
    """Judge that no two warmups are told apart, setting by setting."""
    tests = table.welch()
    rounded = results.one(table=table.id)
    shares = dict(zip(table.pairs, rounded["differ"].mean(axis=0), strict=True))
    apart = [(pair, test) for pair, test in zip(table.pairs, tests, strict=True) if test.rejects]
    held = {at: all(pair[0] != at for pair, _ in apart) for at in table.cells}
    verdict, extent = wherever(held, "settings")
    if claim in UNIVERSAL and verdict == "holds in part":
        verdict, extent = "does not hold", ""
    words = "; ".join(
        f"{a} and {b} at {at}: {abs(test.mean):.1f}, p = {test.corrected:.2g}, and told apart in"
        f" {100 * shares[at, a, b]:.0f} % of the roundings"
        for (at, a, b), test in apart
    )
    some, worst = 100 * rounded["differ"].any(axis=1).mean(), int(rounded["worst"].sum())
    far = largest(tests)
    uncorrected = sum(test.p < LEVEL for test in tests)
    measured = (
        f"{len(apart)} of {len(tests)} pairs told apart ({uncorrected} before Holm's correction)"
        f"{': ' + words if words else ''}; at least one pair in {some:.0f} % of the roundings, {worst} with every"
        f" number rounded against it; largest difference {abs(far.mean):.1f} ({far.name.partition(', ')[2]},"
        f" p = {far.corrected:.2g})"
    )
    what = "holds where in no setting a" if claim in UNIVERSAL else "a setting holds where no"
    criterion = (
        f"{what} pair is told apart: Welch's t, n = {table.seeds}, Holm over {len(tests)}, from the paper's own table"
    )
    return Finding(claim, measured, criterion, verdict, extent), tests


def best_setting() -> Finding:
    """Judge that rate 0.0001 with beta2 0.999 is the best setting of Table 2."""
    table, claimed = tables()["untuned-2"], "0.0001 / 0.999"
    held, words = {}, []
    for name in table.methods:
        mean = {at: row[name].mean for at, row in table.cells.items()}
        least = min(mean.values())
        held[name] = mean[claimed] == least
        best = " and ".join(at for at, x in mean.items() if x == least)
        words.append(f"{name}: {least} at {best}, {mean[claimed]} at {claimed}")
    verdict, extent = wherever(held, "warmups")
    criterion = "holds for a warmup where no setting of the paper's own Table 2 has a lower mean perplexity"
    return Finding("untuned/figure-5-best", "; ".join(words), criterion, verdict, extent)


def more_than_two() -> Finding:
    """Judge AdaMod's gain on Adam on CIFAR-100 with DenseNet-121."""
    row = tables()["adamod-3"].cells["DenseNet-121"]
    adam, adamod = row["Adam"], row["AdaMod"]
    assert adam.median is not None and adamod.median is not None
    gain = {"of medians": adamod.median - adam.median, "of means": adamod.mean - adam.mean}
    verdict, extent = wherever({name: round(x, 2) > 2 for name, x in gain.items()}, "differences")
    error = (np.hypot(adam.deviation, adamod.deviation)) / tables()["adamod-3"].seeds ** 0.5
    return Finding(
        "adamod/densenet-table-3",
        f"{gain['of medians']:.2f} points of medians, {gain['of means']:.2f} ± {error:.2f} (standard error) of means",
        "holds where the difference in the paper's own Table 3 is more than 2 points; medians and means each",
        verdict,
        extent,
    )


def better_on_resnet(tests: dict[str, Test]) -> Finding:
    """Judge that AdaMod is better than Adam with ResNet-34 on both data sets."""
    held, words = {}, []
    for name in ("adamod-3", "adamod-4"):
        table = tables()[name]
        adam, adamod = (table.cells["ResNet-34"][method] for method in ("Adam", "AdaMod"))
        assert adam.median is not None and adamod.median is not None
        data = table.unit.partition(", ")[2]
        held[data] = adamod.mean > adam.mean and adamod.median > adam.median
        test = tests[f"{table.title}, ResNet-34: Adam - AdaMod"]
        words.append(
            f"{data}: medians {adamod.median:.2f} against {adam.median:.2f}, means {adamod.mean:.2f} against"
            f" {adam.mean:.2f} ({test}; {test.p:.2g} before correction)"
        )
    verdict, extent = wherever(held, "data sets")
    return Finding(
        "adamod/resnet-figures-4-and-5",
        "; ".join(words),
        "holds where AdaMod's median and mean in the paper's own Tables 3 and 4 are the higher ones; whether by more"
        " than chance says the test",
        verdict,
        extent,
    )


def table_of(table: Table, tests: list[Test], results: Results) -> str:
    """The tests of a table, a line a pair."""
    shares = results.one(table=table.id)["differ"].mean(axis=0)
    lines = [
        f"| {table.setting} | pair | difference | p | p after Holm | told apart in roundings |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {at} | {a} - {b} | {test.mean:+.{2 if table.cells[at][a].step < 0.1 else 1}f} | {test.p:.2g} |"
        f" {test.corrected:.2g} | {100 * share:.0f} % |"
        for (at, a, b), test, share in zip(table.pairs, tests, shares, strict=True)
        if test.p < LEVEL or table.id.startswith("adamod")
    ]
    return "\n".join(lines)


def text_of(tests: dict[str, list[Test]], results: Results) -> str:
    """Say what is told apart, table by table."""
    parts = []
    for name, table in tables().items():
        count = len(table.pairs)
        chosen = "" if name.startswith("adamod") else f"; of {count} pairs those with p < 0.05 before correction"
        head = f"**{table.title}** ({table.unit}; {table.seeds} seeds{chosen}):"
        if any(t.p < LEVEL for t in tests[name]) or name.startswith("adamod"):
            parts += [head, table_of(table, tests[name], results)]
        else:
            parts.append(f"**{table.title}** ({table.unit}): no pair of {count} has p < 0.05 before correction.")
    seen = ", ".join(
        f"{smallest_seen(table.seeds, 0.1, len(table.pairs)):.2f} in {table.title.partition(', ')[2]}"
        for table in map(tables().__getitem__, UNTUNED)
    )
    parts.append(
        "That two are not told apart does not show that they are the same. With standard deviations of 0.1 means must"
        f" be so far apart for the first step of Holm's correction: {seen}."
    )
    return "\n\n".join(parts)


def report(results: Results, quick: bool) -> Report:
    """Findings, in the full version; checks in both."""
    tests = {name: table.welch() for name, table in tables().items()}
    shares = [results.one(table=name)["differ"].any(axis=1) for name in tables()]
    cells = sum(len(row) for table in tables().values() for row in table.cells.values())
    same = all(results.one(table=name)["differ"].shape[1] == len(tests[name]) for name in tables())
    checks = [
        Check(
            "every table is read in full, and drawn again with the same pairs",
            same and all(len(share) for share in shares),
            f"{cells} cells, {sum(map(len, tests.values()))} pairs",
        )
    ]
    if quick:
        return Report([], checks)
    of_name = {test.name: test for each in tests.values() for test in each}
    found = [warmups(tables()[name], claim, results)[0] for name, claim in UNTUNED.items()]
    found += [best_setting(), more_than_two(), better_on_resnet(of_name)]
    return Report(found, checks, text=text_of(tests, results), tests=[t for each in tests.values() for t in each])


EXPERIMENT = Experiment("printed", "The papers' own tables", ABOUT, runs, report)
