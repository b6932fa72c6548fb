"""A deployed controller has numpy and nothing else."""

import subprocess
import sys
from pathlib import Path

import kanbatsu.rollout

MODULES = sorted(
    f"kanbatsu.rollout.{path.stem}" for path in Path(kanbatsu.rollout.__file__).parent.glob("*.py")
)
LEAVES_OUT = ("metrics", "drift", "page")
"""Files that need an extra's library; the rest runs wherever numpy does."""


def test_the_room_runs_without_jax():
    names = [name for name in MODULES if name.rpartition(".")[2] not in LEAVES_OUT]
    assert "kanbatsu.rollout.guard" in names
    program = (
        f"import sys; sys.modules |= dict.fromkeys({['jax', 'jaxlib', 'equinox', 'scipy']})\n"
        f"import {', '.join(names)}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
