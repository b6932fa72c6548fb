"""What a process says of the machine and of itself."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kanbatsu import machine
from kanbatsu.machine import peak_resident_bytes

TELL = "from kanbatsu.machine import peak_resident_bytes; print(peak_resident_bytes())"


def test_the_peak_of_a_process_is_its_own_and_not_its_parents():
    before = peak_resident_bytes()
    big = np.ones(max(2 * before, 1 << 30) // 8)
    assert peak_resident_bytes() >= big.nbytes
    size = big.nbytes
    del big
    assert peak_resident_bytes() >= size
    child = subprocess.run([sys.executable, "-c", TELL], check=True, capture_output=True, text=True)
    assert 0 < int(child.stdout) < size / 2


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_the_commit_is_that_of_the_checkout_or_of_the_build(tmp_path, monkeypatch):
    package = tmp_path / "kanbatsu"
    package.mkdir()
    monkeypatch.setattr(machine, "__file__", str(package / "machine.py"))
    assert machine.commit() is None
    (package / "commit.txt").write_text("0123456789\n")
    assert machine.commit() == "0123456789"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert machine.commit() is None
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "One"], check=True)
    assert re.fullmatch("[0-9a-f]{40}", machine.commit())
    (package / "commit.txt").write_text("changed\n")
    assert re.fullmatch("[0-9a-f]{40}, changed", machine.commit())
