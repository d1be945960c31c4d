"""The lock of every Python that the library is for pins every package that it asks for, within its range."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = sorted(re.findall(r"lock-py3(\d+)\.txt", (ROOT / "Makefile").read_text()))


def _asked() -> list[Requirement]:
    lines = [line for name in ("requirements.txt", "requirements/dev.in") for line in (ROOT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("minor", PYTHONS)
def test_a_lock_pins_what_is_asked_for(minor: str) -> None:
    text = (ROOT / "requirements" / f"lock-py3{minor}.txt").read_text()
    pins = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)(?:\[\w+\])?==([\w.+!]+)", text, re.MULTILINE)}
    wrong = [str(asked) for asked in _asked() if not asked.specifier.contains(pins.get(canonicalize_name(asked.name), "0"), True)]
    assert not wrong, "run `make lock` (without --upgrade), and do not leave a Python out"


def test_there_is_a_lock_for_every_python_that_is_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = {match[1] for text in project["classifiers"] if (match := re.search(r"Python :: 3\.(\d+)$", text))}
    assert promised == set(PYTHONS) == {path.stem.removeprefix("lock-py3") for path in (ROOT / "requirements").glob("lock-py*")}
    assert not SpecifierSet(project["requires-python"]).contains(f"3.{int(min(promised)) - 1}")
