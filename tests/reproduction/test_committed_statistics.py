"""Every test that the committed results rest on, computed again from its data by SciPy alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reproduction import PAGES
from tests.compare import assert_close

PATHS = sorted((PAGES / "results").glob("*.json"))


def probability(kind: str, data: dict[str, Any]) -> float:
    """Return what SciPy makes of the data; where nothing varies, whether the hypothesis is true."""
    if kind == "Welch":
        (a, b), (s, t), (n, m) = data["means"], data["deviations"], data["n"]
        return float(stats.ttest_ind_from_stats(a, s, n, b, t, m, equal_var=False).pvalue)
    x = np.asarray(data["differences"])
    if kind == "sign":
        n = int(np.count_nonzero(x))
        return float(stats.binomtest(int(np.sum(x > 0)), n).pvalue) if n else 1.0
    constant = np.all(x == x[0])
    if kind == "paired t":
        return float(x[0] == 0) if constant else float(stats.ttest_1samp(x, 0.0).pvalue)
    assert kind == "paired equivalence", kind
    if constant:
        return float(abs(x[0]) >= data["margin"])
    below = stats.ttest_1samp(x, -data["margin"], alternative="greater").pvalue
    return float(max(below, stats.ttest_1samp(x, data["margin"], alternative="less").pvalue))


def holms(p: list[float]) -> list[float]:
    """Return Holm's adjusted probabilities, by his definition."""
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def families(tests: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the tests that are corrected together: those of a family stand one after the other."""
    found, i = [], 0
    while i < len(tests):
        n = tests[i]["family"]
        found.append(tests[i : i + n])
        i += n
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_stored_tests_are_what_scipy_makes_of_their_data(path: Path) -> None:
    tests = json.loads(path.read_text(encoding="utf-8"))["tests"]
    for family in families(tests):
        names = [test["name"] for test in family]
        assert {test["family"] for test in family} == {len(family)}, f"a family is not complete: {names}"
        for test in family:
            # one version of SciPy differs from another in the last bits
            assert_close(test["p"], probability(test["kind"], test["data"]), ulp=2**12)
        assert_close(np.asarray([t["corrected"] for t in family]), np.asarray(holms([t["p"] for t in family])), ulp=4)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_one_name_is_of_one_set_of_data(path: Path) -> None:
    """A test may stand in two families, with two claims; it is the same test then."""
    known: dict[tuple[str, str], Any] = {}
    for test in json.loads(path.read_text(encoding="utf-8"))["tests"]:
        assert known.setdefault((test["name"], test["kind"]), test["data"]) == test["data"], test["name"]


def test_there_are_results() -> None:
    assert PATHS
