"""results.md, made of what each experiment left: NAME.json and its pictures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from reproduction.claims import Claim, all_claims
from reproduction.frame import Experiment, Report, Results

CONCLUSIONS = Path(__file__).with_name("conclusions.md")
"""What came of it all, in a paragraph."""

HEAD = """\
# The papers' claims, reproduced

<!-- written by python -m reproduction: do not edit -->

"""

WORDS = """\
A claim *holds* where the number or the order was found again wherever it was tried; it holds *in part* where that is so
in some of these places, which are named; it *does not hold* where it could have been found and was not; it is *not
shown* where what ran here is too small, or too unlike the paper's experiment, to decide. What was
[not attempted](#not-attempted) stands at the end, with the reason. Tests are at the level 0.05; where it says *own
deviation* a setting is tested with its own seeds alone, and *Holm over 27* is Holm's correction for 27 tests. Every
test is kept with its data in results/NAME.json, and computed again from there by a test that uses SciPy alone.

"""

HOW = """\
```sh
nox -s reproduce                # all of it; what was stopped goes on where it was
nox -s reproduce -- --quick     # two minutes, in small: the checks alone
nox -s reproduce -- warmups     # one of them
```

The code is in reproduction/, whose experiments use the public names of the library only; the claims are in
reproduction/claims, a file a source; `experiments/__init__.py` says how an experiment is added.
"""

VERDICTS = ("holds", "holds in part", "does not hold", "not shown")


def write(folder: Path, experiment: Experiment, report: Report, results: Results) -> None:
    """Leave what one experiment showed."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in report.pictures:
        picture.figure.savefig(folder / f"{experiment.name}-{picture.name}.png", dpi=130)
    about = {
        "title": experiment.title,
        "about": experiment.about,
        "findings": [dataclasses.asdict(finding) for finding in report.findings],
        "checks": [dataclasses.asdict(check) for check in report.checks],
        "pictures": [
            {"file": f"{experiment.name}-{picture.name}.png", "alt": picture.alt, "caption": picture.caption}
            for picture in report.pictures
        ],
        "text": report.text,
        "tests": [{**dataclasses.asdict(test), "data": dict(test.data)} for test in report.tests],
        "runs": len(results),
        "sizes": _sizes(results),
        "seconds": sum(result.seconds for result in results),
        "versions": {name: version for result in results for name, version in result.versions.items()},
    }
    text = json.dumps(about, indent=2, ensure_ascii=False, default=lambda x: x.item()) + "\n"  # NumPy's numbers
    (folder / f"{experiment.name}.json").write_text(text, encoding="utf-8")


def _sizes(results: Results) -> dict[str, str]:
    """The numbers among the arguments of the runs, seeds among them."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result.config.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found.setdefault(name, {})[f"{value:,}"] = None
    return {name: ", ".join(values) for name, values in found.items()}


def assemble(page: Path, folder: Path, names: tuple[str, ...]) -> None:
    """The page, of the experiments that left something."""
    paths = [folder / f"{name}.json" for name in names]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    sections = [_section(each, folder.name) for each in found]
    parts = [HEAD + CONCLUSIONS.read_text(encoding="utf-8"), _by_source(found), WORDS + HOW, _by_experiment(found)]
    page.write_text("\n".join([*parts, *sections, _not_attempted()]), encoding="utf-8")


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def _by_source(found: list[dict[str, Any]]) -> str:
    """Count the verdicts of each paper's claims."""
    verdict = {finding["claim"]: finding["verdict"] for each in found for finding in each["findings"]}
    rows: dict[str, list[Claim]] = {}
    for claim in all_claims().values():
        rows.setdefault(claim.source, []).append(claim)
    counts = {
        source: [
            len(claims),
            *(sum(verdict.get(claim.id) == each for claim in claims) for each in VERDICTS),
            sum(bool(claim.not_attempted) for claim in claims),
        ]
        for source, claims in rows.items()
    }
    of_papers = [numbers for source, numbers in counts.items() if source != "this library"]
    counts = {
        **{source: numbers for source, numbers in counts.items() if source != "this library"},
        "all papers": [sum(column) for column in zip(*of_papers, strict=True)],
        "this library": counts["this library"],
    }
    head = ["source", "claims", *VERDICTS, "not attempted"]
    return _table(head, [[source, *map(str, numbers)] for source, numbers in counts.items()])


def _by_experiment(found: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"[{each['title']}](#{_anchor(each['title'])})",
            str(len(each["findings"])),
            str(each["runs"]),
            _duration(each["seconds"]),
        ]
        for each in found
    ]
    return _table(["experiment", "claims", "runs", "time of one core"], rows)


def _not_attempted() -> str:
    rows = [
        [f"{claim.source}, {claim.where}", claim.claim, claim.published, claim.not_attempted]
        for claim in all_claims().values()
        if claim.not_attempted
    ]
    return "## Not attempted\n\n" + _table(["source", "claim", "published", "because"], rows)


def _anchor(title: str) -> str:
    """As MyST makes it."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _duration(seconds: float) -> str:
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 3600:.1f} h"


def _section(each: dict[str, Any], folder: str) -> str:
    rows = [_row(finding) for finding in each["findings"]]
    parts = [f"## {each['title']}\n", each["about"].strip() + "\n"]
    if rows:
        parts.append(_table(["source", "claim", "published", "measured", "criterion", "verdict"], rows))
    for picture in each["pictures"]:
        parts.append(f"![{picture['alt']}]({folder}/{picture['file']})\n")
        if picture["caption"]:
            parts.append(f"*{picture['caption']}*\n")
    if each["text"]:
        parts.append(each["text"].strip() + "\n")
    if each["checks"]:
        parts.append("What is checked, in the quick version too:\n")
        parts.append("\n".join(f"* {check['what']}: {check['seen']}" for check in each["checks"]) + "\n")
    versions = ", ".join(f"{name} {version}" for name, version in each["versions"].items())
    sizes = "".join(f"; `{name}` {values}" for name, values in each["sizes"].items())
    parts.append(f"{each['runs']} runs, {_duration(each['seconds'])} of one core{sizes}.\n\n{versions}.\n")
    return "\n".join(parts)


def _row(finding: dict[str, str]) -> list[str]:
    claim = all_claims()[finding["claim"]]
    verdict = finding["verdict"].removesuffix(" in part") if finding["extent"] else finding["verdict"]
    return [
        f"{claim.source}, {claim.where}",
        claim.claim,
        claim.published,
        finding["measured"],
        finding["criterion"],
        f"**{verdict}** {finding['extent']}".strip(),
    ]
