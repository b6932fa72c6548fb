"""Residual: the action is the incumbent's plus a bounded correction of the candidate's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kanbatsu.envs.correction import corrected
from kanbatsu.rollout.ask import Answer, Asked
from kanbatsu.rollout.limits import Finding


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


class Residual:
    """A candidate whose answer is a correction: bounded, and added to the incumbent's action.

    Without a usable action of the incumbent there is nothing to correct: that counts as `raised`.

    Args:
        candidate: what answers with the correction.
        incumbent: what is corrected.
        bound: largest correction of each entry of an action, `[action_dim]`.
    """

    def __init__(self, candidate: Asked, incumbent: Once, bound: tuple[float, ...]) -> None:
        self._candidate, self._incumbent, self._bound = candidate, incumbent, np.array(bound)

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
        if correction.shape != self._bound.shape or base.shape != self._bound.shape:
            shapes = f"correction {list(correction.shape)}, incumbent {list(base.shape)}"
            return Answer(None, None, Finding("action_shape", shapes))
        return answer._replace(action=corrected(base, correction, self._bound))

    def renew(self) -> None:
        """Renew the candidate."""
        self._candidate.renew()

    def close(self) -> None:
        """Close the candidate."""
        self._candidate.close()
