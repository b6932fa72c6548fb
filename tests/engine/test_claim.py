"""One folder, one study, one engine."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from kanbatsu.agents.sac import SACConfig
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.engine.claim import claim
from kanbatsu.files.lock import StudyError, is_owned, lock, own
from kanbatsu.files.store import StudyFolder
from kanbatsu.nn.config import CriticConfig
from kanbatsu.study.plan import Arm, Study, study_record
from kanbatsu.study.rule import DecisionRule


def record(
    widths: dict[str, int] | None = None, command: str = "", **changes: Any
) -> dict[str, Any]:
    arms = {
        name: Arm("sac", SACConfig(critic=CriticConfig(width=width)), TrainConfig())
        for name, width in (widths or {"small": 64, "large": 256}).items()
    }
    values = {"question": "?", "tasks": ("a:b",), "env_steps": 10, "seeds": (0, 1), "arms": arms}
    return study_record(Study(**(values | changes)), command)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    claim(StudyFolder(tmp_path / "out"), record())
    return StudyFolder(tmp_path / "out")


def test_the_same_study_may_continue_and_change_its_words(folder: StudyFolder) -> None:
    changed = record(command="again", question="Why?", note="x", control="small")
    claim(folder, changed)
    assert folder.read_study() == changed


@pytest.mark.parametrize(
    "grown",
    [
        {"seeds": (0, 1, 2)},
        {"tasks": ("a:b", "c:d")},
        {"widths": {"small": 64, "large": 256, "larger": 1024}},
    ],
)
def test_a_study_may_grow(folder: StudyFolder, grown: dict[str, Any]) -> None:
    claim(folder, record(**grown))
    assert folder.read_study() == record(**grown)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"env_steps": 20}, "env_steps: 10 there, 20 here"),
        ({"seeds": (0,)}, "seeds: [0, 1] there, [0] here"),
        ({"tasks": ("c:d",)}, "tasks: ['a:b'] there, ['c:d'] here"),
        ({"widths": {"small": 64}}, "arm.large: there, but not here"),
        ({"widths": {"small": 64, "huge": 256}}, "arm.huge: here, but not there"),
        (
            {"widths": {"small": 64, "large": 128}},
            "arm.large.critic.width: 256 there, 128 here",
        ),
    ],
)
def test_a_different_study_is_refused_and_changes_nothing(
    folder: StudyFolder, other: dict[str, Any], difference: str
) -> None:
    with pytest.raises(StudyError) as caught:
        claim(folder, record(**other))
    first, *differences, advice = str(caught.value).splitlines()
    assert first == f"{folder.path} holds a different study:"
    assert f"  {difference}" in differences
    assert advice.startswith("Give another --out, or delete that folder")
    assert folder.read_study() == record()


RULE = {"control": "small", "decision": DecisionRule(minimum_effect=100.0)}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"decision": DecisionRule(minimum_effect=1.0)},
            "decision.minimum_effect: 100.0 there, 1.0 here",
        ),
        ({"decision": None}, "decision.minimum_effect: 100.0 there, None here"),
        ({"control": "large"}, "control: small there, large here"),
    ],
)
def test_what_decides_is_not_changed_after_the_runs(
    tmp_path: Path, changes: dict[str, Any], difference: str
) -> None:
    folder = StudyFolder(tmp_path / "out")
    claim(folder, record(**RULE))
    claim(folder, record(**RULE, seeds=(0, 1, 2)))
    with pytest.raises(StudyError, match=re.escape(difference)):
        claim(folder, record(**(RULE | changes), seeds=(0, 1, 2)))


def test_a_rule_does_not_come_after_the_runs(folder: StudyFolder) -> None:
    with pytest.raises(StudyError, match="the rule that decides is written down before the runs"):
        claim(folder, record(**RULE))


def test_only_some_of_many_differences_are_listed(folder: StudyFolder) -> None:
    with pytest.raises(StudyError) as caught:
        claim(folder, record(widths={f"arm{number}": 8 for number in range(20)}))
    assert len(str(caught.value).splitlines()) == 11
    assert "  and 14 more" in str(caught.value)


def test_a_damaged_record_is_told(folder: StudyFolder) -> None:
    (folder.path / "study.json").write_text("{")
    with pytest.raises(
        StudyError, match=r"study\.json is not valid JSON .* restore it, or delete it"
    ):
        claim(folder, record())


def test_a_folder_is_locked_while_somebody_works_there(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    message = r"another kanbatsu \(process \d+ on .+\) is working in .+ --out"
    with lock(out), pytest.raises(StudyError, match=message), lock(out):
        pass
    with lock(out):
        pass


def test_a_run_is_waited_for_until_the_process_that_has_it_is_dead(tmp_path: Path) -> None:
    run, waited = tmp_path / "runs" / "a", list[bool]()
    assert not is_owned(run)
    script = f"""
        from kanbatsu.files.lock import own
        from pathlib import Path
        with own(Path({str(run)!r})):
            print("mine", flush=True)
            input()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mine\n"

        def on_wait() -> None:
            waited.append(is_owned(run))
            process.kill()

        with own(run, on_wait):
            assert waited
            assert all(waited)
            assert is_owned(run)
    assert not is_owned(run)
