"""What kanbatsu tells people to install can be installed."""

import re
import tomllib
from pathlib import Path

import pytest

from kanbatsu.extras import EXTRAS, MissingLibrary, needed_by

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = set(PROJECT["optional-dependencies"])


def test_every_extra_that_is_named_is_declared():
    assert set(EXTRAS.values()) <= DECLARED
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("kanbatsu/**/*.py")]
    for page in pages:
        for names in re.findall(r"(?:kanbatsu|'\.)\[([a-z0-9,]+)\]'", page.read_text()):
            assert set(names.split(",")) <= DECLARED, f"{page.name} names {names}"


def test_what_every_installation_has_is_no_framework():
    needed = {re.split("[<>=]", wish)[0] for wish in PROJECT["dependencies"]}
    assert not needed & (set(EXTRAS) | {"tensorflow"})


def test_a_library_of_no_extra_is_missed_as_it_is():
    error = ModuleNotFoundError("No module named 'theirs'", name="theirs")
    with pytest.raises(ModuleNotFoundError) as caught, needed_by("kanbatsu train"):
        raise error
    assert caught.value is error


def test_a_part_of_a_library_is_named_as_the_library():
    message = r"kanbatsu train needs jax: pip install 'kanbatsu\[jax\]'"
    with pytest.raises(MissingLibrary, match=message), needed_by("kanbatsu train"):
        raise ModuleNotFoundError("No module named 'jax.numpy'", name="jax.numpy")
