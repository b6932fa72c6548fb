"""The headers that the kernels are built with are those of the oldest jaxlib that is supported."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
VENDORED = ROOT / "third_party" / "xla"
TAKEN_FROM = "0.10.2"


@pytest.mark.skipif(version("jaxlib") != TAKEN_FROM, reason="another jaxlib has other headers")
def test_the_headers_are_those_of_jaxlib_unchanged():
    theirs = Path(jax.ffi.include_dir())
    names = {path.relative_to(theirs) for path in theirs.rglob("*.h")}
    assert {path.relative_to(VENDORED) for path in VENDORED.rglob("*.h")} == names
    for name in names:
        assert (VENDORED / name).read_bytes() == (theirs / name).read_bytes()


def test_the_headers_are_of_the_oldest_jax_that_is_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needs = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["jax"],
    ]
    assert f"jax>={TAKEN_FROM}" in needs
    assert f"jaxlib {TAKEN_FROM}" in (VENDORED / "README.md").read_text()


def test_building_needs_no_jax():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert [requirement.partition(">")[0] for requirement in build] == ["scikit-build-core"]
    assert "jax" not in (ROOT / "CMakeLists.txt").read_text().lower()
