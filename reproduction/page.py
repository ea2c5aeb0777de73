"""results.md, made of what each experiment left: NAME.json and its pictures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from reproduction.frame import Experiment, Report, Results

HEAD = """\
# The papers' claims, reproduced

<!-- written by python -m reproduction: do not edit -->

What the papers say of Adam, AdaMod, RAdam and warmups, and what this library shows of it: simulations at the papers'
sizes, trainings in small. A claim *holds* where the number or the order was found again; it *does not hold* where it
could have been found and was not; it is *not shown* where what ran here is too small, or too unlike the paper's
experiment, to decide.

```sh
nox -s reproduce                # all of it; what was stopped goes on where it was
nox -s reproduce -- --quick     # two minutes, in small: the checks alone
nox -s reproduce -- warmups     # one of them
```

The code is in reproduction/ and uses the public names of the library only; `experiments/__init__.py` says how an
experiment is added.
"""


def write(folder: Path, experiment: Experiment, report: Report, results: Results) -> None:
    """Leave what one experiment showed."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in report.pictures:
        picture.figure.savefig(folder / f"{experiment.name}-{picture.name}.png", dpi=130)
    about = {
        "title": experiment.title,
        "about": experiment.about,
        "claims": [dataclasses.asdict(claim) for claim in report.claims],
        "checks": [dataclasses.asdict(check) for check in report.checks],
        "pictures": [
            {"file": f"{experiment.name}-{picture.name}.png", "alt": picture.alt, "caption": picture.caption}
            for picture in report.pictures
        ],
        "text": report.text,
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
            if isinstance(value, (int, float)):
                found.setdefault(name, {})[f"{value:,}"] = None
    return {name: ", ".join(values) for name, values in found.items()}


def assemble(page: Path, folder: Path, names: tuple[str, ...]) -> None:
    """The page, of the experiments that left something."""
    paths = [folder / f"{name}.json" for name in names]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
    parts = [HEAD, _overview(found), *(_section(each, folder.name) for each in found)]
    page.write_text("\n".join(parts), encoding="utf-8")


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


def _overview(found: list[dict[str, Any]]) -> str:
    verdicts = ("holds", "does not hold", "not shown")
    rows = [
        [
            f"[{each['title']}](#{_anchor(each['title'])})",
            *(str(sum(claim["verdict"] == verdict for claim in each["claims"])) for verdict in verdicts),
            str(each["runs"]),
            _duration(each["seconds"]),
        ]
        for each in found
    ]
    return _table(["experiment", *verdicts, "runs", "time"], rows)


def _anchor(title: str) -> str:
    """As MyST makes it."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _duration(seconds: float) -> str:
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 3600:.1f} h"


def _section(each: dict[str, Any], folder: str) -> str:
    columns = ["source", "claim", "published", "measured", "verdict"]
    rows = [
        [*(claim[name] for name in columns[:3]), _measured(claim), f"**{claim['verdict']}**"]
        for claim in each["claims"]
    ]
    parts = [f"## {each['title']}\n", each["about"].strip() + "\n", _table(columns, rows)]
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


def _measured(claim: dict[str, Any]) -> str:
    return f"{claim['measured']} ({claim['how']})" if claim["how"] else str(claim["measured"])
