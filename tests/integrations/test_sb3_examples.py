"""The PyTorch examples run, learn a little, and print what they promise.

In this process, because importing what they need takes longer than they do.
"""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBER = r"(-?[\d,.]*\d(?:e-?\d+)?)"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example as a program in an empty folder; returns what it printed."""

    def run(name, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def numbers(pattern, text):
    """Return the numbers that stand where the pattern has N, for each time that it is there."""
    found = re.findall(pattern.replace("N", NUMBER), text)
    return [[float(number.replace(",", "")) for number in groups] for groups in found]


def test_sb3_dense_and_sparse_with_probes_in_tensorboard(run, tmp_path):
    printed = run("05_sb3_sac.py", "130")
    line = "sparsity N: N of N weights of the critic kept, mean return N, dormant N, srank N"
    dense, sparse = numbers(line, printed)
    total = 2 * (4 * 256 + 256 * 256 + 256)
    assert dense[:3] == [0.0, total, total]
    assert sparse[:3] == [0.8, round(0.2 * total), total]
    for *_, dormant, rank in (dense, sparse):
        assert 0 <= dormant < 1
        assert 1 <= rank <= 256
    events = list((tmp_path / "out" / "pendulum").glob("*/events*"))
    assert {path.parent.name for path in events} == {"sparsity0.0_1", "sparsity0.8_1"}
    assert all(b"probes/critic/dormant_0.1/qf0.0" in path.read_bytes() for path in events)


def test_a_script_of_ones_own(run):
    dense, sparse = numbers(
        "sparsity N: N of N weights kept, mean return N", run("06_cleanrl_style_sac.py", "60")
    )
    total = (3 * 256 + 256 * 256 + 2 * 256) + 2 * (4 * 256 + 256 * 256 + 256)
    assert dense[:3] == [0.0, total, total]
    assert sparse[:3] == [0.8, round(0.2 * total), total]
    assert all(-2000 < arm[3] < 0 for arm in (dense, sparse))  # as Pendulum's returns are


def test_a_policy_without_torch(run):
    line = "sparsity N: N bytes, largest difference of an action N"
    dense, sparse = numbers(line, run("07_deploy_torch_policy.py"))
    assert sparse[1] < 0.4 * dense[1]
    assert max(dense[2], sparse[2]) <= 1e-5
