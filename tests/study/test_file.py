"""Study files: what they mean, what the command line lays over them, and what each mistake says."""

from pathlib import Path

import pytest

from kanbatsu.agents.ddpg import DDPGConfig
from kanbatsu.agents.sac import SACConfig
from kanbatsu.files.tables import RecordError
from kanbatsu.study.file import load_study

HEADER = """
question = "Which one?"
tasks = ["gym/Pendulum-v1"]
env_steps = 1_000
seeds = 2
"""
ARMS = """
[arm.dense]
[arm.sparse]
critic = { sparsity = 0.9 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(HEADER + ARMS)
    return path


def mistakes(path: Path, text: str | None = None, *overrides: str) -> list[str]:
    """Return the lines of the message, without the file's name."""
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecordError) as caught:
        load_study(path, overrides)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_a_study_file_is_read(file: Path) -> None:
    study = load_study(file)
    assert (study.question, study.tasks, study.env_steps) == (
        "Which one?",
        ("gym/Pendulum-v1",),
        1000,
    )
    assert (study.seeds, study.control, study.note, study.agent) == ((0, 1), None, None, "sac")
    assert study.arms["dense"].config == SACConfig()
    assert study.arms["sparse"].config.critic.sparsity == 0.9
    assert study.arms["sparse"].config.critic.width == 512


def test_seeds_may_be_a_list(file: Path) -> None:
    assert load_study(file, ["seeds=[7, 3]"]).seeds == (7, 3)


def test_settings_at_the_top_are_defaults_of_all_arms(file: Path) -> None:
    file.write_text(
        HEADER
        + "critic = { width = 64, sparsity = 0.5 }\nlearning_rate = 3e-4\n"
        + "[train]\nbatch_size = 16\n"
        + ARMS
        + "train = { environments = 2 }\n"
    )
    dense, sparse = load_study(file).arms.values()
    assert (dense.config.critic.width, dense.config.critic.sparsity) == (64, 0.5)
    assert (sparse.config.critic.width, sparse.config.critic.sparsity) == (64, 0.9)
    assert dense.config.learning_rate == sparse.config.learning_rate == 3e-4
    assert (dense.train.batch_size, dense.train.environments) == (16, 1)
    assert (sparse.train.batch_size, sparse.train.environments) == (16, 2)


def test_an_arm_may_have_its_own_agent_and_takes_the_defaults_that_it_knows(file: Path) -> None:
    file.write_text(HEADER + "temperature = 0.2\ntau = 0.01\n[arm.sac]\n[arm.other]\nagent='ddpg'")
    arms = load_study(file).arms
    assert arms["sac"].config == SACConfig(temperature=0.2, tau=0.01)
    assert arms["other"].config == DDPGConfig(tau=0.01)


def test_overrides_of_the_command_line(file: Path) -> None:
    def widths(*overrides: str) -> list[int]:
        return [arm.config.critic.width for arm in load_study(file, overrides).arms.values()]

    assert widths("critic.width=64") == [64, 64]
    assert widths("sparse.critic.width=64") == [512, 64]
    assert widths("arm.sparse.critic.width=64") == [512, 64]
    assert widths("sparse.critic.width=32", "critic.width=64") == [64, 32]
    assert widths("sparse.critic.width=32", "arm.critic.width=64") == [64, 64]
    assert (
        load_study(file, ["env_steps=20", "agent=ddpg", "train.batch_size=4"]).arms["dense"].config
        == DDPGConfig()
    )
    assert load_study(file, ["env_steps=20"]).env_steps == 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "spars.critic.width=64",
            "spars.critic.width=64: 'spars' is neither a setting nor an arm. Did you mean 'sparse'",
        ),
        ("arm.spars.critic.width=64", "'spars' is neither a setting nor an arm"),
        ("env_step=3", "Did you mean 'env_steps'"),
        ("critic.width=wide", "critic.width: must be a whole number, not 'wide'"),
        ("sparse.critic.widht=3", "arm.sparse.critic.widht: unknown setting. Did you mean 'width'"),
    ],
)
def test_a_wrong_override_says_what_to_do(file: Path, override: str, message: str) -> None:
    assert any(message in line for line in mistakes(file, None, override))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ARMS, "question: must be given"),
        (HEADER, "a study needs at least one arm: add a table such as [arm.dense]"),
        (
            HEADER + "contorl = 'dense'" + ARMS,
            "contorl: unknown setting. Did you mean 'control'",
        ),
        (HEADER + "control = 'dnse'" + ARMS, "control: no arm is called 'dnse'. Did you mean "),
        (HEADER + "agent = 'sca'" + ARMS, "agent: unknown agent 'sca'. Did you mean 'sac'?"),
        (
            HEADER + "[arm.x]\nagent = 'ppo'",
            "arm.x.agent: unknown agent 'ppo'. Choose from: ddpg, drqv2, pqn, sac, "
            "stream_ac, stream_q.",
        ),
        (HEADER + "[arm.'a/b']", "arm.'a/b': arms name files; use at most 64 letters"),
        (HEADER + "[arm.critic]", "arm.critic: an arm cannot have the name of a setting"),
        (HEADER + "arm = 3", "a study needs at least one arm"),
        (HEADER + "[arm]\nx = 3", "arm.x: must be a table of settings, not 3"),
        (
            HEADER + "[train]\nbatchsize = 3" + ARMS,
            "train.batchsize: unknown setting. Did you mean 'batch_size'?",
        ),
        (
            HEADER + "[arm.x.train]\nbatch_size = 'big'",
            "arm.x.train.batch_size: must be a whole number, not 'big'",
        ),
        (
            HEADER + "exploration_std = 0.1" + ARMS,
            "exploration_std: unknown setting. Choose from: actor",
        ),
        (HEADER.replace("1_000", "0") + ARMS, "env_steps: must be at least 1, not 0"),
        (HEADER.replace("1_000", "1e3") + ARMS, "env_steps: must be a whole number, not 1000.0: "),
        (HEADER.replace("seeds = 2", "seeds = 0") + ARMS, "seeds: must hold at least one"),
        (
            HEADER.replace("seeds = 2", "seeds = [1, 2, 1]") + ARMS,
            "seeds: 1 is there more than once",
        ),
        (HEADER.replace("seeds = 2", "seeds = [-1]") + ARMS, "seeds: each must lie in 0 to"),
        (HEADER.replace("seeds = 2", f"seeds = [{2**32}]") + ARMS, "not 4294967296"),
        (HEADER.replace("seeds = 2", "seeds = 20260101123456") + ARMS, "[20260101123456]"),
        (
            HEADER.replace("seeds = 2", "seeds = true") + ARMS,
            "seeds: must be how many there are, such as",
        ),
        (
            HEADER.replace('["gym/Pendulum-v1"]', "[]") + ARMS,
            "tasks: must hold at least one",
        ),
        (HEADER + "question = 'again'", "is not valid TOML: Cannot overwrite a value"),
    ],
)
def test_a_mistake_in_the_file_is_named(file: Path, text: str, message: str) -> None:
    assert any(message in line for line in mistakes(file, text))


def test_every_mistake_is_told_at_once_and_none_twice(file: Path) -> None:
    text = "questoin = 'x'\ncritic = { widht = 3 }\n" + ARMS + "actor = { width = 0.5 }"
    assert mistakes(file, text) == [
        "questoin: unknown setting. Did you mean 'question'?",
        "critic.widht: unknown setting. Did you mean 'width'?",
        "arm.sparse.actor.width: must be a whole number, not 0.5",
        "question: must be given",
        "tasks: must be given",
        "env_steps: must be given",
        "seeds: must be given",
    ]


def test_a_mistyped_agent_hides_no_other_mistake(file: Path) -> None:
    text = (
        HEADER + "agent = 'sca'\n[arm.a]\ncritic = { widht = 3 }\n[arm.b]\nagent = 'dpg'\ntau = 'x'"
    )
    assert mistakes(file, text) == [
        "agent: unknown agent 'sca'. Did you mean 'sac'?",
        "arm.b.agent: unknown agent 'dpg'. Did you mean 'ddpg'?",
        "arm.a.critic.widht: unknown setting. Did you mean 'width'?",
        "arm.b.tau: must be a number, not 'x'",
    ]
    assert "agent: unknown agent ['sac']" in mistakes(file, HEADER + "agent = ['sac']\n[arm.a]")[0]


def test_a_file_in_another_encoding_says_which_is_wanted(file: Path) -> None:
    file.write_bytes((HEADER + ARMS).encode("utf-16"))
    with pytest.raises(RecordError, match="is not in UTF-8; save it in that encoding"):
        load_study(file)


def test_a_missing_file_is_no_mistake_of_its_content(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_study(tmp_path / "no.toml")
