"""Tasks that end the process that builds them are refused by name, and this process goes on."""

from pathlib import Path

import pytest

from kanbatsu.envs.spec import TaskError
from kanbatsu.run.check import check
from kanbatsu.run.record import Run

CODE = """
import os, sys
from kanbatsu.envs.probe import ProbeEnvironment

class Ends(ProbeEnvironment):
    def reset(self, seed):
        {at_reset}
        return super().reset(seed)

def make():
    print("no licence", flush=True)
    {at_make}
    return Ends(lambda cue, action: 0.0)
"""


@pytest.mark.parametrize(
    ("where", "end", "said"),
    [
        ("at_make", "os._exit(0)", r"ends the process .* \(exit code 0\).*no licence"),
        ("at_reset", "os.abort()", r"ends the process .* \(exit code -6\)"),
        ("at_make", "sys.exit(3)", r"sys.exit\(3\)"),
        ("at_reset", "sys.exit(0)", r"fails at reset.*called sys.exit\(0\)"),
    ],
)
def test_a_task_that_ends_its_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, end: str, said: str
) -> None:
    name = f"plant_{where}_{abs(hash(end))}"
    lines = {"at_make": "pass", "at_reset": "pass"} | {where: end}
    (tmp_path / f"{name}.py").write_text(CODE.format(**lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TaskError, match=said):
        check(Run(f"{name}:make"))
