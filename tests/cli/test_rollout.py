"""`kanbatsu rollout`: what is printed, what is refused, and what to do then."""

import numpy as np
import pytest

from kanbatsu.cli import main
from kanbatsu.rollout.journal import Journal
from kanbatsu.rollout.stages import Rollout
from kanbatsu.rollout.tally import Tally

COMPLETE = {
    "# ! obs_dim = 3": "obs_dim = 2",
    "# ! low": "low",
    "# ! high": "high",
    "# ! safe_action": "safe_action",
    "# ! return_low": "return_low",
    "# ! return_high": "return_high",
    "# ! worse_by": "worse_by",
    "answers = 10_000": "answers = 5",
}


@pytest.fixture
def name(tmp_path, monkeypatch):
    (tmp_path / "shop_policy.py").write_text("def policy():\n    return lambda obs: obs[:1]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "shop_policy:policy"


def run(*words):
    """Return the exit code of a command."""
    try:
        return main(["rollout", *map(str, words)])
    except SystemExit as end:
        return end.code


def test_from_nothing_to_canary_and_back(tmp_path, name, capsys):
    folder = tmp_path / "shop"
    assert run("init", folder, "--candidate", name) == 0
    assert "complete it, then: kanbatsu rollout init" in capsys.readouterr().out
    assert run("init", folder, "--by", "Aoi") == 2
    error = capsys.readouterr().err
    for key in ("guard.obs_dim: must be given", "canary.return_low: must be given"):
        assert key in error
    text = (folder / "rollout.toml").read_text()
    for old, new in COMPLETE.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "rollout.toml").write_text(text)
    assert run("init", folder) == 2
    assert "needs a person and a reason: --by NAME" in capsys.readouterr().err
    assert run("init", folder, "--by", "Aoi") == 0
    assert run("advance", folder, "--by", "Aoi", "--reason", "impatience") == 2
    assert "answers: 0, at least 5 are needed" in capsys.readouterr().err
    tally = Tally.empty(1)
    for _ in range(5):
        tally.answered([0.0], 3.0, [], late=False)
    tally.store(folder / "shadow.json")
    assert run("status", folder) == 0
    shown = capsys.readouterr().out
    assert "shadow since" in shown
    assert "the gate is passed: kanbatsu rollout advance" in shown
    assert run("advance", folder, "--by", "Aoi", "--reason", "[red]no[/] differences") == 0
    assert "shadow -> canary, by Aoi" in capsys.readouterr().out
    assert run("status", folder) == 0
    shown = capsys.readouterr().out
    assert "missing: candidate_episodes: 0, at least 50 are needed" in shown
    assert "[red]no[/] differences" in shown
    assert run("rollback", folder, "--by", "Ben", "--reason", "smoke") == 0
    assert "canary -> rolled_back, by Ben" in capsys.readouterr().out
    assert Rollout(folder).read().stage == "rolled_back"
    assert run("status", folder) == 0


def test_the_page_is_written_from_the_journal(tmp_path, capsys):
    assert run("report", tmp_path) == 2
    assert "journal" in capsys.readouterr().err
    with Journal(tmp_path / "journal") as journal:
        journal.append({"kind": "guard", "time": 0.0, "trigger": "deadline", "detail": "late"})
    assert run("report", tmp_path, "--lang", "ja") == 0
    assert f"report: {tmp_path / 'report.ja.html'}" in capsys.readouterr().out.replace("\n", "")
    assert "late" in (tmp_path / "report.ja.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("init", "nowhere"), "name the policy that is to come into service"),
        (("init", "nowhere", "--candidate", "missing"), "there is no policy 'missing'"),
        (("init", "nowhere", "--candidate", "shop_policy:polcy"), "Did you mean 'policy'?"),
        (("status", "nowhere"), "holds no rollout: begin one with"),
        (("advence", "nowhere"), "Did you mean 'advance'?"),
    ],
)
def test_mistakes_say_what_to_do(tmp_path, name, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert said in capsys.readouterr().err


def test_an_exported_policy_tells_its_own_limits(tmp_path, name, monkeypatch):
    class Exported:
        obs_dim, low, high = 4, np.array([-2.0, 0.0], np.float32), np.array([2.0, 0.1], np.float32)

    monkeypatch.setattr("kanbatsu.rollout.template.load_policy", lambda name: Exported())
    assert run("init", tmp_path / "shop", "--candidate", "policy/") == 0
    text = (tmp_path / "shop" / "rollout.toml").read_text()
    assert "obs_dim = 4\nlow = [-2.0, 0.0]\nhigh = [2.0, 0.10000000149011612]\n" in text
