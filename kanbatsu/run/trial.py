"""A user's own task, tried in a process of its own before this one builds it.

What ends its process at once (`os._exit`, `os.abort`, a crash in compiled code) cannot be caught
where it happens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from kanbatsu.envs.make import make
from kanbatsu.envs.residual import ResidualConfig, correct
from kanbatsu.envs.spec import Environment, TaskError
from kanbatsu.envs.timed import add_time

ALIVE = 77
"""Exit code of a trial that came to its own end."""


def build(
    task: str,
    action_repeat: int | None,
    discrete: bool,
    images: bool,
    timed: bool,
    residual: ResidualConfig | None = None,
    *,
    drawn: bool = False,
) -> Environment:
    """Build a task's environment as an agent wants it.

    A rule that the agent corrects is shown the task's own observation, without the time.

    Raises:
        TaskError: The task does not exist, or the agent cannot use it.
    """
    environment = make(task, action_repeat, discrete=discrete, images=images, drawn=drawn)
    if residual is not None:
        environment = correct(environment, residual, task)
    return add_time(environment) if timed else environment


def try_apart(task: str, wishes: Sequence[Any]) -> None:
    """Build a user's own task, or own rule, and take one step in it, in another process.

    Whatever it raises there is left for this process to meet, and to name.

    Args:
        task: Name of a task; of other kinds than `package.module:factory` nothing is tried.
        wishes: Arguments of `build` after the task.

    Raises:
        TaskError: The process was ended.
    """
    *others, residual = wishes
    policy = "" if residual is None else residual.policy
    own = [name for name in (task, policy) if ":" in name and not name.startswith("kanbatsu.")]
    if not own:
        return
    corrects = None if residual is None else [residual.policy, residual.share]
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "kanbatsu.run.trial", json.dumps([task, *others, corrects])],
        env={"JAX_PLATFORMS": "cpu", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if ended.returncode == ALIVE:
        return
    words = (ended.stdout + ended.stderr).decode(errors="replace").strip().splitlines()[-1:]
    raise TaskError(
        f"{' with '.join(own)} ends the process in which it is built and takes a first step (exit "
        f"code {ended.returncode}), before anything is trained: let its code raise an error in "
        f"place of os._exit or os.abort. It printed last: {''.join(words) or 'nothing'}"
    )


def main() -> None:
    """Try the task that the first argument names."""
    try:
        settings: list[Any] = json.loads(sys.argv[1])
        if settings[-1] is not None:
            settings[-1] = ResidualConfig(*settings[-1])
        environment = build(*settings)
        environment.reset(0)
        environment.step(np.zeros(environment.spec.action_dim))
    finally:  # an error is raised again where somebody can be told
        os._exit(ALIVE)


if __name__ == "__main__":
    main()
