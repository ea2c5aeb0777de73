"""Run the papers' experiments, and write docs/reproduction/results.md.

    python -m reproduction [--quick] [--fresh] [--jobs N] [NAME ...]

Every unit run is stored in _runs/ as soon as it ends, so that a run that was stopped continues where it was; --fresh
forgets what is stored. --quick is a small version of the same, always from the start, which writes below _quick/.
The exit status is 1 where a check fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy and PyTorch are there: a run has one core
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

from reproduction import PAGES, experiments, page
from reproduction.claims import all_claims
from reproduction.frame import Report
from reproduction.store import Store


def reproduce(names: list[str], *, root: Path, quick: bool, fresh: bool, jobs: int) -> list[str]:
    """Run, report, and return the checks that failed."""
    store = Store(root / "_runs" / ("quick" if quick else "full"))
    out = root / "_quick" if quick else root
    if quick:
        shutil.rmtree(out, ignore_errors=True)  # what an earlier version left may have another form
    chosen = [experiments.load(name) for name in names]
    listed = [(experiment, experiment.runs(quick)) for experiment in chosen]
    for _, runs in listed if fresh or quick else []:
        store.forget(runs)
    failed = []
    for experiment, results in zip(chosen, store.complete(listed, jobs), strict=True):
        report = experiment.report(results, quick)
        page.write(out / "results", experiment, report, results)
        page.assemble(out / "results.md", out / "results", experiments.NAMES)
        show(experiment.title, report)
        failed += [f"{experiment.name}: {check.what}: {check.seen}" for check in report.checks if not check.holds]
    print(f"\nwrote {out / 'results.md'}")
    return failed


def show(title: str, report: Report) -> None:
    """The findings and the checks, on the terminal."""
    print(f"\n{title}")
    for finding in report.findings:
        claim = all_claims()[finding.claim]
        print(f"  {finding.verdict:<13}  {claim.claim}: {finding.measured} {finding.extent}".rstrip())
    for check in report.checks:
        print(f"  {'ok' if check.holds else 'FAILED':<13}  {check.what}: {check.seen}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduction", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(experiments.NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="two minutes, in small")
    parser.add_argument("--fresh", action="store_true", help="forget what is stored")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="runs at a time (%(default)s)")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in experiments.NAMES]:
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {', '.join(experiments.NAMES)}")
    names = [name for name in experiments.NAMES if name in options.names] if options.names else [*experiments.NAMES]
    try:
        failed = reproduce(names, root=PAGES, quick=options.quick, fresh=options.fresh, jobs=options.jobs)
    except (KeyboardInterrupt, BrokenProcessPool):
        sys.exit("\nstopped: what has ended is stored, and the same command goes on from there")
    if failed:
        sys.exit("\n".join(["checks failed:", *failed]))


if __name__ == "__main__":
    main()
