"""The command line, as a user meets it: what it prints, what it leaves behind, how it ends."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kanbatsu
from kanbatsu import cli
from kanbatsu.cli.parsing import parse
from kanbatsu.cli.training import StudyArguments
from kanbatsu.doctor import Fact
from kanbatsu.files.lock import StudyError, lock
from kanbatsu.machine import commit

TINY = """
question = "Is a [thin] network as good?"
tasks = ["kanbatsu.envs.probe:action_reward"]
env_steps = 40
seeds = 1
control = "dense"
actor = { network = "mlp", width = 8, blocks = 1 }
critic = { network = "mlp", width = 8, blocks = 1 }

[train]
batch_size = 4
warmup_interactions = 10
evaluation_episodes = 2
replay_capacity = 100

[arm.dense]
[arm.sparse]
critic = { sparsity = 0.5 }
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "thin.toml").write_text(TINY)
    return Path("thin.toml")


def refused(*words: str) -> int | str | None:
    """Return the exit code of a command that must not get as far as training."""
    try:
        return cli.main(words)
    except SystemExit as error:
        return error.code


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in cli.COMMANDS)
    assert cli.main([]) == 2


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"kanbatsu {kanbatsu.__version__} ({commit()})\n"


def test_the_help_of_train_has_the_options_of_its_agent(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("train", "--help") == 0
    sac = capsys.readouterr().out
    assert refused("train", "--agent=ddpg", "--help") == 0
    ddpg = capsys.readouterr().out
    for text in (sac, ddpg):
        assert "--critic.sparsity FLOAT" in text
        assert "--train.batch-size INT" in text
        assert "--env-steps INT" in text
        assert "--remedy" in text
    assert "--temperature FLOAT" in sac
    assert "--temperature FLOAT" not in ddpg
    assert "--exploration-std FLOAT" in ddpg


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'. Did you mean 'train'"),
        (["train", "gym/Pendulum-v1", "--agent", "scc"], "unknown agent 'scc'. Did you mean 'sac'"),
        (["train", "gym/Pendulum-v9"], "Did you mean 'gym/Pendulum-v1'"),
        (["train", "gym/CartPole-v1"], "discrete actions, such as pqn or stream_q"),
        (["train", "gym/Pendulum-v1", "--critic.sparsity", "1"], "sparsity must lie in [0, 1)"),
        (["train", "gym/Pendulum-v1", "--critic.widht", "3"], "--critic.width INT"),
        (["train", "gym/Pendulum-v1", "--env-steps", "0"], "env_steps must be at least 1"),
        (["study", "thn.toml"], "thn.toml: No such file or directory"),
        (["study", "thin.toml", "dense.critic.widht=3"], "Did you mean 'width'?"),
        (["study", "thin.toml", "critic.width"], "write KEY=VALUE"),
        (["study", "thin.toml", "--workers", "0"], "workers must be at least 1"),
        (["report", "nowhere"], "nowhere holds no study"),
        (["train", "gym/Pendulum-v1", "--env-steps", "1.5e0"], "200_000 or 2e5"),
        (["estimate", "thin.toml", "--workers", "two"], "not a whole number"),
        (["study", "thin.toml", "--seeds", "3"], "kanbatsu study FILE.toml seeds=3"),
        (["estimate", "thin.toml", "--env-steps=9"], "kanbatsu estimate FILE.toml env_steps=9"),
        (["study", "thin.toml", "--no-own-code"], "imports kanbatsu.envs.probe and runs what"),
        (["estimate", "thin.toml", "--no-own-code"], "which --no-own-code forbids"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    study: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    if "--no-own-code" in words:
        monkeypatch.setenv("KANBATSU_NO_OWN_CODE", "")  # undone after the test
    assert refused(*words) == 2
    printed = "".join(capsys.readouterr())
    assert message in printed
    assert "Traceback" not in printed
    assert not list(Path().rglob("runs"))


@pytest.mark.parametrize("word", ["200000", "200_000", "2e5", "+2E+5", "200000.0"])
def test_every_whole_number_may_be_written_as_people_write_it(word: str) -> None:
    given = parse(StudyArguments, ["thin.toml", "--workers", word], "kanbatsu study")
    assert (type(given.place.workers), given.place.workers) == (int, 200_000)


def test_a_study_from_file_to_report(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", str(study), "--out", "out", "train.log_every=20"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "Is a [thin] network as good?" in printed
    assert "2 arms x 1 task x 1 seed of 40 env steps, in out: 2 to do" in printed
    assert "report: out/report.html" in printed
    assert [line.split() for line in printed.splitlines() if line.startswith("sparse ")] == [
        ["sparse", "32", "of", "32", "16", "of", "32"]
    ]
    record = json.loads(Path("out/study.json").read_text())
    assert record["command"] == "kanbatsu study thin.toml --out out train.log_every=20"
    summary = Path("out/summary.json").read_text()
    assert json.loads(summary)["missing"] == []

    Path("out/summary.json").unlink()
    Path("out/report.html").unlink()
    assert cli.main(["report", "out"]) == 0
    assert Path("out/summary.json").read_text() == summary
    assert "thin" in Path("out/report.html").read_text()

    assert cli.main([*words, "--lang", "ja"]) == 0
    printed = capsys.readouterr().out
    assert "all 2 runs are finished." in printed
    assert "report: out/report.ja.html" in printed
    japanese = Path("out/report.ja.html").read_text()
    Path("out/report.ja.html").unlink()
    assert cli.main(["report", "out", "--lang", "ja"]) == 0
    assert Path("out/report.ja.html").read_text() == japanese
    assert '<html lang="ja">' in japanese
    assert refused("study", str(study), "--out", "out", "env_steps=50") == 2
    assert "out holds a different study:\n  env_steps: 40 there, 50 here" in capsys.readouterr().err


def test_a_single_run_is_a_study_of_one_and_failure_is_exit_code_1(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.py").write_text(
        "import os\n"
        "from kanbatsu.envs.probe import ProbeEnvironment\n"
        "def make():\n"
        "    return ProbeEnvironment(lambda cue, action: float(os.environ.get('PAY', 'nan')))\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    words = shlex.split(
        "train mine:make --agent ddpg --critic.sparsity 0.5 --seed 3 --env-steps 40"
        " --train.warmup-interactions 10 --train.batch-size 4"
    )
    for network in ("actor", "critic"):
        words += [f"--{network}.network", "mlp", f"--{network}.width", "8"]
    assert cli.main(words) == 1
    (out,) = Path("out").iterdir()
    captured = capsys.readouterr()
    assert "FAILED" in captured.out
    assert "reward" in captured.out
    assert "the same command tries them again" in captured.err
    assert json.loads((out / "summary.json").read_text())["missing"][0]["state"] == "failed"

    monkeypatch.setenv("PAY", "7.0")
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "final return 7.0 at 40 env steps (10 greedy episodes)" in printed
    named = next(line for line in printed.splitlines() if line.startswith("kept weights of every"))
    first = Path(named.partition("the first line of ")[2]).read_text().splitlines()[0]
    assert json.loads(first)["networks"]["critic"]["layers"][0]["total"] == 24
    record = json.loads((out / "study.json").read_text())
    assert record["command"] == f"kanbatsu {' '.join(words)} --out {out}"
    assert (record["agent"], record["seeds"], list(record["arms"])) == ("ddpg", [3], ["ddpg"])
    assert cli.main(["report", str(out)]) == 0


def test_a_study_sends_its_results_to_a_tracker(study: Path) -> None:
    pytest.importorskip("tensorboard")
    assert cli.main(["study", str(study), "--out", "out", "--tracker", "tensorboard"]) == 0
    sent = {path.name for path in Path("out/tensorboard").iterdir()}
    assert sent == {path.name for path in Path("out/runs").iterdir()}
    assert len(sent) == 2


@pytest.mark.parametrize("option", [["--tracker", "wandb"], ["--workers", "0"]])
def test_a_population_does_not_train_what_is_refused(
    study: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert refused("study", str(study), "--out", "out", "--population", "auto", *option) == 2
    assert not Path("out").exists()


def test_a_damaged_file_is_one_message(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", str(study), "--out", "out"]) == 0
    for path in Path("out/runs").glob("*/metrics.jsonl"):
        path.write_text("{\n" + path.read_text())
    again = ["study", str(study), "--out", "out"]
    ends = {("report", "out"): 0, ("watch", "out"): 0, ("archive", "out", "kept"): 2}
    for words, code in {**ends, tuple(again): 1}.items():
        capsys.readouterr()
        assert refused(*words) == code
        printed = "".join(capsys.readouterr())
        if words[0] == "report":
            printed += Path("out/report.html").read_text()
        assert "metrics.jsonl is not what was written" in printed
        assert "Traceback" not in printed


def test_a_population_is_carried_out_and_named(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["study", str(study), "--out", "out", "--population", "auto"]) == 0
    printed = capsys.readouterr().out
    assert "2 runs of dense, sparse on kanbatsu.envs.probe:action_reward, side by side" in printed
    command = json.loads(Path("out/study.json").read_text())["command"]
    assert command == "kanbatsu study thin.toml --out out --population auto"


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_study_leaves_no_worker_behind(study: Path, sign: signal.Signals) -> None:
    Path("mine.py").write_text(
        "import time\n"
        "from kanbatsu.envs.probe import ProbeEnvironment\n"
        "def make():\n"
        "    return ProbeEnvironment(lambda cue, action: time.sleep(0.05) or 1.0)\n"
    )
    words = ["study", str(study), "--out", "out", "tasks=['mine:make']", "env_steps=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kanbatsu.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(Path.cwd())},
        text=True,
    )
    deadline = time.monotonic() + 60.0
    while len(list(Path("out").glob("runs/*/metrics.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=30.0)
    if sign == signal.SIGTERM:
        assert process.returncode == 130
        assert errors == "kanbatsu: stopped; the same command continues\n"
    # Workers hold the lock too: that it is free says that none is left.
    while True:
        try:
            with lock(Path("out")):
                break
        except StudyError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_the_doctor_prints_facts_and_fails_on_a_broken_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = [
        Fact("versions", "jax", "1.0"),
        Fact("pairs", "dmc/ tasks", "no [dmc]", "absent", "pip install 'kanbatsu[dmc]'"),
    ]
    monkeypatch.setattr("kanbatsu.doctor.examine", lambda: facts)
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "no [dmc]" in printed
    assert "-> pip install 'kanbatsu[dmc]'" in printed
    facts.append(Fact("environments", "gym/Pendulum-v1", "crashed", "broken"))
    assert cli.main(["doctor"]) == 1
    assert "Something is broken." in capsys.readouterr().out


def test_an_estimate_and_a_refusal_of_what_cannot_fit(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["estimate", str(study), "--seconds", "0.05", "--json", "speeds.json", "seeds=3"]
    assert cli.main([*words, "--workers", "2"]) == 0
    printed = capsys.readouterr().out
    assert "6 runs, 240 env steps in all, 2 at a time" in printed
    assert "core-hours" in printed
    assert not list(Path().rglob("runs"))
    again = ["estimate", str(study), "--measured", "speeds.json", "--workers", "64", "seeds=3"]
    assert cli.main(again) == 0
    assert refused(*again, "--hours", "0.000001") == 2
    assert "the study does not fit: it needs about" in capsys.readouterr().err
    assert refused(*again, "--hours", "0") == 2
    assert "--hours must be greater than 0, not 0.0" in capsys.readouterr().err
    Path("speeds.json").write_text("{}")
    assert refused(*again) == 2
    assert "was not written by kanbatsu estimate --json" in capsys.readouterr().err


def test_a_plan_is_written_once_and_refused_before_anything_runs(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused("poc", "--help") == 0
    assert refused("poc", "rnu") == 2
    assert refused("poc", "init", "gym/Pendulum-v9", "--file", "plan.toml") == 2
    assert "Did you mean 'gym/Pendulum-v1'" in capsys.readouterr().err
    assert refused("poc", "init", "gym/CartPole-v1", "--file", "plan.toml") == 2
    assert "has discrete actions" in capsys.readouterr().err
    assert not Path("plan.toml").exists()
    assert cli.main(["poc", "init", "gym/Pendulum-v1", "--file", "plan.toml"]) == 0
    assert "read it, change it, then: kanbatsu poc run plan.toml" in capsys.readouterr().out
    assert refused("poc", "init", "gym/Pendulum-v1", "--file", "plan.toml") == 2
    assert "plan.toml exists already" in capsys.readouterr().err
    assert refused("study", "plan.toml") == 2
    assert "plan.toml is the plan of a proof of concept" in capsys.readouterr().err
    assert refused("estimate", "plan.toml", "env_steps=9") == 2
    assert "KEY=VALUE is for studies; plan.toml is a plan: leave it out" in capsys.readouterr().err
    Path("plan.toml").write_text(Path("plan.toml").read_text().replace("hours = 2.0", "hours = 0"))
    assert refused("poc", "run", "plan.toml", "--out", "out") == 2
    assert "budget.hours: must be greater than 0, not 0" in capsys.readouterr().err
    assert not Path("out").exists()
