"""How a policy in this process is asked: by the control loop, or by a thread it waits for."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from kanbatsu.rollout.limits import Finding


class Answer(NamedTuple):
    """Outcome of asking a policy once."""

    action: Any
    """Answer of the policy, unchecked; None where it gave none."""
    latency_us: float | None
    """Microseconds that it computed; None where it gave no answer."""
    finding: Finding | None
    """Trigger `deadline` or `raised`, where it was late or failed."""


@runtime_checkable
class Asked(Protocol):
    """A policy that answers by a deadline, or is said not to have."""

    def ask(self, obs: np.ndarray, deadline_s: float) -> Answer:
        """Ask for the action of an observation, and wait no longer than `deadline_s`."""
        ...

    def renew(self) -> None:
        """Replace what hangs or has ended; called between episodes, where time is not short."""
        ...

    def close(self) -> None:
        """Let go of threads and processes."""
        ...


class Inline:
    """A policy that the control loop calls itself: quickest, and its lateness is seen afterwards.

    An answer that comes after the deadline is given with the finding: it is there, and newer than
    anything to fall back on. A policy that hangs, hangs the loop.

    Args:
        policy: function of an observation.

    Example:
        >>> Inline(lambda obs: 2 * obs).ask(np.ones(1, np.float32), deadline_s=1.0).action
        array([2.], dtype=float32)
    """

    def __init__(self, policy: Callable[[Any], Any]) -> None:
        self._policy = policy

    def ask(self, obs: np.ndarray, deadline_s: float) -> Answer:
        """Call the policy."""
        action, seconds, error = _timed(self._policy, obs)
        if error is None and seconds > deadline_s:
            return Answer(action, 1e6 * seconds, late(deadline_s, seconds))
        return _answer(action, seconds, error)

    def renew(self) -> None:
        """Do nothing: there is nothing beside the policy."""

    def close(self) -> None:
        """Do nothing: there is nothing beside the policy."""


class Threaded:
    """A policy in a thread of its own; the control loop waits for it until the deadline.

    It returns in time where the policy is slow Python (then within `sys.getswitchinterval()` of the
    deadline) or compiled code that lets other threads run, as an exported policy's kernels, numpy's
    large products and waiting for input do. It does not where compiled code keeps Python's lock,
    nor does the loop survive a crash: both need a process of its own
    (`kanbatsu.rollout.policy.remote.Remote`).

    Args:
        policy: function of an observation.
        restarts: how many threads that hang are left behind before none is started any more.

    Example:
        >>> asked = Threaded(lambda obs: time.sleep(0.2))
        >>> asked.ask(np.ones(1, np.float32), deadline_s=0.01).finding
        Finding(trigger='deadline', detail='no answer within 10 ms')
        >>> asked.close()
    """

    def __init__(self, policy: Callable[[Any], Any], restarts: int = 3) -> None:
        self._policy, self._restarts = policy, restarts
        self._asked = self._answered = 0
        self._start()

    def ask(self, obs: np.ndarray, deadline_s: float) -> Answer:
        """Hand the observation to the thread and wait for its answer."""
        if self._answered < self._asked:
            with contextlib.suppress(queue.Empty):
                self._answered = self._answers.get_nowait()[0]
            if self._answered < self._asked:
                return Answer(None, None, busy())
        self._asked += 1
        # The caller may write its next observation into the same array while a slow policy reads.
        self._questions.put((self._asked, obs.copy()))
        try:
            self._answered, *outcome = self._answers.get(timeout=deadline_s)
        except queue.Empty:
            return Answer(None, None, late(deadline_s))
        return _answer(*outcome)

    def renew(self) -> None:
        """Leave a thread that hangs to itself, and start another."""
        if self._asked > self._answered and self._answers.empty() and self._restarts > 0:
            self._restarts -= 1
            self.close()
            self._start()

    def close(self) -> None:
        """Let the thread end, once it has answered what it was asked."""
        self._questions.put(None)

    def _start(self) -> None:
        self._asked = self._answered = 0
        self._questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        queues = (self._questions, self._answers)
        threading.Thread(
            target=_work, args=(self._policy, *queues), daemon=True, name="kanbatsu-policy"
        ).start()


def late(deadline_s: float, seconds: float | None = None) -> Finding:
    """Return the finding of an answer that came late, or never."""
    came = "no answer" if seconds is None else f"an answer after {1e3 * seconds:.3g} ms, not"
    return Finding("deadline", f"{came} within {1e3 * deadline_s:g} ms")


def busy() -> Finding:
    """Return the finding of a policy that still works on an earlier observation."""
    return Finding("deadline", "still busy with an earlier observation")


def _work(
    policy: Callable[[Any], Any],
    questions: queue.SimpleQueue[Any],
    answers: queue.SimpleQueue[Any],
) -> None:
    while (question := questions.get()) is not None:
        number, obs = question
        answers.put((number, *_timed(policy, obs)))


def _timed(policy: Callable[[Any], Any], obs: np.ndarray) -> tuple[Any, float, str | None]:
    """Call a policy; return its answer, the seconds it took, and its error."""
    began = time.perf_counter()
    try:
        action = policy(obs)
    except (Exception, SystemExit) as error:
        return None, time.perf_counter() - began, f"{type(error).__name__}: {error}"
    return action, time.perf_counter() - began, None


def _answer(action: Any, seconds: float, error: str | None) -> Answer:
    if error is not None:
        return Answer(None, None, Finding("raised", error))
    return Answer(action, 1e6 * seconds, None)
