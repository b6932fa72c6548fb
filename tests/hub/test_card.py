"""Model cards: what the Hub reads, what people read, and what is said where little is known."""

import json

import numpy as np
import pytest
import yaml

from kanbatsu import cli
from kanbatsu.deploy.entry import PolicyError
from kanbatsu.files.store import RunFolder
from kanbatsu.hub import card


def head_of(text):
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_head_is_what_the_hub_reads(run, policy):
    head, _ = head_of(card(run, policy=policy))
    assert head["license"] == "mit"
    assert head["library_name"] == "kanbatsu"
    assert {"reinforcement-learning", "kanbatsu", "gym/Pendulum-v1"} <= set(head["tags"])
    (entry,) = head["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "sparse-0"
    assert result["dataset"] == {"type": "gym/Pendulum-v1", "name": "gym/Pendulum-v1"}
    reward, iqm = result["metrics"]
    returns = RunFolder(run).metrics()[-1]["returns"]
    assert len(returns) == 3
    assert reward["value"] == f"{np.mean(returns):.2f} +/- {np.std(returns):.2f}"
    assert (reward["type"], reward["verified"]) == ("mean_reward", False)
    summary = json.loads((run.parents[1] / "summary.json").read_text())
    sparse = next(arm for arm in summary["arms"] if arm["name"] == "sparse")
    assert iqm["value"] == round(sparse["tasks"]["gym/Pendulum-v1"]["iqm"], 2)


def test_the_body_says_verdict_returns_weights_and_limits(run, policy):
    text = card(run, policy=policy, repo_id="somebody/pendulum")
    summary = json.loads((run.parents[1] / "summary.json").read_text())
    assert summary["verdict"]["arm"] == "sparse"
    arm = next(arm for arm in summary["arms"] if arm["name"] == "sparse")
    low, high = arm["tasks"]["gym/Pendulum-v1"]["interval"]
    actor = arm["networks"]["actor"]
    for words in (
        "# sac on gym/Pendulum-v1, pruned at random before training",
        f"95 % interval {low:.2f} to {high:.2f}",
        f"| actor | {actor['kept']:,} | {actor['total']:,} | 0.50 |",
        'policy = from_hub("somebody/pendulum")',
        "np.zeros((3,), np.float32)",
        "Question of its study: Does thinning help?",
        "The run's own returns come from 3 episodes.",
    ):
        assert words in text
    assert "exported policy" in text
    for title in ("Verdict", "Returns", "Kept weights", "Speed and size", "Use", "Limits"):
        assert f"\n## {title}\n" in text
    assert "There is none" not in text


def test_a_run_alone_says_what_is_not_known(run, tmp_path):
    alone = RunFolder(tmp_path / "run")
    alone.write_config(RunFolder(run).read_config())
    text = card(alone.path)
    head, body = head_of(text)
    assert "license" not in head
    assert "model-index" not in head
    assert "no study with a decision rule stands behind this policy" in body
    assert "how far returns differ between seeds is not known" in body
    assert "The policy itself is not exported" in body


def test_a_policy_alone_has_a_card(policy):
    head, body = head_of(card(policy, licence="Apache-2.0"))
    assert head["license"] == "apache-2.0"
    assert "gym/Pendulum-v1" in head["tags"]
    assert 'policy = load("policy")' in body
    assert "It acts as act_greedy of sac does to" in body


def test_what_is_neither_is_refused(tmp_path, policy):
    with pytest.raises(FileNotFoundError, match="is not the folder of a run"):
        card(tmp_path)
    with pytest.raises((PolicyError, FileNotFoundError), match="holds no policy"):
        card(tmp_path, policy=tmp_path)


def test_the_command_line_writes_it(run, tmp_path, capsys):
    file = tmp_path / "README.md"
    assert cli.main(["card", str(run), "--to", str(file), "--licence", "MIT"]) == 0
    assert head_of(file.read_text())[0]["license"] == "mit"
    assert cli.main(["card", str(run)]) == 0
    assert capsys.readouterr().out == card(run)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["card", str(tmp_path)])
    assert "is not the folder of a run" in " ".join(capsys.readouterr().err.split())
