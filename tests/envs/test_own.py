"""Environments of users: what their code may do to the process, and what they are told of it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.envs.make import make
from kanbatsu.envs.own import SimulatorExit
from kanbatsu.envs.spec import TaskError
from kanbatsu.envs.vector import EnvironmentFault, VectorEnvironment

PLANT = """
import os, sys
import gymnasium, numpy as np

{module}

class Plant(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        {reset}
        return np.zeros(2, np.float32), {{}}

    def step(self, action):
        {step}
        return np.zeros(2, np.float32), 0.0, False, False, {{}}

def make():
    {factory}
    return Plant()
"""
PLACES = ("module", "factory", "reset", "step")


@pytest.fixture
def plant(tmp_path, monkeypatch, request):
    """A function that writes a module with code in one place, and names its task."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(name="", text=PLANT, **code):
        name = name or f"plant_{abs(hash(request.node.name))}"
        Path(f"{name}.py").write_text(text.format(**dict.fromkeys(PLACES, "pass") | code))
        return f"{name}:make"

    return write


@pytest.mark.parametrize("place", PLACES)
def test_a_simulator_may_change_the_folder_for_itself_alone(place, plant):
    Path("assets").mkdir()
    home = Path.cwd()
    code = {place: "os.chdir('assets') if os.path.isdir('assets') else None"}
    if place != "step":  # from then on it finds its own files where it went
        code["step"] = "assert os.path.basename(os.getcwd()) == 'assets'"
    environment = make(plant(**code))
    assert Path.cwd() == home
    for _ in range(2):
        environment.reset(0)
        assert Path.cwd() == home
        environment.step(np.zeros(1))
        assert Path.cwd() == home
    environment.close()


@pytest.mark.parametrize("code", [0, 3, "None", "'no licence'"])
@pytest.mark.parametrize("place", PLACES)
def test_a_simulator_that_ends_the_process_is_named(place, code, plant):
    task = plant(**{place: f"sys.exit({code})"})
    says = rf"{task} called sys.exit\({code}\) \(.*plant_.*py, line \d+\)"
    if place in ("module", "factory"):
        with pytest.raises(TaskError, match=says):
            make(task)
        return
    environment = VectorEnvironment([make(task)], seed=0)
    with pytest.raises(EnvironmentFault, match=rf"crashed in {place}: SimulatorExit.*{says}"):
        live(environment)


def test_the_exit_of_a_simulator_is_an_error_that_can_be_caught():
    assert issubclass(SimulatorExit, Exception)


@pytest.mark.parametrize("place", ["module", "factory"])
def test_an_error_of_the_users_code_is_told_with_its_line(place, plant):
    with pytest.raises(TaskError, match=r"ZeroDivisionError: .* \(.*plant_.*py, line \d+\)"):
        make(plant(**{place: "1 / 0"}))


@pytest.mark.parametrize("name", ["queue", "calendar", "jinja2"])
def test_a_module_that_another_hides_is_named_with_both_files(name, plant):
    own, taken = Path(f"{name}.py").resolve(), __import__(name).__file__
    with pytest.raises(TaskError) as refused:
        make(plant(name))
    for text in (str(own), taken, "hides it", "Give your own module another name"):
        assert text in str(refused.value)


def live(environment):
    """Begin an episode and act once."""
    if isinstance(environment, VectorEnvironment):
        environment.reset()
        return environment.step(np.zeros((1, 1), np.float32))
    environment.reset(0)
    return environment.step(np.zeros(1))


OLD = {
    "reset": {
        "returns the observation alone": "return np.zeros(2, np.float32)",
        "returns two values that are none": "return np.zeros(2, np.float32), 3",
    },
    "step": {
        "returns four values": "return np.zeros(2, np.float32), 0.0, False, {{}}",
        "returns three": "return np.zeros(2, np.float32), 0.0, False",
        "returns nothing": "return None",
    },
}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("place", "what"), [(place, what) for place, ways in OLD.items() for what in ways]
)
def test_the_old_api_is_told_what_to_return(place, what, wrapped, plant):
    limit = "return gymnasium.wrappers.TimeLimit(Plant(), 9)" if wrapped else "pass"
    environment = make(plant(factory=limit, **{place: OLD[place][what].replace("{{}}", "{}")}))
    count = {"reset": "two values", "step": "five values"}[place]
    with pytest.raises(TaskError, match=count):
        live(environment)


def test_a_reset_without_a_seed_is_told_so(plant):
    text = PLANT.replace("self, *, seed=None, options=None", "self")
    with pytest.raises(TaskError, match=r"takes no seed, .* reset\(self, \*, seed=None, options"):
        make(plant(text=text)).reset(0)


@pytest.mark.parametrize(("flag", "ends"), [("True", (False, True)), ("False", (True, False))])
def test_the_old_word_for_a_cut_off_is_understood(flag, ends, plant):
    step = f"return np.zeros(2, np.float32), 0.0, True, False, {{'TimeLimit.truncated': {flag}}}"
    environment = make(plant(step=step))
    timestep = live(environment)
    assert (timestep.terminated, timestep.truncated) == ends
