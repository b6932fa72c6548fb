"""Residual: the action is the incumbent's plus a bounded correction of the candidate's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanbatsu.envs.correction import corrected
from kanbatsu.rollout.config import RolloutError
from kanbatsu.rollout.limits import Finding
from kanbatsu.rollout.policy.ask import Answer, Asked


class Once:
    """An incumbent that is asked at most once per step, whoever wants to know its action.

    An incumbent that remembers (a PID, say) would otherwise step twice where it is the base of a
    correction and then the fallback.

    Args:
        policy: function of an observation.

    Example:
        >>> calls = []
        >>> once = Once(lambda obs: calls.append(obs) or 0.5)
        >>> once.new_step("an observation")
        >>> once("an observation"), once("an observation"), calls
        (0.5, 0.5, ['an observation'])
    """

    def __init__(self, policy: Callable[[Any], Any]) -> None:
        self._policy = policy
        self._observation: Any = None
        self._action: Any = None
        self._error: Exception | None = None
        self.asked = True
        """True once it was asked at this step."""

    def reset(self) -> None:
        """Tell the incumbent that an episode begins, where it has a method for that."""
        if hasattr(self._policy, "reset"):
            self._policy.reset()

    def new_step(self, observation: Any) -> None:
        """Begin a step."""
        self._observation, self.asked = observation, False

    def __call__(self, observation: Any = None) -> Any:
        """Return its action at this step, or raise what it raised."""
        if not self.asked:
            self.asked, self._error = True, None
            try:
                self._action = self._policy(self._observation)
            except Exception as error:
                self._error = error
        if self._error is not None:
            raise self._error
        return self._action


class Add:
    """Sum of an incumbent's action and a correction, as in training: bounded, and then clipped.

    Args:
        correction: largest correction of each entry of an action, `[action_dim]`.
        low: lowest value of each actuator.
        high: highest value of each actuator.

    Example:
        >>> Add((0.1,), (0.0,), (1.0,))(np.array([0.05]), np.array([-0.3])).tolist()
        [0.0]
    """

    def __init__(
        self, correction: tuple[float, ...], low: tuple[float, ...], high: tuple[float, ...]
    ) -> None:
        self._bound, self._low, self._high = map(np.array, (correction, low, high))
        self.shape = self._bound.shape
        """Shape of an action."""

    def __call__(self, base: np.ndarray, correction: np.ndarray) -> np.ndarray:
        """Return the sum, float64 `[action_dim]`."""
        return corrected(base, correction, self._bound, self._low, self._high)


class Residual:
    """A candidate whose answer is a correction: bounded, and added to the incumbent's action.

    Without a usable action of the incumbent there is nothing to correct: that counts as `raised`.

    Args:
        candidate: what answers with the correction.
        incumbent: what is corrected.
        add: sum of an action and a correction.
    """

    def __init__(self, candidate: Asked, incumbent: Once, add: Add) -> None:
        self._candidate, self._incumbent, self._add = candidate, incumbent, add

    def ask(self, obs: np.ndarray, deadline_s: float) -> Answer:
        """Ask both, and add."""
        try:
            base = np.asarray(self._incumbent(), np.float64)
        except Exception as error:
            why = f"no incumbent to correct: {type(error).__name__}: {error}"
            return Answer(None, None, Finding("raised", why))
        answer = self._candidate.ask(obs, deadline_s)
        if answer.action is None:
            return answer
        try:
            correction = np.asarray(answer.action, np.float64)
        except (TypeError, ValueError):
            return answer  # the guard says what is wrong with it
        if correction.shape != self._add.shape or base.shape != self._add.shape:
            shapes = f"correction {list(correction.shape)}, incumbent {list(base.shape)}"
            return Answer(None, None, Finding("action_shape", shapes))
        return answer._replace(action=self._add(base, correction))

    def renew(self) -> None:
        """Renew the candidate."""
        self._candidate.renew()

    def close(self) -> None:
        """Close the candidate."""
        self._candidate.close()


def trained_residual(folder: str) -> Mapping[str, Any] | None:
    """Return what a policy's folder says of the rule that it was trained to correct.

    Args:
        folder: of an exported policy; any other name says nothing.

    Returns:
        `policy`, `share`, `correction`, and `low` and `high` of the actuators; None where the
        policy acts by itself, or nothing is known.
    """
    path = Path(folder) / "contract.json"
    if not path.exists():
        return None
    try:
        residual = json.loads(path.read_text()).get("environment", {}).get("residual")
    except (ValueError, AttributeError):  # loading the policy says what is wrong with it
        return None
    return residual if isinstance(residual, Mapping) else None


def refuse_alone(policy: str, residual: bool) -> None:
    """Refuse a policy that was trained to correct a rule, where it would act by itself.

    Args:
        policy: folder of an exported policy, or package.module:factory.
        residual: what `candidate.residual` says.

    Raises:
        RolloutError: It would.
    """
    trained = trained_residual(policy)
    if trained is not None and not residual:
        raise RolloutError(
            f"{policy} was trained to correct {trained['policy']}, and its answer is no action by "
            f"itself: set candidate.residual = true and candidate.correction = "
            f"{trained['correction']}, or begin with `kanbatsu rollout init`, which does so"
        )
