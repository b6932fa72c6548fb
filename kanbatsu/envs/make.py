"""From the name of a task to an environment; simulators are imported only when they are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import gymnasium

from kanbatsu.envs import dmc, four_tank, gym, inventory, pixels
from kanbatsu.envs.functional import FunctionalEnvironment, HostedEnvironment
from kanbatsu.envs.own import OwnEnvironment, Premises, call_factory
from kanbatsu.envs.spec import (
    Environment,
    TaskError,
    refuse_actions,
    refuse_images,
    refuse_own_code,
    unknown_task,
)

FUNCTIONAL = ("jax/", "gymnax/", "brax/", "playground/")
"""Prefixes of the names of tasks that are pure JAX functions."""


def make(
    task: str,
    action_repeat: int | None = None,
    *,
    discrete: bool = False,
    images: bool = False,
    drawn: bool = False,
) -> Environment:
    """Build the environment that a task names.

    Args:
        task: `dmc/<domain>-<task>`, `dmc-pixels/<domain>-<task>`, `gym/<id>`, `jax/<name>`,
            `gymnax/<name>`, `brax/<name>`, `playground/<Name>`, `inventory/<name>`,
            `plant/<name>`, or `package.module:factory`, where `factory()` returns a Gymnasium
            environment or a kanbatsu `Environment`. The module is looked for in the current folder
            too.
        action_repeat: env steps per interaction; None is the task's own: 2 for `dmc/` and
            `dmc-pixels/`, 1 for Gymnasium, and what a kanbatsu `Environment` says itself.
        discrete: the agent chooses among a few actions; it gives them one-hot.
        images: the agent sees images as they are. Tasks of gymnax that have images show others
            vectors; a task that shows nothing else is refused.
        drawn: pictures are made of a task of Gymnasium, which wants to know that beforehand.

    Returns:
        The environment; the caller closes it.

    Raises:
        TaskError: the task does not exist, cannot be loaded, or cannot be trained on.
        ValueError: `action_repeat` is not positive.

    Example:
        >>> make("gym/Pendulum-v1").spec
        Spec(obs_shape=(3,), action_dim=1, episode_length=200)
        >>> make("gym/Pendulum-v1", action_repeat=4).spec.episode_length
        50
    """
    if action_repeat is not None and action_repeat < 1:
        raise ValueError(f"action_repeat must be at least 1, not {action_repeat}")
    premises = Premises(task)
    made = _build(task, action_repeat, premises, images, drawn)
    own = task.startswith("gym/") or ":" in task
    if isinstance(made, gymnasium.Env):
        made = gym.GymEnvironment(made, task, action_repeat or 1, discrete=discrete)
    if action_repeat not in (None, made.action_repeat):
        steps = "1 env step" if made.action_repeat == 1 else f"{made.action_repeat} env steps"
        raise TaskError(
            f"{task} takes {steps} per interaction by itself: leave action_repeat unset instead of "
            f"{action_repeat}."
        )
    if made.spec.discrete != discrete:
        raise refuse_actions(task, made.spec.discrete)
    if len(made.spec.obs_shape) > 1 and not images:
        raise refuse_images(task)
    if not own or isinstance(made, HostedEnvironment):
        return made
    return OwnEnvironment(made, premises)


def _build(
    task: str, action_repeat: int | None, premises: Premises, images: bool, drawn: bool
) -> Environment | gymnasium.Env:
    """Build what a task names, as it is."""
    if ":" in task:
        refuse_own_code(task)
    if task.startswith("dmc/"):
        return dmc.DMCEnvironment(task, action_repeat or dmc.ACTION_REPEAT)
    if task.startswith(pixels.PREFIX):
        if not images:  # before anything is drawn
            raise refuse_images(task)
        return pixels.PixelEnvironment(task, action_repeat or dmc.ACTION_REPEAT)
    if task.startswith("gym/"):
        with premises.entered():
            return gym.load(task, drawn=drawn)
    if task.startswith(FUNCTIONAL):
        return HostedEnvironment(load_functional(task, images=images))
    if task.startswith("inventory/"):
        return inventory.load(task)
    if task.startswith("plant/"):
        return four_tank.load(task)
    if ":" in task.strip(":"):
        return call_factory(task, premises)
    known = [*gym.tasks(), *inventory.CHAINS, *four_tank.TASKS]
    # A missing dm_control must not hide that the name was wrong.
    with contextlib.suppress(TaskError):
        known += dmc.tasks()
    raise unknown_task(task, known)


def load_functional(task: str, *, images: bool = False) -> FunctionalEnvironment:
    """Build the functional environment of `jax/`, `gymnax/`, `brax/` or `playground/` with a name.

    Raises:
        TaskError: no such name, or the library is missing.

    Example:
        >>> load_functional("jax/cartpole").spec
        Spec(obs_shape=(4,), action_dim=2, episode_length=500)
    """
    if not task.startswith("jax/"):
        from kanbatsu.envs import library

        return library.load(task, images=images)
    from kanbatsu.envs.classic import CartPole, Pendulum
    from kanbatsu.envs.dispatch import Dispatch

    makers: dict[str, Callable[[], FunctionalEnvironment]] = {
        "jax/cartpole": CartPole,
        "jax/pendulum": Pendulum,
        "jax/dispatch": Dispatch,
    }
    if task not in makers:
        raise unknown_task(task, makers)
    return makers[task]()
