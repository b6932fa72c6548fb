"""The doctor: what is broken is told with what to do, and what is merely absent is no fault."""

import re
import subprocess
from typing import Any

import pytest

from kanbatsu import doctor
from kanbatsu.doctor import Fact, environment_fact, healthy, package_facts, pair_fact, renderer_fact


def test_an_installation_with_the_extra_is_healthy() -> None:
    facts = doctor.examine()
    assert healthy(facts)
    states = {(fact.section, fact.name): fact.state for fact in facts}
    assert states["environments", "gym/Pendulum-v1"] == "good"
    assert states["environments", "dmc/cartpole-balance"] == "good"
    assert states["pairs", "dmc/ tasks"] == "good"
    assert {section for section, _ in states} == {
        "versions",
        "pairs",
        "machine",
        "kernels",
        "environments",
    }
    renderer = next(fact for fact in facts if fact.name == "dmc-pixels/ tasks")
    drawn = re.search(r": [0-9]+ frames per second at 84 x 84, [0-9]+ plain$", renderer.value)
    assert (renderer.state == "good") == (drawn is not None)
    (devices,) = [fact.value for fact in facts if fact.name == "devices"]
    assert "cpu" in devices


@pytest.mark.parametrize(
    ("installed", "state", "says"),
    [
        ({"dm_control": "1.0.43", "mujoco": "3.10.0"}, "good", ""),
        ({}, "absent", "pip install 'kanbatsu[dmc]'"),
        ({"mujoco": "4.0.0"}, "absent", "pip install 'kanbatsu[dmc]'"),
        ({"dm_control": "1.0.43", "mujoco": "4.0.0"}, "broken", "takes mujoco 4"),
        ({"dm_control": "1.0.44", "mujoco": "3.10.0"}, "broken", "pip install 'kanbatsu[dmc]'"),
        ({"dm_control": "1.0.43"}, "broken", "dm_control 1.0.43 and mujoco 3.10.0 are known"),
    ],
)
def test_dm_control_and_mujoco_must_match(installed: dict[str, str], state: str, says: str) -> None:
    fact = pair_fact(installed)
    assert fact.state == state
    assert says in fact.advice
    assert healthy([fact]) == (state != "broken")


def test_a_missing_package_is_broken() -> None:
    facts = {fact.name: fact for fact in package_facts({"jax": "1.0"})}
    assert (facts["jax"].value, facts["jax"].state) == ("1.0", "good")
    assert (facts["optax"].value, facts["optax"].state) == ("not installed", "broken")
    assert "pip install 'kanbatsu[jax]'" in facts["optax"].advice
    assert facts["numpy"].state == "broken"
    assert "pip install kanbatsu" in facts["numpy"].advice
    without_jax = {fact.name: fact for fact in package_facts({})}
    assert without_jax["optax"].state == "absent"


def test_an_environment_that_does_not_load_is_told_in_one_line() -> None:
    fact = environment_fact("gym/Pendulm-v1")
    assert fact.state == "broken"
    assert "Unknown task 'gym/Pendulm-v1'" in fact.value
    assert len(fact.value.splitlines()) == 1


def test_an_environment_that_crashes_does_not_take_the_doctor_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*arguments: Any, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], -11, stdout="", stderr="")

    monkeypatch.setattr(subprocess, "run", crash)
    assert environment_fact("gym/Pendulum-v1") == Fact(
        "environments", "gym/Pendulum-v1", "exit code -11", "broken"
    )


def test_the_renderer_is_named_with_its_speed_or_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    fact = renderer_fact()
    assert fact.state == "absent"  # nothing else needs one
    assert (
        fact.value == "MUJOCO_GL=glfw draws nothing without a display: set it to egl or osmesa, "
        "or unset it"
    )
    assert "apt-get install libegl1" in fact.advice
    monkeypatch.setattr(doctor, "versions", lambda packages: {})
    assert renderer_fact().value == "dm_control not installed"


def test_an_extra_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "versions", lambda packages: {})
    assert environment_fact("dmc/no-such", needed=False).state == "absent"
    assert environment_fact("gym/no-such", needed=True).state == "broken"
