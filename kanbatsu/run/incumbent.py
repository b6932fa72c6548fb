"""The rule that is in use today, held against the agents: the same episodes, no training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Array, Float32, Num

from kanbatsu.envs.functional import functional_of
from kanbatsu.envs.incumbent import Incumbent, load_incumbent
from kanbatsu.envs.own import Premises
from kanbatsu.envs.residual import unscale
from kanbatsu.envs.spec import Environment, TaskError
from kanbatsu.files.store import RunFolder
from kanbatsu.run.measures import MeasuredEnvironment
from kanbatsu.run.signature import find_function
from kanbatsu.run.trial import build
from kanbatsu.train.evaluate import Evaluation, evaluate
from kanbatsu.types import Spec

EVALUATION = 0xE7A1
"""Mixed into the seeds of evaluation episodes, apart from all others."""

CONTRACT = "contract.json"
"""File in the folder of every exported policy."""


@dataclass(frozen=True)
class IncumbentConfig:
    """Rule that is in use today, which is evaluated as agents are."""

    policy: str
    """Rule, as `package.module:factory`, or the folder of a policy that was exported."""
    discrete: bool = False
    """True where the agents that it is compared with choose among a few actions."""


@dataclass(frozen=True)
class IncumbentSchedule:
    """Evaluations of a rule: at the moments and in the number that the control has them."""

    evaluation_episodes: int = 10
    """Episodes of each of its two evaluations."""
    action_repeat: int | None = None
    """Env steps per interaction; the task's own by default."""
    environments: int = 1
    """Simulators of the control, whose last evaluation is at a whole number of their steps."""

    updates_per_interaction: ClassVar[int] = 0
    batch_size: ClassVar[int] = 0
    replay_capacity: ClassVar[int] = 0
    evaluate_every: ClassVar[int] = 1
    probe_every: ClassVar[int] = 1
    probe_batch: ClassVar[int] = 0
    log_every: ClassVar[int] = 1
    checkpoint_every: ClassVar[int] = 0
    probes: ClassVar[tuple[str, ...]] = ()
    acts_apart: ClassVar[bool] = False

    def counts(self, turns: int) -> tuple[int, int]:
        """Return the interactions and updates after so many turns: no rule is updated."""
        return turns, 0


def load_policy(name: str) -> Incumbent:
    """Load a rule, or a policy that was exported.

    Args:
        name: `package.module:factory`, or a folder that `kanbatsu export` wrote.

    Raises:
        TaskError: It cannot be had.
    """
    if not (Path(name) / CONTRACT).exists():
        return load_incumbent(name)
    load = find_function("kanbatsu.deploy.policy:load")  # by its name: it stands on this room
    try:
        return Incumbent(name, load(name), Premises(name))
    except ValueError as error:
        raise TaskError(f"{name} cannot be loaded as a policy: {error}") from error


def evaluation_seed(seed: int, env_steps: int) -> int:
    """Return the seed of the evaluation of a run at a moment of its training."""
    return int(np.random.SeedSequence([seed, env_steps, EVALUATION]).generate_state(1)[0])


def to_unit(name: str, answer: Any, spec: Spec) -> Float32[np.ndarray, " action_dim"]:
    """Bring the action of a rule from the actuators' units to what an environment takes.

    Args:
        name: Name of the rule, for messages.
        answer: Action in the actuators' units; the number of an action where there are few.
        spec: Of the environment.

    Raises:
        TaskError: It is no action of the task.

    Example:
        >>> to_unit("rule", 1, Spec((3,), 2, None, discrete=True)).tolist()
        [0.0, 1.0]
        >>> to_unit("rule", [5.0], Spec((3,), 1, None, low=(0.0,), high=(10.0,))).tolist()
        [0.0]
    """
    values = np.asarray(answer, np.float64)
    if spec.discrete:
        choice = values.reshape(-1)
        if choice.size == 1 and choice[0] in range(spec.action_dim):
            return np.eye(spec.action_dim, dtype=np.float32)[int(choice[0])]
    elif values.size == spec.action_dim and np.isfinite(values).all():
        values = values.reshape(spec.action_dim)
        if spec.low is None or spec.high is None:
            return values.astype(np.float32)
        return unscale(values, np.array(spec.low), np.array(spec.high)).astype(np.float32)
    wanted = (
        f"a whole number below {spec.action_dim}"
        if spec.discrete
        else f"{spec.action_dim} finite numbers"
    )
    raise TaskError(f"{name} answered {values.tolist()}, and an action of this task is {wanted}")


class _Told:
    """An environment that tells a rule when an episode begins."""

    def __init__(self, environment: Environment, policy: Incumbent) -> None:
        self._environment, self._policy = environment, policy
        self.spec, self.action_repeat = environment.spec, environment.action_repeat
        self.step, self.close = environment.step, environment.close

    def reset(self, seed: int) -> Num[np.ndarray, "*obs"]:
        """Start an episode, for the rule too."""
        self._policy.reset()
        return self._environment.reset(seed)


def evaluate_policy(
    load: Callable[[], Incumbent], environment: Environment, *, seed: int, episodes: int
) -> Evaluation:
    """Play the episodes that an agent plays in its evaluation with the same seed.

    Args:
        load: Loads the rule, a new one at every call.
        environment: One that nothing else touches.
        seed: Decides the episodes.
        episodes: Number of episodes.

    Raises:
        TaskError: The rule fails, or its answer is no action of the task.
        EnvironmentFault: The environment returns something unusable.
    """
    spec, functional = environment.spec, functional_of(environment)
    rules = [load() for _ in range(episodes if functional is not None else 1)]

    def answer(obs: Any) -> Float32[np.ndarray, "n action_dim"]:
        pairs = zip(rules, np.asarray(obs), strict=True)
        return np.stack([to_unit(rule.name, rule(each), spec) for rule, each in pairs])

    def act(_: Any, obs: Num[Array, "n *obs"]) -> Float32[Array, "n action_dim"]:
        shape = jax.ShapeDtypeStruct((len(obs), spec.action_dim), np.float32)
        acted: Array = jax.pure_callback(answer, shape, obs)
        return acted

    if functional is None:
        told: Any = _Told(environment, rules[0])
        return evaluate(
            lambda _, obs: answer(obs),  # type: ignore[arg-type, return-value]
            None,
            told,
            seed=seed,
            episodes=episodes,
        )
    for rule in rules:
        rule.reset()
    return evaluate(act, None, environment, seed=seed, episodes=episodes)


def arena(task: str, config: IncumbentConfig, train: IncumbentSchedule) -> Environment:
    """Build the environment of a rule.

    Raises:
        TaskError: It cannot be had.
    """
    return build(task, train.action_repeat, config.discrete, False, False)


def check_incumbent(task: str, config: IncumbentConfig, train: IncumbentSchedule) -> None:
    """Let a rule take one step, before anything is trained.

    Raises:
        TaskError: The rule or the task cannot be had, or they do not fit.
    """
    environment, rule = arena(task, config, train), load_policy(config.policy)
    try:
        rule.reset()
        environment.step(to_unit(rule.name, rule(environment.reset(0)), environment.spec))
    finally:
        environment.close()


def carry_incumbent(run: Any, files: RunFolder, on_progress: Callable[[int], None]) -> None:
    """Evaluate a rule at the beginning and at the end of a run, as an agent is evaluated there.

    Args:
        run: `kanbatsu.run.record.Run` with an `IncumbentConfig`.
        files: Folder of the run, in which nothing else is kept.
        on_progress: Called with the env steps done.
    """
    files.truncate(dict.fromkeys(files.sizes(), 0))
    environment = arena(run.task, run.config, run.train)
    measured = MeasuredEnvironment(environment, run.measures) if run.measures else None
    stride = environment.action_repeat * run.train.environments
    began = time.perf_counter()
    for env_steps in (0, math.ceil(run.env_steps / stride) * stride):
        result = evaluate_policy(
            lambda: load_policy(run.config.policy),
            environment if measured is None else measured,
            seed=evaluation_seed(run.seed, env_steps),
            episodes=run.train.evaluation_episodes,
        )
        files.append(
            {
                "kind": "evaluation",
                "env_steps": env_steps,
                "returns": result.returns,
                "mean_return": float(np.mean(result.returns)),
                "lengths": result.lengths,
                "success_rate": result.success_rate,
            }
            | ({} if measured is None else {"measures": measured.take(len(result.returns))})
        )
        seconds = time.perf_counter() - began
        files.append_timing({"env_steps": env_steps, "seconds": seconds})
        on_progress(env_steps)
    environment.close()
