"""backends/*.toml say everything that is asked of them, and nothing that nobody asks."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.backend import FOLDER, NAMES, describe

pytestmark = pytest.mark.only("numpy")  # once is enough

ROOT = FOLDER.parent
README = (FOLDER / "README.md").read_text(encoding="utf-8")
READERS = {
    key: re.findall(r"`([^`]+)`", files)
    for key, files in re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", README, re.MULTILINE)
}
"""What README.md says of every key: the files that read it."""

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_there_and_known(name: str) -> None:
    assert set(describe(name)) == set(READERS)


@pytest.mark.parametrize("key", READERS)
def test_every_key_is_read(key: str) -> None:
    assert READERS[key]
    for file in READERS[key]:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"""["']{key}["']""", text), f"{file} does not read {key!r}"


@pytest.mark.parametrize("name", NAMES)
def test_bounds_and_engines_are_of_the_backend(name: str) -> None:
    table = describe(name)
    assert set(table["ulp"]) <= set(table["dtypes"])
    assert {"float32", "float64"} <= set(table["ulp"])
    assert table["engines"] and table["devices"] and table["pythons"]
    assert table["tags"] and set(table["tags"]) <= {"cpu", "cuda"}


@pytest.mark.parametrize("name", NAMES)
def test_skips_are_a_stand_in_s_and_name_tests(name: str) -> None:
    table = describe(name)
    assert table["stand_in"] == "" or (FOLDER / table["stand_in"] / "README.md").exists()
    assert table["stand_in"] or not table["skips"]
    for test, reason in table["skips"].items():
        file, function = re.fullmatch(r"([\w/]+\.py)::(\w+)(?:\[.*)?", test).groups()  # type: ignore[union-attr]
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), test
        assert reason


COMPILERS = {"numba"}
FRONT_DOORS = {"checkpoint", "optax", "scipy"}


def test_extras_are_the_backends_the_compilers_and_the_front_doors() -> None:
    assert set(PROJECT["optional-dependencies"]) == {*NAMES, *COMPILERS, *FRONT_DOORS}


@pytest.mark.parametrize("name", NAMES)
def test_pins_are_exact_and_within_the_bounds_of_pyproject(name: str) -> None:
    pins = {requirement.name: requirement for requirement in map(Requirement, describe(name)["requirements"])}
    bounds = map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][name]])
    checked = 0
    for pin in pins.values():
        assert [specifier.operator for specifier in pin.specifier] == ["=="], f"{pin} is not exact"
    for bound in bounds:
        if bound.name in pins:
            (pinned,) = pins[bound.name].specifier
            assert bound.specifier.contains(pinned.version), f"{pins[bound.name]} is outside of {bound}"
            checked += 1
    assert checked >= 2  # NumPy and the extra
