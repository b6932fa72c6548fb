"""What the page on extending shows: each diff applies, is as small as it says, and works."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DIFFS = ROOT / "docs" / "extending"

PROGRAMS = {
    "agent": """
import jax, jax.numpy as jnp
from kanbatsu.agents import AGENTS
from kanbatsu.agents.schedule import TrainConfig
from kanbatsu.nn.config import CriticConfig, NetworkConfig
from kanbatsu.envs.classic import Pendulum
from kanbatsu.train.scan import make_train
entry = AGENTS["sac_fixed"]
thin = CriticConfig(width=8, blocks=1, sparsity=0.5)
config = entry.config(NetworkConfig(width=8, blocks=1), thin)
schedule = entry.schedule(batch_size=4, warmup_interactions=4)
agent = entry.agent(Pendulum.spec, config)
state, curve = make_train(agent, Pendulum(), 8, 1, schedule)(jax.random.key(0))
assert jnp.isfinite(curve.metrics["critic_loss"]).all()
assert jnp.allclose(jnp.exp(state.log_temperature), config.temperature)
""",
    "probe": """
import jax.numpy as jnp
from kanbatsu.probes.health import network_health
x = jnp.diag(jnp.array([90.0, 5.0, 4.0, 1.0]))
assert float(network_health(x, x, x, {"hidden": x})["silent"]) == 0.75
""",
    "adapter": """
import doctest
import kanbatsu.integrations.haiku as adapter
assert doctest.testmod(adapter).failed == 0
""",
}

ISOLATED = """
import os, sys
sys.meta_path[:] = [each for each in sys.meta_path if "kanbatsu" not in type(each).__module__]
sys.path.insert(0, os.getcwd())
"""
"""Makes a process import the package of the folder that it stands in, not the one installed."""


def touched(name):
    return re.findall(r"^\+\+\+ b/(\S+)$", (DIFFS / f"{name}.diff").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_diff_applies_and_what_it_adds_works(name, tmp_path):
    for folder in ("kanbatsu", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    command = ["git", "apply", str(DIFFS / f"{name}.diff")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ISOLATED + PROGRAMS[name],
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_additions_are_as_small_as_the_page_says():
    assert len(touched("agent")) == 3
    assert len(touched("probe")) == 3
    assert all(path.startswith("kanbatsu/integrations/haiku/") for path in touched("adapter"))
