"""Two policies compared: what differs is said, and nothing where nothing does."""

import numpy as np
import pytest

from kanbatsu.cli import main
from kanbatsu.deploy import Contract
from kanbatsu.deploy.compute import run
from kanbatsu.deploy.difference import differences
from kanbatsu.deploy.layers import Dense, Linear, Normalise, Squash
from kanbatsu.deploy.write import Export, Original, write_policy


def write(folder, weight, name="force", high=2.0):
    weight = np.asarray(weight, np.float32)
    layers = [
        Normalise(np.zeros(3, np.float32), np.ones(3, np.float32)),
        Linear(Dense(weight), np.zeros(1, np.float32), 3, 1, relu=False),
        Squash(np.array([-2], np.float32), np.array([high], np.float32)),
    ]
    original = Original(lambda obs: run(layers, obs), "itself")
    write_policy(layers, folder, original, Export(Contract(action_names=(name,))))
    return folder


def test_every_difference_has_a_line(tmp_path):
    one = write(tmp_path / "one", [[1.0], [2.0], [0.5]])
    other = write(tmp_path / "other", [[1.0], [0.0], [0.75]], name="torque", high=4.0)
    lines = differences(one, other)
    assert lines[:5] == [
        "contract.action.high: [2.0] | [4.0]",
        "contract.action.names: ['force'] | ['torque']",
        "layer 1 (linear[3, 1]): 3 kept weights | 2",
        "layer 1 (linear[3, 1]): numbers differ by up to 2",
        "layer 2 (squash): numbers differ by up to 2",
    ]
    assert len(lines) == 6
    assert lines[5].startswith("golden actions, force: differ by ")
    assert differences(one, one) == []


def test_the_command_says_it(tmp_path, capsys):
    one = write(tmp_path / "one", [[1.0], [2.0], [0.5]])
    write(tmp_path / "same", [[1.0], [2.0], [0.5]])
    other = write(tmp_path / "other", [[1.0], [2.5], [0.5]])
    assert main(["deploy", "diff", str(one), str(tmp_path / "same")]) == 0
    assert capsys.readouterr().out == "no difference: they are one policy\n"
    assert main(["deploy", "diff", str(one), str(other)]) == 1
    assert "numbers differ by up to 0.5" in capsys.readouterr().out
    (other / "policy.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        main(["deploy", "diff", str(one), str(other)])
    assert "policy.json does not match its checksum" in capsys.readouterr().err
    assert main(["deploy", "dif"]) == 2
    assert "unknown command 'deploy dif'. Did you mean 'diff'?" in capsys.readouterr().err
