"""What a release says of itself agrees, and the wheel's own trial finds kernels."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import kanbatsu

ROOT = Path(__file__).parents[1]
RELEASE = ROOT / "release"
disagreements = runpy.run_path(str(RELEASE / "check_release.py"))["disagreements"]


def test_version_and_citation_agree():
    wrong = disagreements(f"v{kanbatsu.__version__}")
    assert [line for line in wrong if "CITATION" in line or "tag" in line] == []


def test_what_does_not_agree_is_named(tmp_path):
    (tmp_path / "kanbatsu").mkdir()
    (tmp_path / "kanbatsu" / "__init__.py").write_text('__version__ = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("a: b\nversion: 1.1.0\nc: d\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## [1.2.0] - 2026-11-28\n")
    assert disagreements("v1.2.0", tmp_path) == ["CITATION.cff has another version than 1.2.0"]
    assert len(disagreements("v1.3.0", tmp_path)) == 2
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## [1.2.0] - unreleased\n")
    assert "CHANGELOG.md has no section 1.2.0 with a date" in disagreements("v1.2.0", tmp_path)


@pytest.mark.parametrize("isa", ["portable", ""])
def test_the_trial_of_a_wheel_finds_the_kernels_right(isa):
    environment = os.environ | ({"KANBATSU_ISA": isa} if isa else {})
    command = [sys.executable, RELEASE / "try_kernels.py"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "element: equal to numpy" in done.stdout
    assert isa in done.stdout
